"""Studies read from YAML, with every mistake reported at once."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from search.study.proxy import proxy_problems
from search.study.settings import HalvingSettings
from search.study.spec import StudySpec, searched
from search.study.trial_tree import absolute, absolute_recipe, absolute_space, full_trial, plain_trial
from search.study.validation import (
    ENOUGH,
    applied_problems,
    fixed_problems,
    probes,
    recipe_problems,
    space_problems,
    trial_problems,
)
from spaces import Space, read_space, read_study, space_tree, study_names
from trainables.config import ConfigError, Problem, load_yaml, merge, validate
from trainables.config.hints import in_our_words
from trainables.config.keys import types_at

__all__ = ["SECTIONS", "load_study", "parse_study", "study_tree"]

SECTIONS = ("searcher", "scheduler", "guards", "budget", "objective", "refit", "proxy", "resources")
BEGUN = "runs/{name}/study.yaml"  # in the results folder that a search has by default
MOST_VALUES = 3000  # far above any real study


def load_study(name_or_path: str) -> StudySpec:
    """Read a study that ships, by name, or one's own, by a path (with a slash, or ending in .yaml or .yml).

    Raises:
        ConfigError: if there is no such study, or with every mistake in it.
    """
    return parse_study(study_tree(name_or_path))


def study_tree(name_or_path: str) -> Any:
    """The study that `load_study` reads as plain data, not checked yet.

    Raises:
        ConfigError: if there is no such study, or it is not plain YAML.
    """
    separators = {"/", os.sep, os.altsep} - {None}
    if name_or_path.endswith((".yaml", ".yml")) or any(str(mark) in name_or_path for mark in separators):
        tree = load_yaml(Path(name_or_path).expanduser())
        if not isinstance(tree, Mapping):
            rule = "must be a mapping with the keys of a study: study, trial, space, budget, ..."
            raise ConfigError.single(name_or_path, "an empty file" if tree is None else tree, rule)
        return tree
    names = study_names()
    if name_or_path not in names:
        close = difflib.get_close_matches(name_or_path, names, n=1, cutoff=0.4)
        hint = f"did you mean `{close[0]}`? " if close else ""
        begun = Path(BEGUN.format(name=name_or_path))
        hint = f"did you mean {begun}, which was begun here? " if begun.exists() else hint
        rule = (
            f"unknown study, {hint}there are {', '.join(names)}; a file of your own is named by a path ending in .yaml"
        )
        raise ConfigError.single("STUDY", name_or_path, rule)
    return read_study(name_or_path)


def parse_study(tree: object) -> StudySpec:
    """Build a study from plain data; relative paths of images and weights are taken from the current directory.

    Raises:
        ConfigError: with every mistake at once, each with its path in the file.
    """
    if not isinstance(tree, Mapping):
        raise ConfigError.single("", tree, "must be a mapping with the keys of a study")
    if next(islice(_values(tree), MOST_VALUES, None), None) is not None:
        raise ConfigError.single("", "many more", f"must not hold more than {MOST_VALUES:,} values")
    sections = {"trial": {}, "space": {}, "fixed": {}, "recipes": {}, **_in_our_words(tree)}
    problems: list[Problem] = []
    spec: StudySpec | None = None
    try:
        spec = validate(StudySpec, sections)
    except ConfigError as error:
        problems += error.problems
    # A section that is no mapping, or a key that is no text, has been reported above; all else is checked all the same.
    raw, given = (absolute(_mapping(sections[key])) for key in ("trial", "fixed"))
    fixed = {path: value for path, value in given.items() if isinstance(path, str)}
    recipes = {str(name): absolute_recipe(recipe) for name, recipe in _mapping(sections["recipes"]).items()}
    trial = full_trial(raw)
    in_trial, in_fixed = trial_problems(raw, trial), fixed_problems(fixed)
    problems += [*in_trial, *in_fixed]
    space, in_space = _read_space(_mapping(sections["space"]))
    problems += in_space
    if len(in_trial) < ENOUGH:
        problems += _applied(trial, space, {} if in_fixed else fixed, recipes)
    problems += _budget_problems(sections)
    if spec is not None:
        most = max(len(recipes), 1)
        if not problems and spec.budget.trials > most and not searched(space, trial, fixed).domains():
            rule = f"must search something, or budget.trials be at most {most}, for recipes or the defaults alone"
            problems.append(Problem("space", {}, rule))
        if not problems and spec.proxy is not None:
            drawn = (point.tree for _, point in probes(searched(space, trial, fixed)))
            tried = (form for recipe in spec.recipes.values() for form in (recipe.config, recipe.short or {}))
            problems += proxy_problems(spec.proxy, spec.refit is not None, trial, fixed, [*tried, *drawn])
    first: dict[tuple[str, str], Problem] = {}
    if problems:
        raise ConfigError(p for p in problems if first.setdefault((p.path, p.rule), p) is p)
    parts = {"trial": plain_trial(trial), "space": space_tree(space), "fixed": fixed, "recipes": recipes}
    return validate(StudySpec, {**sections, **parts})


def _in_our_words(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The study with other languages' words for none as this one's; `absolute` does so below trial and space."""

    def meant(node: Any, path: str) -> Any:
        if isinstance(node, Mapping):
            return {key: meant(value, f"{path}.{key}") for key, value in node.items()}
        return in_our_words(node, types_at(StudySpec, path))

    return {key: meant(value, key) if key in SECTIONS else value for key, value in tree.items()}


