"""The YAML grammar of a space, read into `Space` with every mistake at once, and written back.

A space is a nested mapping on the tree of `TrialConfig`. Its leaves:

    lr: {float: [1e-4, 0.1], log: true}        # or step: 0.05
    depth: {int: [1, 5]}                       # log and step as above
    batch_size: {choice: [32, 64, 128]}
    kind: {choice: {sgd: {momentum: {float: [0.8, 0.99]}}, adamw: {}}}
    nesterov: true                             # fixed: a scalar or a list of scalars

The keys below an option of a choice stand beside the chosen key, here as `optimizer.momentum` beside `optimizer.kind`.
A range or choice with `requires: model.pretrained` is searched only where the study's config has a value at that path.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from spaces.domains import Choice, Domain, Entry, Fixed, Float, Int, Space, option_text, scalar_rule
from spaces.words import RANGE_WORDS, WRAPPERS, as_written_here
from trainables.config import ConfigError, Problem
from trainables.config.hints import nearest

__all__ = ["parse_space", "read_space", "space_tree"]

KINDS = ("float", "int", "choice")
RANGE_KEYS = ("log", "step")
DEEPEST, MOST_ENTRIES = 20, 300  # far above any real space
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PATH = re.compile(rf"{NAME.pattern}(\.{NAME.pattern})*")


def parse_space(tree: object) -> Space:
    """Read a space from plain data as YAML gives it.

    Raises:
        ConfigError: with every mistake at once; paths are qualified keys.
    """
    space, problems = read_space(tree)
    if problems:
        raise ConfigError(problems)
    return space


def read_space(tree: object) -> tuple[Space, list[Problem]]:
    """What `parse_space` reads, without the entries that are wrong, and what is wrong with them."""
    problems: list[Problem] = []
    space = _read_mapping(tree, "", "", problems, 0)
    if (size := _size(space)) > MOST_ENTRIES:
        return Space(), [Problem("", f"{size} entries", f"must not hold more than {MOST_ENTRIES} entries")]
    if twice := _twice(space, {}, ""):
        return Space(), [*problems, *twice]
    return space, problems


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _read_mapping(tree: object, path: str, prefix: str, problems: list[Problem], depth: int) -> Space:
    where = prefix + path
    if not isinstance(tree, Mapping):
        problems.append(Problem(where, tree, "must be a mapping on the tree of TrialConfig"))
        return Space()
    if depth > DEEPEST:
        problems.append(Problem(where, "deeper mappings", f"must not be nested more than {DEEPEST} deep"))
        return Space()
    entries: list[Entry] = []
    for key, value in tree.items():
        if not isinstance(key, str) or not NAME.fullmatch(key):
            problems.append(Problem(where, key, "must be a plain key: write `a: {b: ...}` for a.b"))
            continue
        child = _join(path, key)
        if isinstance(value, Mapping) and any(kind in value for kind in KINDS):
            entries += _read_leaf(value, path, child, prefix, problems, depth)
        elif isinstance(value, Mapping) and "settings" not in child.split(".") and (hint := _meant_as_leaf(value)):
            problems.append(Problem(prefix + child, list(value), hint))
        elif isinstance(value, Mapping) and not path and key in WRAPPERS:
            rule = "must be left out: the keys of the trial stand in a space as they are, `optimizer: {lr: ...}`"
            problems.append(Problem(prefix + child, list(value), rule))
        elif isinstance(value, Mapping):
            if not value:
                problems.append(Problem(prefix + child, {}, "must hold a range, a choice or a value; or leave it out"))
            entries += _read_mapping(value, child, prefix, problems, depth + 1).entries
        else:
            entries += _read_fixed(value, child, prefix, problems)
    return Space(tuple(entries))


def _meant_as_leaf(value: Mapping[Any, Any]) -> str | None:
    keys = [key for key in value if isinstance(key, str)]
    if form := as_written_here(value):
        return f"is another tool's way: write {form}; what is searched is one of {', '.join(KINDS)}"
    for key in keys:
        if close := difflib.get_close_matches(key.lower(), KINDS, n=1, cutoff=0.7):
            return f"unknown key `{key}`, did you mean `{close[0]}`?"
    if any(key in (*RANGE_KEYS, "requires") for key in keys):
        return f"must say what is searched: one of {', '.join(KINDS)}"
    return None


def _read_fixed(value: object, path: str, prefix: str, problems: list[Problem]) -> Iterator[Entry]:
    items = value if isinstance(value, list | tuple) else [value]
    for item in items:
        if form := as_written_here(item):
            rule = f"is another tool's way: write {form}; what is searched is one of {', '.join(KINDS)}"
            problems.append(Problem(prefix + path, item, rule))
            return
        if broken := scalar_rule(item):
            known = isinstance(item, str | int | float | None)
            rule = broken if known else "must be a range, a choice, a scalar or a list of scalars"
            problems.append(Problem(prefix + path, item, rule))
            return
    yield Entry(path, Fixed(tuple(items) if isinstance(value, list | tuple) else value))  # type: ignore[arg-type]


def _read_leaf(
    leaf: Mapping[Any, Any], parent: str, path: str, prefix: str, problems: list[Problem], depth: int
) -> Iterator[Entry]:
    where = prefix + path
    kinds = [kind for kind in KINDS if kind in leaf]
    if len(kinds) > 1:
        problems.append(Problem(where, kinds, f"must be one of {', '.join(KINDS)}, not several"))
        return
    kind = kinds[0]
    allowed = (kind, "requires") if kind == "choice" else (kind, *RANGE_KEYS, "requires")
    unknown = [key for key in leaf if key not in allowed]
    problems += [
        Problem(f"{where}.{key}", leaf[key], f"unknown key, {nearest(RANGE_WORDS.get(key, str(key)), allowed)}")
        for key in unknown
    ]
    requires = leaf.get("requires")
    if "requires" in leaf and not (isinstance(requires, str) and PATH.fullmatch(requires)):
        problems.append(Problem(f"{where}.requires", requires, "must be a path such as model.pretrained"))
        return
    domain: Domain | None
    if kind == "choice":
        domain = _read_choice(leaf[kind], parent, path, prefix, problems, depth)
    else:
        domain = _read_range(leaf, kind, where, problems)
    if domain is not None and not unknown:
        yield Entry(path, domain, requires)


def _read_range(leaf: Mapping[Any, Any], kind: str, where: str, problems: list[Problem]) -> Float | Int | None:
    bounds = leaf[kind]
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        problems.append(Problem(f"{where}.{kind}", bounds, "must be [low, high]"))
        return None
    low, high = bounds
    log, step = leaf.get("log", False), leaf.get("step")
    try:
        return Float(low, high, log, step) if kind == "float" else Int(low, high, log, 1 if step is None else step)
    except ConfigError as error:
        for problem in error.problems:
            name = problem.path if problem.path in RANGE_KEYS else kind
            rule = f"{problem.path} {problem.rule}" if problem.path in ("low", "high") else problem.rule
            problems.append(Problem(f"{where}.{name}", problem.value, rule))
        return None


def _read_choice(
    options: object, parent: str, path: str, prefix: str, problems: list[Problem], depth: int
) -> Choice | None:
    where = f"{prefix}{path}"
    if not isinstance(options, list | tuple | Mapping):
        problems.append(Problem(f"{where}.choice", options, "must be a list of options or a mapping from options"))
        return None
    try:
        choice = Choice(tuple(options))
    except ConfigError as error:
        problems += [Problem(f"{where}.choice", p.value, p.rule) for p in error.problems]
        return None
    if not isinstance(options, Mapping):
        return choice
    branches = [
        _read_mapping({} if below is None else below, parent, f"{where}={option_text(option)}/", problems, depth + 1)
        for option, below in options.items()
    ]
    return Choice(choice.options, tuple(branches)) if any(branch.entries for branch in branches) else choice


def _size(space: Space) -> int:
    branches = (b for entry in space.entries if isinstance(entry.domain, Choice) for b in entry.domain.branches)
    return len(space.entries) + sum(map(_size, branches))


def _twice(space: Space, taken: dict[str, str], prefix: str) -> list[Problem]:
    """Paths that two entries could set at once; `taken` maps what is set so far to its key and is added to."""
    problems = []
    for entry in space.entries:
        key = prefix + entry.path
        for path, other in taken.items():
            if path == entry.path or path.startswith(entry.path + ".") or entry.path.startswith(path + "."):
                problems.append(Problem(key, entry.path, f"must be set once, `{other}` sets it too"))
                break
        taken[entry.path] = key
    for entry in space.entries:
        if isinstance(entry.domain, Choice) and entry.domain.branches:
            inside: dict[str, str] = {}
            for option in entry.domain.options:  # two branches of one choice never meet
                known = dict(taken)
                below = f"{prefix}{entry.path}={option_text(option)}/"
                problems += _twice(entry.domain.branch(option), known, below)
                inside |= {path: key for path, key in known.items() if path not in taken}
            taken |= inside
    return problems


def space_tree(space: Space) -> dict[str, Any]:
    """The space as plain data that `parse_space` reads back to an equal space."""
    return _write(space, "")


def _write(space: Space, parent: str) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for entry in space.entries:
        *above, leaf = entry.path.removeprefix(f"{parent}." if parent else "").split(".")
        node = tree
        for key in above:
            node = node.setdefault(key, {})
        node[leaf] = _write_leaf(entry)
    return tree


def _write_leaf(entry: Entry) -> Any:
    domain = entry.domain
    if isinstance(domain, Fixed):
        return list(domain.value) if isinstance(domain.value, tuple) else domain.value
    leaf = _write_domain(domain, entry.path.rpartition(".")[0])
    return leaf | ({"requires": entry.requires} if entry.requires else {})


def _write_domain(domain: Domain, parent: str) -> dict[str, Any]:
    if isinstance(domain, Choice):
        if domain.branches:
            return {"choice": {option: _write(domain.branch(option), parent) for option in domain.options}}
        return {"choice": list(domain.options)}
    leaf: dict[str, Any] = {"int" if isinstance(domain, Int) else "float": [domain.low, domain.high]}
    if domain.log:
        leaf["log"] = True
    if domain.step is not None and not (isinstance(domain, Int) and domain.step == 1):
        leaf["step"] = domain.step
    return leaf
