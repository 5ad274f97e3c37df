"""What can be wrong with a study as a whole: each part tried on the trial that it would make."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from search.study.trial_tree import comparability_rule, compose, config_problems, has_key, study_level_rule
from spaces import Choice, Domain, Entry, Int, Point, Scalar, Space, fix, given, path_of, rewrite, walk
from trainables.config import Problem, TrialConfig, flatten
from trainables.config.hints import unknown_key
from trainables.config.keys import location_of

__all__ = [
    "ENOUGH", "FOLDER_NAME", "applied_problems", "fixed_problems", "probes", "recipe_problems",
    "space_problems", "trial_problems",
]  # fmt: skip

FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")

# So that an absurd study is refused in seconds: the space is tried no further once ENOUGH mistakes are known.
MOST_PROBES, ENOUGH = 1000, 20

Rule = Callable[[str], str | None]


def _under(prefix: str, problem: Problem) -> Problem:
    return Problem(f"{prefix}.{problem.path}", problem.value, problem.rule)


def _forbidden(tree: Mapping[str, Any], rule: Rule) -> Iterator[Problem]:
    for path, value in flatten({str(key): value for key, value in tree.items()}).items():
        if broken := rule(path):
            yield Problem(path, value, broken)


def trial_problems(raw: Mapping[str, Any], full: Mapping[str, Any]) -> list[Problem]:
    """Mistakes of the trial's defaults: as written in `raw`, valid as `full`."""
    found = [*_forbidden(raw, study_level_rule), *config_problems(full)]
    return [_under("trial", problem) for problem in found]


def fixed_problems(fixed: Mapping[str, Any]) -> list[Problem]:
    """Mistakes in the form of fixed values; whether a value is valid shows where it is applied."""
    found = []
    for path, value in fixed.items():
        if not DOTTED.fullmatch(path):
            found.append(Problem(path, value, "must be a dotted path such as data.train_samples"))
        elif isinstance(value, Mapping) or (isinstance(value, list) and any(isinstance(v, list | dict) for v in value)):
            found.append(Problem(path, value, "must be a scalar or a list of scalars"))
        elif broken := comparability_rule(path):
            found.append(Problem(path, value, broken))
        elif longer := [other for other in fixed if other.startswith(f"{path}.")]:
            found.append(Problem(path, value, f"must not be set together with {longer[0]}, which lies below it"))
    return [_under("fixed", problem) for problem in found]


def applied_problems(
    fixed: Mapping[str, Any], trial: Mapping[str, Any], space: Space, recipes: Iterable[Mapping[str, Any]]
) -> list[Problem]:
    """Fixed values that make the trial's defaults invalid, and paths that exist in no trial, whatever is drawn."""
    if not fixed:
        return []
    found = list(_new_problems({}, trial, trial, "trial", fixed))
    drawn = (point.tree for _, point in probes(space))
    trees = [compose(trial, overrides, fixed) for overrides in ({}, *recipes, *drawn)]
    for path in fixed:
        if any(has_key(tree, path) for tree in trees):
            continue
        location, known = location_of(TrialConfig, trees[0], path)
        above = "".join(f"{key}." for key in path.split(".")[:known])
        hint = unknown_key(TrialConfig, location, path, above)
        found.append(Problem(f"fixed.{path}", fixed[path], f"unknown key{hint}"))
    return found


def recipe_problems(
    name: str, form: str, config: Mapping[str, Any], trial: Mapping[str, Any], fixed: Mapping[str, Any]
) -> list[Problem]:
    """Mistakes of one recipe, in its form `config` or `short`, that the trial's defaults do not have already."""
    prefix = f"recipes.{name}"
    if not FOLDER_NAME.fullmatch(name):
        return [Problem(prefix, name, "must be a plain name of letters, digits, _, - and .")]
    section, base = f"{prefix}.{form}", compose(trial, {}, fixed)
    found = [_under(section, problem) for problem in _forbidden(config, comparability_rule)]
    return [*found, *_new_problems(config, trial, base, section, fixed)]


def _new_problems(
    overrides: Mapping[str, Any], trial: Mapping[str, Any], base: Mapping[str, Any], section: str,
    fixed: Mapping[str, Any],
) -> Iterator[Problem]:  # fmt: skip
    """Mistakes of `trial` under `overrides` that `base` does not have: of a fixed value, or else of this section."""
    known = {(p.path, p.rule) for p in config_problems(base)}
    for problem in config_problems(compose(trial, overrides, fixed)):
        if (problem.path, problem.rule) not in known or _sets(overrides, problem.path):
            yield _under("fixed" if problem.path in fixed else section, problem)


