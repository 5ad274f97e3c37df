"""`StudySpec`: all that a study is, once it has been read and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, TypeVar

import yaml
from pydantic import Field, field_validator

from search.study.proxy import Proxy
from search.study.resources import Budget, Refit, Resources
from search.study.settings import (
    ASHASettings,
    Guards,
    ListenerPlugin,
    Objective,
    Recipe,
    SchedulerSettings,
    SearcherSettings,
    Section,
    TPESettings,
)
from search.study.trial_tree import compose
from search.study.validation import FOLDER_NAME
from search.study.words import FILE_WORDS
from spaces import Scalar, Space, fix, given, locate, parse_space, walk
from spaces.domains import same
from trainables.config import ConfigError, Execution, Missing, Problem, TrialConfig, parse_config, validate
from trainables.config.images import without_path
from trainables.config.part import Part
from trainables.config.plain_yaml import PlainDumper

__all__ = ["StudySpec", "searched"]

P = TypeVar("P", bound=Part)

NOT_SET = "(not set)"


class StudySpec(Section):
    """A study: what its trials share, what is searched, what is tried first, what is wanted and what it may cost.

    Built by `parse.load_study` and `parse.parse_study`, which check the parts against each other; `with_execution` and
    `with_resources` change how it runs, and check that section alone. `trial` holds every default, those of TrialConfig
    included, but epochs and seed, which are the study's. `fixed` maps dotted paths to values that win over trial, space
    and recipes alike, wherever their key exists.
    """

    other_words: ClassVar[Mapping[str, str]] = FILE_WORDS

    study: str
    description: str = ""
    trial: dict[str, Any] = {}  # noqa: RUF012 (pydantic copies it)
    space: dict[str, Any] = {}  # noqa: RUF012
    fixed: dict[str, Any] = {}  # noqa: RUF012
    recipes: dict[str, Recipe] = {}  # noqa: RUF012
    objective: Objective = Objective()
    searcher: SearcherSettings = TPESettings()
    scheduler: SchedulerSettings = ASHASettings()
    # A section that was added later is left out of dumps unless it is set: what a study is has not changed since.
    guards: Annotated[Guards, Field(exclude_if=lambda guards: guards == Guards())] = Guards()
    budget: Budget
    refit: Refit | None = None
    proxy: Annotated[Proxy | None, Field(exclude_if=lambda proxy: proxy is None)] = None
    resources: Resources = Resources()
    listeners: list[ListenerPlugin] = []  # noqa: RUF012
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

    @property
    def own(self) -> StudySpec:
        """The study as its refit trains it: without a proxy."""
        return self if self.proxy is None else self.model_copy(update={"proxy": None})

    @property
    def phases(self) -> tuple[StudySpec, ...]:
        """The study as its search trains it, and with a proxy as its refit does: what both train must be possible."""
        return (self,) if self.proxy is None else (self, self.own)

    @property
    def all_fixed(self) -> Mapping[str, Any]:
        """What is fixed in the trials of the search: the proxy's network and images before `fixed`."""
        return self.fixed if self.proxy is None else {**self.fixed, **self.proxy.fixed}

    @property
    def most_refit_runs(self) -> int:
        """How many runs the search's last phase takes at most: each finalist's and the reference's.

        With a proxy of another depth the best trial is two finalists: with its learning rate scaled, and as it was.
        """
        if self.refit is None:
            return 0
        deeper = self.proxy is not None and self.proxy.depth is not None
        return (self.refit.top + bool(self.recipes) + deeper) * self.refit.seeds

    def most_scored(self, test_images: int) -> int:
        """How many images are scored after it at most, each network's counted: the winner's and the reference's."""
        if self.refit is None:
            return 0
        return (1 + bool(self.recipes)) * self.refit.seeds * min(test_images, self.refit.test_samples or test_images)

    def trial_config(self, overrides: Mapping[str, Any]) -> TrialConfig:
        """The config of a trial: the defaults with `overrides` (a point's tree, a recipe's config) laid over them.

        With a proxy it has the proxy's network and images; a config of `own` has the study's.

        Raises:
            ConfigError: if it is not valid, or the study has no images yet.
        """
        tree = compose(self.trial, overrides, self.all_fixed)
        if tree["data"]["source"] is None:
            rule = "this study brings no images of its own: give --data imagefolder:PATH or parquet:PATH"
            raise ConfigError.single("data.source", Missing, rule)
        return parse_config({**tree, "epochs": self.budget.epochs, "seed": self.seed})

    def recipe_config(self, name: str) -> Mapping[str, Any]:
        """What the recipe of this name sets in runs of this study's length."""
        return self.recipes[name].for_epochs(self.budget.epochs)

    def locate(self, overrides: Mapping[str, Any]) -> dict[str, Scalar] | None:
        """The point of the space that makes the same trial as `overrides`; None if none does."""
        config = self.trial_config(overrides)
        values = locate(self.parsed_space, config.model_dump())
        if values is None:
            return None
        again = walk(self.parsed_space, lambda key, _: values[key])
        return values if self.trial_config(again.tree) == config else None

    def with_execution(self, **changes: Any) -> StudySpec:
        """The same study, its trials executed differently.

        Raises:
            ConfigError: if a value is not valid.
        """
        execution = _section(Execution, "trial.execution", {**self.trial["execution"], **changes})
        return self.model_copy(update={"trial": {**self.trial, "execution": execution.model_dump(mode="json")}})

    def with_resources(self, **changes: Any) -> StudySpec:
        """The same study with other resources.

        Raises:
            ConfigError: if a value is not valid.
        """
        resources = _section(Resources, "resources", {**self.resources.model_dump(), **changes})
        return self.model_copy(update={"resources": resources})

    def dump(self) -> str:
        """The study as YAML that `load_study` reads back to an equal one."""
        return yaml.dump(self.model_dump(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)

    def identity(self) -> dict[str, Any]:
        """What a study is, as plain data: it may not change under the study's name."""
        tree = self.model_dump(exclude={"study", "description", "budget", "refit", "resources", "listeners"})
        for recipe in tree["recipes"].values():
            del recipe["description"], recipe["source"]
        data = tree["trial"]["data"]
        if data["source"] is not None:
            data["source"] = without_path(data["source"])
        data.pop("exclude", None)  # where the list lies; the fingerprint of the images says what it left out
        return {**tree, "epochs": self.budget.epochs}

    def at_source(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """A trial's config as it was recorded, with its images where they are now."""
        source, data = self.trial["data"]["source"], config["data"]
        searched = any(key.endswith("data.source") for key in self.parsed_space.domains())
        if source is None or searched or without_path(data["source"]) != without_path(source):
            return config
        here = {key: value for key, value in self.trial["data"].items() if key in ("source", "exclude")}
        return {**config, "data": {**data, **here}}

    def difference(self, other: StudySpec) -> list[str]:
        """A line for every part of the identity in which `other` differs; empty if they are the same study.

        An execution that one of the two leaves to the machine is no difference.
        """
        return [
            f"{path}: {old} -> {new}"
            for path, old, new in _differences(self.identity(), other.identity())
            if not (path.startswith("trial.execution.") and {str(old), str(new)} & {"auto", "None"})
        ]


def searched(space: Space, trial: Mapping[str, Any], fixed: Mapping[str, Any]) -> Space:
    """What is left to search: `space` without fixed paths and without entries whose requirement is not met."""
    return given(fix(space, fixed), compose(trial, {}, fixed))


class _Dumper(PlainDumper):
    """Lists, which hold scalars here, on one line."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        return super().represent_sequence(tag, sequence, flow_style=True)


def _section(model: type[P], path: str, tree: Mapping[str, Any]) -> P:
    try:
        return validate(model, tree)
    except ConfigError as error:
        raise ConfigError(Problem(f"{path}.{p.path}", p.value, p.rule) for p in error.problems) from None


def _differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Path, old and new value wherever two trees differ; `NOT_SET` stands for what one of them lacks."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            below = f"{path}.{key}" if path else str(key)
            yield from _differences(old.get(key, NOT_SET), new.get(key, NOT_SET), below)
    elif old is NOT_SET and isinstance(new, Mapping) and new:
        yield from _differences({}, new, path)
    elif new is NOT_SET and isinstance(old, Mapping) and old:
        yield from _differences(old, {}, path)
    elif not same(old, new):
        yield path, old, new
