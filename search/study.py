"""`StudySpec`: all of a study, read from YAML with every mistake told at once."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import field_validator

from search.checks import (
    ENOUGH,
    FOLDER_NAME,
    applied_problems,
    fixed_problems,
    recipe_problems,
    space_problems,
    trial_problems,
)
from search.compose import absolute, absolute_recipe, absolute_space, compose, full_trial, plain_trial
from search.plain import differences, plain_yaml
from search.sections import (
    ASHA,
    TPE,
    ASHAPromote,
    Budget,
    GridSearch,
    NoScheduler,
    Objective,
    RandomSearch,
    Recipe,
    Resources,
    Scheduler,
    Searcher,
    Section,
    SuccessiveHalving,
)
from spaces import Scalar, Space, fix, given, locate, parse_space, read_study, space_tree, study_names, walk
from trainables.config import ConfigError, Problem, TrialConfig, load_yaml, parse_config, validate
from trainables.processor import fastest_precision

__all__ = [
    "ASHA", "ASHAPromote", "Budget", "GridSearch", "NoScheduler", "Objective", "RandomSearch", "Recipe", "Resources",
    "StudySpec", "TPE", "load_study", "parse_study", "resolved_execution",
]  # fmt: skip


MOST_VALUES = 3000  # far above any real study


class StudySpec(Section):
    """A study: what its trials share, what is searched, what is tried first, what is wanted and what it may cost.

    Built by `load_study` and `parse_study`, which check the parts against each other. `trial` holds every default,
    those of TrialConfig included, but epochs and seed, which are the study's. `fixed` maps dotted paths to values that
    win over trial, space and recipes alike, wherever their key exists.
    """

    study: str
    description: str = ""
    trial: dict[str, Any] = {}  # noqa: RUF012 (pydantic copies it)
    space: dict[str, Any] = {}  # noqa: RUF012
    fixed: dict[str, Any] = {}  # noqa: RUF012
    recipes: dict[str, Recipe] = {}  # noqa: RUF012
    objective: Objective = Objective()
    searcher: Searcher = TPE()
    scheduler: Scheduler = ASHA()
    budget: Budget
    resources: Resources = Resources()
    seed: int = 0

    @field_validator("study")
    @classmethod
    def _folder_name(cls, study: str) -> str:
        if not FOLDER_NAME.fullmatch(study) or study.endswith("."):
            raise ValueError("must be a plain folder name of letters, digits, _, - and .")
        return study

    @field_validator("seed")
    @classmethod
    def _seed_in_range(cls, seed: int) -> int:
        if not 0 <= seed < 2**32:
            raise ValueError("must be from 0 to 2**32 - 1")
        return seed

    @cached_property
    def parsed_space(self) -> Space:
        """What is really searched: without fixed paths and without entries whose requirement is not met."""
        return _searched(parse_space(self.space), self.trial, self.fixed)

    def trial_config(self, overrides: Mapping[str, Any]) -> TrialConfig:
        """The config of a trial: the defaults with `overrides` (a point's tree, a recipe's config) laid over them.

        Raises:
            ConfigError: if it is not valid, or the study has no images yet.
        """
        tree = compose(self.trial, overrides, self.fixed)
        if tree["data"]["source"] is None:
            rule = "this study brings no images of its own: give --data imagefolder:PATH or parquet:PATH"
            raise ConfigError.single("data.source", None, rule)
        return parse_config({**tree, "epochs": self.budget.epochs, "seed": self.seed})

    def locate(self, overrides: Mapping[str, Any]) -> dict[str, Scalar] | None:
        """The point of the space that makes the same trial as `overrides`; None if none does."""
        config = self.trial_config(overrides)
        values = locate(self.parsed_space, config.model_dump())
        if values is None:
            return None
        again = walk(self.parsed_space, lambda key, _: values[key])
        return values if self.trial_config(again.tree) == config else None

    def override(
        self, *, trials: int | None = None, epochs: int | None = None, hours: float | None = None,
        max_cost: float | None = None, prices: Sequence[str] = (), concurrent: int | None = None,
        cpus_per_trial: float | None = None, gpus_per_trial: float | str | None = None, seed: int | None = None,
        data: str | None = None, sets: Sequence[str] = (),
    ) -> StudySpec:  # fmt: skip
        """The study with what the command line says; None leaves a value as it is.

        Each of `sets` is `a.b=value`, value in YAML: a path of the trial, or one below `searcher`, `scheduler`,
        `budget`, `objective` or `resources`. A path of the trial wins over space and recipes too, and is searched no
        more. `prices` are one number, for each node, or any number of `TYPE=NUMBER`.

        Raises:
            ConfigError: with every mistake, each named by its option.
        """
        from search.override import overridden  # which builds specs

        options = {
            "--trials": trials, "--epochs": epochs, "--hours": hours, "--max-cost": max_cost,
            "--price": tuple(prices) or None, "--concurrent": concurrent, "--cpus-per-trial": cpus_per_trial,
            "--gpus-per-trial": gpus_per_trial, "--seed": seed, "--data": data,
        }  # fmt: skip
        return overridden(self, {name: value for name, value in options.items() if value is not None}, sets)

    def dump(self) -> str:
        """The study as YAML that `load_study` reads back to an equal one."""
        return plain_yaml(self.model_dump())

    def identity(self) -> dict[str, Any]:
        """What a study is, as plain data: it may not change under the study's name."""
        tree = self.model_dump(exclude={"study", "description", "budget", "resources"})
        for recipe in tree["recipes"].values():
            del recipe["description"], recipe["source"]
        return {**tree, "epochs": self.budget.epochs}

    def difference(self, other: StudySpec) -> list[str]:
        """A line for every part of the identity in which `other` differs; empty if they are the same study.

        An execution that one of the two leaves to the machine is no difference.
        """
        return [
            f"{path}: {old} -> {new}"
            for path, old, new in differences(self.identity(), other.identity())
            if not (path.startswith("trial.execution.") and {str(old), str(new)} & {"auto", "None"})
        ]