def _sets(overrides: Mapping[str, Any], path: str) -> bool:
    """Whether `overrides` put something at `path`, or above it."""
    return any(path == own or path.startswith(f"{own}.") for own in flatten(overrides))


def space_problems(space: Space, trial: Mapping[str, Any], fixed: Mapping[str, Any]) -> list[Problem]:
    """Paths that TrialConfig lacks, that trials must share, and values at either end that make no valid trial."""
    base = compose(trial, {}, fixed)
    free = {path_of(key) for key in space.domains()} - fixed.keys()  # what is searched
    choices = {entry.path for entry in space.entries if isinstance(entry.domain, Choice)}
    at_top = {(entry.path, entry.requires) for entry in space.entries}
    found: dict[tuple[str, str], Problem] = {}

    def add(problem: Problem) -> None:
        found.setdefault((problem.path, problem.rule), problem)

    def inspect(entry: Entry) -> Iterator[Entry]:
        if broken := comparability_rule(entry.path):
            add(Problem(entry.path, entry.path, broken))
            return
        needs = entry.requires
        if needs is not None and not has_key(base, needs):
            add(Problem(f"{entry.path}.requires", needs, "must be a path of TrialConfig"))
        elif needs in free and not (needs in choices and (entry.path, needs) in at_top):
            rule = "must not be searched itself, unless by a choice: else put what depends on it below its options"
            add(Problem(f"{entry.path}.requires", needs, rule))
        elif needs in free and (above := dict(at_top).get(needs)) in free:
            rule = f"must not require something searched in turn, {above}: put what depends on it below its options"
            add(Problem(f"{entry.path}.requires", needs, rule))
        elif needs is not None and not has_key(base, entry.path):
            add(Problem(entry.path, entry.path, "unknown key for this study's trials"))
        yield entry

    narrowed = given(fix(rewrite(space, inspect), fixed), base)
    known = {(p.path, p.rule) for p in config_problems(base)}
    for probed, point in probes(narrowed):
        if len(found) >= ENOUGH:
            break
        for problem in config_problems(compose(trial, point.tree, fixed)):
            if (problem.path, problem.rule) not in known or _sets(point.tree, problem.path):
                add(_locate_problem(problem, probed, point, fixed))
    order = {key: place for place, key in enumerate(space.domains())}
    ordered = sorted(found.values(), key=lambda problem: order.get(problem.path, -1))
    return [p if p.path.startswith("fixed.") else _under("space", p) for p in ordered]


def _locate_problem(problem: Problem, probed: str, point: Point, fixed: Mapping[str, Any]) -> Problem:
    """The problem under the key that caused it: the probed one if it can be, else one of the same draw."""
    if problem.path in fixed:
        return _under("fixed", problem)
    near = [key for key in (probed, *point.values) if key and _touches(path_of(key), problem.path)]
    if near:
        return Problem(near[0], problem.value, problem.rule)
    if problem.path in flatten(point.tree) or not probed:
        return problem
    return Problem(probed, point.values[probed], f"makes a trial whose {problem.path} {problem.rule}")


def _touches(path: str, other: str) -> bool:
    return path == other or path.startswith(f"{other}.") or other.startswith(f"{path}.")


def probes(space: Space) -> Iterator[tuple[str, Point]]:
    """Points that visit every end of every range and every option, with the rest low, high and in between.

    Each comes with the key that it is about, the first one with none. There are at most `MOST_PROBES`.
    """
    yield "", _probe(space, {}, 0.0)
    everything = (
        (parameter, value, share)
        for share in (0.0, 0.5, 1.0)
        for parameter in space.parameters()
        for value in _boundary_values(parameter.domain)
    )
    for parameter, value, share in itertools.islice(everything, MOST_PROBES):
        yield parameter.key, _probe(space, {**dict(parameter.when), parameter.key: value}, share)


def _boundary_values(domain: Domain) -> tuple[Scalar, ...]:
    """Every option; both ends of a range, and of integers the next one, which shows where only some are allowed."""
    if isinstance(domain, Choice):
        return domain.options
    if isinstance(domain, Int):
        return domain.low, domain.low + domain.step, domain.high
    return domain.low, domain.high


def _probe(space: Space, wanted: Mapping[str, Scalar], share: float) -> Point:
    def draw(key: str, domain: Domain) -> Scalar:
        if key in wanted:
            return wanted[key]
        if isinstance(domain, Choice):
            return domain.options[int(share * (len(domain.options) - 1))]
        steps = (domain.high - domain.low) / (domain.step or 1.0)
        inside = domain.low + (int(share * steps) if domain.step else share * steps) * (domain.step or 1.0)
        return min(max(inside, domain.low), domain.high)

    return walk(space, draw)
