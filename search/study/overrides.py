"""What the command line changes in a study: options, and `--set a.b=value`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict, Unpack

from search.study.parse import SECTIONS, parse_study
from search.study.settings import ASHAPromoteSettings, ASHASettings, HalvingSettings, HyperbandSettings
from search.study.spec import StudySpec
from search.study.transfer import with_transfer_recipes, without_transfer_recipes
from search.study.trial_tree import comparability_rule
from search.study.words import SET_WORDS
from spaces.grammar import KINDS
from spaces.words import as_written_here
from trainables.config import ConfigError, Problem, TrialConfig, merge, unflatten
from trainables.config.hints import suggestion
from trainables.config.keys import paths_of, types_at
from trainables.config.typed import typed_value

__all__ = ["Overrides", "override", "shortened_grace"]


class Overrides(TypedDict, total=False):
    """What the command line and `search.run_study` change in a study: the one list of these options.

    `data` names the images, `prices` are `"0.4"` for each node an hour or `"TYPE=0.4"` for each type, `gpus_per_trial`
    may be `"auto"`, and each of `sets` is `"a.b=value"` for any key of the trial or study. None changes nothing.
    """

    data: str | None
    trials: int | None
    epochs: int | None
    hours: float | None
    max_cost: float | None
    prices: Sequence[str]
    concurrent: int | None
    cpus_per_trial: float | None
    gpus_per_trial: float | str | None
    seed: int | None
    sets: Sequence[str]


PATHS = {
    "data": "trial.data.source", "trials": "budget.trials", "epochs": "budget.epochs", "hours": "budget.hours",
    "max_cost": "budget.max_cost", "prices": "resources.prices", "concurrent": "resources.concurrent",
    "cpus_per_trial": "resources.cpus_per_trial", "gpus_per_trial": "resources.gpus_per_trial", "seed": "seed",
}  # fmt: skip
OPTIONS = {"--price" if name == "prices" else f"--{name.replace('_', '-')}": path for name, path in PATHS.items()}
PATHS_OF_SET = [*paths_of(TrialConfig), *(p for p in paths_of(StudySpec) if p.split(".")[0] in SECTIONS)]
HALVING = (ASHASettings().kind, ASHAPromoteSettings().kind, HyperbandSettings().kind)
INSTEAD = {path.removeprefix("trial."): option for option, path in OPTIONS.items()} | {"epochs": "--epochs"}


def override(study: object, **overrides: Unpack[Overrides]) -> StudySpec:
    """The study with what the command line says laid over it.

    A path of the trial in `sets` wins over space and recipes, too, and is searched no more; a path may also lie below
    `searcher`, `scheduler`, `budget`, `objective` or `resources`. With fewer epochs than the study's own the grace
    period shrinks with them where rungs would be lost, unless `sets` names it. A study with pretrained weights gets the
    recipes of `search.study.transfer`.

    Args:
        study: a StudySpec; or what `study_tree` read, so that options may mend what would be refused in the file.
        **overrides: see `Overrides`.

    Raises:
        ConfigError: with every mistake, each named by its option.
    """
    sets = overrides.pop("sets", ())
    values = {path: overrides.get(name) for name, path in PATHS.items()}
    options = {option: values[path] for option, path in OPTIONS.items() if values[path] not in (None, (), [])}
    tree = without_transfer_recipes(study).model_dump() if isinstance(study, StudySpec) else study
    return _overridden(tree, options, sets)


def _overridden(tree: object, options: Mapping[str, Any], sets: Sequence[str]) -> StudySpec:
    problems: list[Problem] = []
    changes: dict[str, Any] = {OPTIONS[name]: value for name, value in options.items()}
    if "--price" in options:
        changes["resources.prices"] = _prices(options["--price"], problems)
    names = {OPTIONS[name]: name for name in options}
    fixed: dict[str, Any] = {}
    for path, value in _parsed(sets, problems):
        name = f"--set {path}"
        if INSTEAD.get(path) in options:
            problems.append(Problem(name, value, f"must not be given together with {INSTEAD[path]}"))
        elif path.split(".")[0] in SECTIONS:
            changes[path] = value
            names[path] = name
        elif path in ("epochs", "seed"):
            problems.append(Problem(name, value, f"is the study's own: use {INSTEAD[path]}"))
        elif comparability_rule(path):
            changes[f"trial.{path}"] = value
            names[f"trial.{path}"] = name
        elif path.split(".")[0] not in TrialConfig.model_fields:
            known = [*TrialConfig.model_fields, *SECTIONS]
            problems.append(Problem(name, value, f"unknown key, {suggestion(path, known, PATHS_OF_SET, SET_WORDS)}"))
        else:
            fixed[path] = value
            names[f"fixed.{path}"] = name
    for path in list(changes):
        if above := [other for other in changes if path.startswith(f"{other}.")]:
            rule = f"must not be given together with {names[above[0]]}"
            problems.append(Problem(names[path], changes.pop(path), rule))
    try:
        changed = parse_study(_laid_over(tree, changes, fixed))
    except ConfigError as error:
        problems += (_named(problem, names) for problem in error.problems)
    if problems:
        raise ConfigError(problems)
    return with_transfer_recipes(changed)


def _laid_over(tree: object, changes: Mapping[str, Any], fixed: Mapping[str, Any]) -> object:
    """A study's tree with these changes; without them where a section is none, which is reported then."""
    if not isinstance(tree, Mapping):
        return tree
    defaults = {name: StudySpec.model_fields[name].default.model_dump() for name in ("searcher", "scheduler")}
    sections = {"fixed": {}, "objective": {}, **defaults, **tree}
    if sections.get("refit", {}) is None:
        del sections["refit"]
    if not all(isinstance(sections.get(name, {}), Mapping) for name in (*SECTIONS, "trial", "fixed")):
        return tree
    if "objective.metric" in changes and "objective.mode" not in changes:
        sections["objective"] = {**sections["objective"], "mode": None}  # it follows from the metric
    kind, scheduler = changes.get("scheduler.kind"), sections["scheduler"]
    if scheduler.get("kind") in HALVING and kind in HALVING:
        sections["scheduler"] = {**scheduler, "kind": kind}  # its rungs stay: they mean the same to all variants
    laid = {**merge(sections, unflatten(changes)), "fixed": {**sections["fixed"], **fixed}}
    return laid if "scheduler.grace_period" in changes else _shortened(laid, _epochs_of(tree))


