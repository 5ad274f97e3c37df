"""The sections of a study beside trial and space: recipes, objective, searcher, scheduler, budget, resources."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, ValidationInfo, field_validator

from trainables.config import merge
from trainables.config.part import Count, Part
from trainables.config.plugins import (
    PluginKind,
    is_dotted_path,
    is_recorded,
    load_plugin,
    plugin_names,
    plugin_settings,
)
from trainables.result import DIRECTIONS, METRICS, Mode

__all__ = [
    "ASHAPromoteSettings", "ASHASettings", "GridSettings", "Guards", "HalvingSettings", "HyperbandSettings",
    "InstanceSettings", "ListenerPlugin", "NoSchedulerSettings", "Objective", "PluginSettings",
    "RandomSettings", "Recipe", "SchedulerSettings", "SearcherSettings", "TPESettings",
]  # fmt: skip


class Section(Part):
    """A section of a study."""


class Recipe(Section):
    """A known configuration, tried before the search: overrides of the trial's defaults, and where they come from.

    `epochs` is the length of the runs that it was published for. A study with fewer than a quarter of them tries
    `short` laid over `config`: a recipe for 160 epochs is no baseline for 12.
    """

    description: str = ""
    source: str = ""
    # Keys that were added later are left out of dumps unless they are set: what a study is has not changed since.
    epochs: Annotated[Count | None, Field(exclude_if=lambda epochs: epochs is None)] = None
    config: dict[str, Any]
    short: Annotated[dict[str, Any] | None, Field(exclude_if=lambda short: short is None)] = None

    def is_too_long(self, epochs: int) -> bool:
        """Whether runs of so many epochs are too short for it as published."""
        return self.epochs is not None and 4 * epochs < self.epochs

    def for_epochs(self, epochs: int) -> dict[str, Any]:
        """The config that is tried in runs of so many epochs."""
        return merge(self.config, self.short) if self.short is not None and self.is_too_long(epochs) else self.config


class Objective(Section):
    """What is searched for: the best `metric` of a trial's last epoch; `mode` follows from the metric if left out.

    At rungs trials are compared by the same metric of their `averaged` weights, those of about the last epoch, which
    tell sooner how a trial ends (docs/search_quality.md), or of their `current` ones. A trial with `ema_decay` is
    compared by its own average, and metrics that are not of the validation images by themselves.
    """

    metric: str = "val_accuracy"
    mode: Mode = None  # type: ignore[assignment]
    rung_weights: Literal["averaged", "current"] = "averaged"

    @field_validator("metric")
    @classmethod
    def _reported(cls, metric: str) -> str:
        if metric not in METRICS:
            raise ValueError(f"must be one of {', '.join(METRICS)}")
        return metric

    @field_validator("mode", mode="before")
    @classmethod
    def _better_side(cls, mode: object, info: ValidationInfo) -> object:
        metric = info.data.get("metric")
        if metric is None:  # already reported
            return mode or "max"
        better = DIRECTIONS.get(metric)
        if mode is None and better is None:
            raise ValueError(f"`mode` is required with {metric}: max or min")
        if mode in ("max", "min") and better is not None and mode != better:
            raise ValueError(f"must be {better} with {metric}")
        return mode or better


class Guards(Section):
    """What is done about trials that are of no use as they stand.

    A trial has `collapsed` if its network predicts one class, or if its training loss is over twice what it was at the
    first step. Such a trial is only marked; `stop` also ends it after two such epochs in a row, unless it is a run of a
    comparison.
    """

    collapsed: Literal["tell", "stop"] = "tell"


class InstanceSettings(Section):
    """A searcher or scheduler that was passed as an object. Only its class is recorded: whoever resumes the study must
    pass one again.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    kind: Literal["instance"]
    class_name: str = Field(alias="class")  # package.module.Name

    @classmethod
    def of(cls, instance: object) -> InstanceSettings:
        """What a study records about `instance`."""
        kind = type(instance)
        return cls.model_validate({"kind": "instance", "class": f"{kind.__module__}.{kind.__qualname__}"})