def _read_space(tree: Mapping[str, Any]) -> tuple[Space, list[Problem]]:
    space, problems = read_space(tree)
    try:
        space = absolute_space(space)
    except ConfigError as error:
        space, problems = Space(), [*problems, *error.problems]
    return space, [Problem(f"space.{p.path}" if p.path else "space", p.value, p.rule) for p in problems]


def _applied(
    trial: Mapping[str, Any], space: Space, fixed: Mapping[str, Any], recipes: Mapping[str, Any]
) -> Iterator[Problem]:
    """What is wrong with the trials that a study would make."""
    configs: list[Mapping[str, Any]] = []
    yield from space_problems(space, trial, fixed)
    for name, recipe in recipes.items():
        config, short = (_mapping(_mapping(recipe).get(key)) for key in ("config", "short"))
        forms = {"config": config, **({"short": merge(config, short)} if short else {})}
        configs += forms.values()
        for form, tried in forms.items():
            yield from recipe_problems(name, form, tried, trial, fixed)
    yield from applied_problems(fixed, trial, searched(space, trial, fixed), configs)


def _values(node: object) -> Iterator[object]:
    """Every value in plain data, at any depth."""
    yield node
    below = node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ()
    for item in below:
        yield from _values(item)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _budget_problems(sections: Mapping[str, Any]) -> list[Problem]:
    problems: list[Problem] = []
    needed = {key: sections[key] for key in ("budget", "resources", "scheduler") if key in sections}
    try:
        spec = validate(StudySpec, {"study": "any", **needed})
    except ConfigError:  # which was reported
        return []
    if spec.budget.max_cost is not None and spec.resources.prices is None:
        rule = (
            "needs the nodes' prices an hour: --price 0.4 for each node, --price TYPE=0.4 or resources.prices by type"
        )
        problems.append(Problem("budget.max_cost", spec.budget.max_cost, rule))
    scheduler, epochs = spec.scheduler, spec.budget.epochs
    if isinstance(scheduler, HalvingSettings) and scheduler.grace_period >= epochs:
        rule = f"must be below budget.epochs ({epochs}), or nothing could be stopped"
        if epochs > 1:
            fitting = max(1, epochs // scheduler.reduction_factor)
            rule += f": set it to {fitting}, or leave the file as it was and give --epochs {epochs}, which shortens it"
        rule += "; else set scheduler.kind to none"
        problems.append(Problem("scheduler.grace_period", scheduler.grace_period, rule))
    return problems