def shortened_grace(study: object, spec: StudySpec) -> tuple[int, int] | None:
    """A study's own grace period, and the shorter one that fewer epochs have given it in `spec`; None if it stays.

    Args:
        study: as for `override`, which returned `spec`.
        spec: the study that is run.
    """
    tree = study.model_dump() if isinstance(study, StudySpec) else study
    before, own = _section_of(tree, "scheduler").get("grace_period", 1), _epochs_of(tree)
    if not isinstance(spec.scheduler, HalvingSettings) or type(before) is not int or own is None:
        return None
    now = spec.scheduler.grace_period
    return (before, now) if spec.budget.epochs < own and now < before else None


def _shortened(sections: dict[str, Any], own: int | None) -> dict[str, Any]:
    """The sections with a grace period that leaves as many rungs as there are in the study's `own` epochs."""
    scheduler, epochs = _section_of(sections, "scheduler"), _epochs_of(sections)
    grace, factor = scheduler.get("grace_period", 1), scheduler.get("reduction_factor", 3)
    valid = type(grace) is int and grace > 0 and type(factor) is int and factor > 1  # else it is reported later
    if scheduler.get("kind") not in HALVING or epochs is None or own is None or epochs >= own or not valid:
        return sections
    if _rungs(grace, factor, epochs) >= _rungs(grace, factor, own):
        return sections
    return {**sections, "scheduler": {**scheduler, "grace_period": max(1, grace * epochs // own)}}


def _rungs(grace: int, factor: int, epochs: int) -> int:
    return sum(grace * factor**k < epochs for k in range(epochs.bit_length()))


def _section_of(tree: object, name: str) -> Mapping[str, Any]:
    section = tree.get(name) if isinstance(tree, Mapping) else None
    return section if isinstance(section, Mapping) else {}


def _epochs_of(tree: object) -> int | None:
    epochs = _section_of(tree, "budget").get("epochs")
    return epochs if type(epochs) is int else None


def _prices(texts: Sequence[str], problems: list[Problem]) -> float | dict[str, float]:
    """One price for each node, or one a node type."""
    prices: dict[str, float] = {}
    for text in texts:
        kind, equals, number = text.rpartition("=")
        kind, price = kind.strip(), 0.0  # so that a price which is none is not reported as a missing one, too
        try:
            price = float(number)
        except ValueError:
            equals = "no number"
        if equals and (not kind or equals == "no number"):
            rule = "must be a price an hour: 0.4 for each node, or TYPE=0.4 for the nodes of a type"
            problems.append(Problem("--price", text, rule))
        elif kind and kind in prices:
            problems.append(Problem("--price", text, "must be given once for a node type"))
        prices[kind] = price
    if "" in prices and len(texts) > 1:
        problems.append(Problem("--price", list(texts), "must be one price for each node, or one for each node type"))
    return prices.get("", prices)


def _parsed(sets: Iterable[str], problems: list[Problem]) -> Iterable[tuple[str, Any]]:
    seen: dict[str, Any] = {}
    for text in sets:
        path, equals, written = text.partition("=")
        path = path.strip()
        name = f"--set {path}"
        types = types_at(StudySpec if path.split(".")[0] in SECTIONS else TrialConfig, path)
        empty = not written.strip() and not {str, "none"} & types
        if not equals or empty or not all(part.isidentifier() for part in path.split(".")):
            problems.append(Problem("--set", text, "must be PATH=VALUE, for example data.train_samples=5000"))
            continue
        try:
            value = typed_value(written, types, name)
        except ConfigError as error:
            problems += error.problems
            continue
        if form := as_written_here(value) or (isinstance(value, dict) and {*KINDS} & {*value} and written):
            rule = f"must be one value, which it fixes; what is searched is written in the study's `space`: {form}"
            problems.append(Problem(name, written, rule))
        elif isinstance(value, dict):
            rule = "must be a scalar or a list: name the keys below by their own path; text with `: ` needs quotes"
            problems.append(Problem(name, written, rule))
        elif path in seen:
            problems.append(Problem(name, written, "must be given once"))
        else:
            seen[path] = value
    return seen.items()


def _named(problem: Problem, names: Mapping[str, str]) -> Problem:
    """The problem under the option that caused it, if one did."""
    for path, name in names.items():
        if problem.path == path or problem.path.startswith(f"{path}."):
            return Problem(name + problem.path.removeprefix(path), problem.value, problem.rule)
    return problem