class PluginSettings(Section):
    """A searcher or scheduler of another package, by entry point or `package.module:Name`, with settings of its own.

    The settings are recorded in full, defaults included, as the plug-in's `Settings` checked them.
    """

    plugin: ClassVar[PluginKind]
    known: ClassVar[tuple[str, ...]]  # the kinds that need no plug-in

    kind: str
    settings: dict[str, Any] = {}  # noqa: RUF012 (pydantic copies it)

    @field_validator("kind")
    @classmethod
    def _loads(cls, kind: str) -> str:
        if is_recorded(kind):
            return kind
        installed = plugin_names(cls.plugin)
        if kind not in installed and not is_dotted_path(kind):
            close = difflib.get_close_matches(kind, [*cls.known, *installed], n=1, cutoff=0.5)
            hint = f"did you mean `{close[0]}`? " if close else ""
            raise ValueError(
                f"{hint}must be one of {', '.join(map(repr, cls.known))}, or a plug-in: an entry point "
                f"({', '.join(installed) or 'none is installed'}) or package.module:Name"
            )
        load_plugin(cls.plugin, kind)
        return kind

    @field_validator("settings")
    @classmethod
    def _checked(cls, settings: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if "kind" not in info.data or is_recorded(info.data["kind"]):  # without a kind, that was reported
            return settings
        checked = plugin_settings(load_plugin(cls.plugin, info.data["kind"]), settings)
        return {} if checked is None else checked.model_dump(mode="json")


def _by_kind(plugin: type[PluginSettings]) -> Discriminator:
    """Choose by `kind`; one that is not known names a plug-in."""

    def tag(value: object) -> str | None:
        if isinstance(value, Mapping):
            if "kind" not in value:
                return None
            kind = value["kind"]
        else:
            kind = getattr(value, "kind", "")
        return str(kind) if kind in (*plugin.known, "instance") else plugin.__name__

    return Discriminator(tag)


class RandomSettings(Section):
    """Independent draws."""

    kind: Literal["random"] = "random"


class GridSettings(Section):
    """Every combination of a few values of each range and all options of each choice."""

    kind: Literal["grid"] = "grid"


class TPESettings(Section):
    """Tree-structured Parzen estimator (Bergstra et al. 2011), after `startup_trials` random ones."""

    kind: Literal["tpe"] = "tpe"
    startup_trials: Count = 10


class SearcherPlugin(PluginSettings):
    """A searcher of another package; see `search.algorithms.searchers.base`."""

    plugin = "searcher"
    known = ("random", "grid", "tpe")


SearcherSettings = Annotated[
    Annotated[RandomSettings, Tag("random")] | Annotated[GridSettings, Tag("grid")] | Annotated[TPESettings, Tag("tpe")]
    | Annotated[InstanceSettings, Tag("instance")] | Annotated[SearcherPlugin, Tag("SearcherPlugin")],
    _by_kind(SearcherPlugin),
]  # fmt: skip


class NoSchedulerSettings(Section):
    """Every trial runs all its epochs."""

    kind: Literal["none"] = "none"


class HalvingSettings(Section):
    """What the variants of successive halving share.

    Rungs lie at `grace_period` epochs and each `reduction_factor` times the one before.
    """

    kind: str
    grace_period: Count = 1
    reduction_factor: Annotated[int, Field(ge=2, le=1000)] = 3


class ASHASettings(HalvingSettings):
    """Asynchronous successive halving (Li et al. 2020): about 1/`reduction_factor` of the trials passes each rung, the
    others stop there.
    """

    kind: Literal["asha"] = "asha"


class ASHAPromoteSettings(HalvingSettings):
    """The same as the paper has it: at a rung trials pause, and the best 1/`reduction_factor` of them are promoted."""

    kind: Literal["asha_promote"] = "asha_promote"


class HyperbandSettings(HalvingSettings):
    """Hyperband (Li et al. 2018), asynchronously: brackets of ASHA, of which each next one lacks the lowest rung of the
    one before; `grace_period` is that of the first.
    """

    kind: Literal["hyperband"] = "hyperband"


class SchedulerPlugin(PluginSettings):
    """A scheduler of another package; see `search.algorithms.schedulers.base`."""

    plugin = "scheduler"
    known = ("none", "asha", "asha_promote", "hyperband")


SchedulerSettings = Annotated[
    Annotated[NoSchedulerSettings, Tag("none")] | Annotated[ASHASettings, Tag("asha")]
    | Annotated[ASHAPromoteSettings, Tag("asha_promote")] | Annotated[HyperbandSettings, Tag("hyperband")]
    | Annotated[InstanceSettings, Tag("instance")] | Annotated[SchedulerPlugin, Tag("SchedulerPlugin")],
    _by_kind(SchedulerPlugin),
]  # fmt: skip


class ListenerPlugin(PluginSettings):
    """What is called with every event of a study: a plug-in, built as `Listener(study, settings)`."""

    plugin = "listener"
    known = ()