def _searched(space: Space, trial: Mapping[str, Any], fixed: Mapping[str, Any]) -> Space:
    return fix(given(space, compose(trial, {}, fixed)), fixed)


def load_study(name_or_path: str) -> StudySpec:
    """Read a study that ships, by name, or one's own, by a path (with a slash, or ending in .yaml or .yml).

    Raises:
        ConfigError: if there is no such study, or with every mistake in it.
    """
    separators = {"/", os.sep, os.altsep} - {None}
    if name_or_path.endswith((".yaml", ".yml")) or any(str(mark) in name_or_path for mark in separators):
        return parse_study(load_yaml(Path(name_or_path).expanduser()))
    names = study_names()
    if name_or_path not in names:
        close = difflib.get_close_matches(name_or_path, names, n=1, cutoff=0.4)
        hint = f"did you mean `{close[0]}`? " if close else ""
        rule = (
            f"unknown study, {hint}there are {', '.join(names)}; a file of your own is named by a path ending in .yaml"
        )
        raise ConfigError.single("STUDY", name_or_path, rule)
    return parse_study(read_study(name_or_path))


def parse_study(tree: object) -> StudySpec:
    """Build a study from plain data; relative paths of images and weights are taken from the current directory.

    Raises:
        ConfigError: with every mistake at once, each with its path in the file.
    """
    if not isinstance(tree, Mapping):
        raise ConfigError.single("", tree, "must be a mapping with the keys of a study")
    if next(islice(_values(tree), MOST_VALUES, None), None) is not None:
        raise ConfigError.single("", "many more", f"must not hold more than {MOST_VALUES:,} values")
    sections = {"trial": {}, "space": {}, "fixed": {}, "recipes": {}, **tree}
    problems: list[Problem] = []
    spec: StudySpec | None = None
    try:
        spec = validate(StudySpec, sections)
    except ConfigError as error:
        problems += error.problems
    # A section that is no mapping has been told above; the others are checked all the same.
    raw, fixed = (absolute(_mapping(sections[key])) for key in ("trial", "fixed"))
    recipes = {str(name): absolute_recipe(recipe) for name, recipe in _mapping(sections["recipes"]).items()}
    trial, space = full_trial(raw), Space()
    in_trial, in_fixed = trial_problems(raw, trial), fixed_problems(fixed)
    problems += [*in_trial, *in_fixed]
    try:
        space = absolute_space(parse_space(_mapping(sections["space"])))
    except ConfigError as error:
        problems += [Problem(f"space.{p.path}" if p.path else "space", p.value, p.rule) for p in error.problems]
    if len(in_trial) < ENOUGH:
        problems += _applied(trial, space, {} if in_fixed else fixed, recipes)
    if spec is not None:
        problems += _budget_problems(spec)
        most = max(len(recipes), 1)
        if not problems and spec.budget.trials > most and not _searched(space, trial, fixed).domains():
            rule = f"must search something, or budget.trials be at most {most}, for recipes or the defaults alone"
            problems.append(Problem("space", {}, rule))
    first: dict[tuple[str, str], Problem] = {}
    if problems:
        raise ConfigError(p for p in problems if first.setdefault((p.path, p.rule), p) is p)
    parts = {"trial": plain_trial(trial), "space": space_tree(space), "fixed": fixed, "recipes": recipes}
    return validate(StudySpec, {**sections, **parts})


