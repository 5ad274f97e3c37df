"""`StudySpec`: all that a study is, once it has been read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from pydantic import field_validator

from search.study.plain_yaml import differences, plain_yaml
from search.study.settings import (
    ASHASettings,
    Budget,
    Objective,
    Recipe,
    Resources,
    SchedulerSettings,
    SearcherSettings,
    Section,
    TPESettings,
)
from search.study.trial_tree import compose
from search.study.validation import FOLDER_NAME
from spaces import Scalar, Space, fix, given, locate, parse_space, walk
from trainables.config import ConfigError, TrialConfig, parse_config

__all__ = ["StudySpec", "searched"]


class StudySpec(Section):
    """A study: what its trials share, what is searched, what is tried first, what is wanted and what it may cost.

    Built by `parse.load_study` and `parse.parse_study`, which check the parts against each other. `trial` holds every
    default, those of TrialConfig included, but epochs and seed, which are the study's. `fixed` maps dotted paths to
    values that win over trial, space and recipes alike, wherever their key exists.
    """

    study: str
    description: str = ""
    trial: dict[str, Any] = {}  # noqa: RUF012 (pydantic copies it)
    space: dict[str, Any] = {}  # noqa: RUF012
    fixed: dict[str, Any] = {}  # noqa: RUF012
    recipes: dict[str, Recipe] = {}  # noqa: RUF012
    objective: Objective = Objective()
    searcher: SearcherSettings = TPESettings()
    scheduler: SchedulerSettings = ASHASettings()
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
        return searched(parse_space(self.space), self.trial, self.fixed)

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


def searched(space: Space, trial: Mapping[str, Any], fixed: Mapping[str, Any]) -> Space:
    """What is left to search: `space` without fixed paths and without entries whose requirement is not met."""
    return fix(given(space, compose(trial, {}, fixed)), fixed)