def _applied(
    trial: Mapping[str, Any], space: Space, fixed: Mapping[str, Any], recipes: Mapping[str, Any]
) -> Iterator[Problem]:
    """What is wrong with the trials that a study would make."""
    configs = {name: _mapping(_mapping(recipe).get("config")) for name, recipe in recipes.items()}
    yield from space_problems(space, trial, fixed)
    for name, config in configs.items():
        yield from recipe_problems(name, config, trial, fixed)
    yield from applied_problems(fixed, trial, _searched(space, trial, fixed), configs.values())


def _values(node: object) -> Iterator[object]:
    """Everything that stands anywhere in plain data."""
    yield node
    below = node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ()
    for item in below:
        yield from _values(item)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _budget_problems(spec: StudySpec) -> list[Problem]:
    problems: list[Problem] = []
    if spec.budget.max_cost is not None and spec.resources.prices is None:
        rule = (
            "needs the nodes' prices an hour: --price 0.4 for each node, --price TYPE=0.4 or resources.prices by type"
        )
        problems.append(Problem("budget.max_cost", spec.budget.max_cost, rule))
    scheduler, epochs = spec.scheduler, spec.budget.epochs
    if isinstance(scheduler, SuccessiveHalving) and scheduler.grace_period >= epochs:
        rule = f"must be below budget.epochs ({epochs}), or nothing could be stopped; else set scheduler.kind to none"
        problems.append(Problem("scheduler.grace_period", scheduler.grace_period, rule))
    return problems


def resolved_execution(spec: StudySpec, cuda: bool, cpus_per_trial: float) -> StudySpec:
    """The study with what it leaves to the machine decided: device, threads, layout, precision and GPUs a trial.

    Raises:
        ConfigError: if it asks for CUDA and there is none, or for a GPU a trial and the CPU.
    """
    asked = dict(spec.trial["execution"])
    gpus = spec.resources.gpus_per_trial
    device = asked["device"]
    if device == "auto":
        device = "cuda" if cuda and gpus != 0 else "cpu"
    if device == "cuda" and not cuda:
        raise ConfigError.single("trial.execution.device", device, "must be cpu or auto: there is no CUDA device")
    if device == "cuda" and gpus == 0:
        raise ConfigError.single("resources.gpus_per_trial", gpus, "must be above 0 with execution.device cuda")
    if device == "cpu" and gpus:
        raise ConfigError.single("resources.gpus_per_trial", gpus, "must be 0 on the CPU")
    asked |= {
        "device": device,
        "threads": asked["threads"] or max(1, int(cpus_per_trial)),
        "memory_format": "channels_last" if asked["memory_format"] == "auto" else asked["memory_format"],
        "precision": fastest_precision(device) if asked["precision"] == "auto" else asked["precision"],
    }
    tree = spec.model_dump()
    tree["trial"]["execution"] = asked
    tree["resources"]["gpus_per_trial"] = (1.0 if device == "cuda" else 0.0) if gpus is None else gpus
    return parse_study(tree)
