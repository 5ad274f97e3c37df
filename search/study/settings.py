"""The sections of a study beside trial and space: recipes, objective, searcher, scheduler, budget, resources."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationInfo, field_validator

from trainables.config.part import Count, Part, Positive
from trainables.config.plugins import PluginKind, is_dotted_path, load_plugin, plugin_names, plugin_settings
from trainables.result import DIRECTIONS, METRICS, Mode

__all__ = [
    "ASHAPromoteSettings", "ASHASettings", "Budget", "GridSettings", "HalvingSettings", "HyperbandSettings",
    "InstanceSettings", "ListenerPlugin", "NoSchedulerSettings", "Objective", "PluginSettings",
    "RandomSettings", "Recipe", "Resources", "SchedulerSettings", "SearcherSettings", "TPESettings",
]  # fmt: skip


class Section(Part):
    """A section of a study."""


class Recipe(Section):
    """A known configuration, tried before the search: overrides of the trial's defaults, and where they come from."""

    description: str = ""
    source: str = ""
    config: dict[str, Any]


class Objective(Section):
    """What is searched for: the best `metric` of a trial's last epoch; `mode` follows from the metric if left out."""

    metric: str = "val_accuracy"
    mode: Mode = None  # type: ignore[assignment]

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
        if "kind" not in info.data:  # already reported
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


class Budget(Section):
    """`trials` counts recipes; `epochs` is the longest a trial runs, and its schedule's length.

    `hours` and `max_cost` end the search; the latter is in the currency of `resources.prices`, which it needs.
    """

    trials: Count
    epochs: Count
    hours: Positive | None = None
    max_cost: Positive | None = None


Price = Annotated[float, Field(ge=0, le=1e9)]
# One price for each node, or one a node type. Distinguished by hand, so that a mistake is reported once, where it is.
Prices = Annotated[
    Annotated[Price, Tag("each")] | Annotated[dict[str, Price], Field(min_length=1), Tag("by type")],
    Discriminator(lambda prices: "by type" if isinstance(prices, dict) else "each"),
]


def _auto(text: str) -> str:
    if text != "auto":
        raise ValueError("must be a number, 0 for none, or auto")
    return text


GPUs = Annotated[
    Annotated[Annotated[float, Field(ge=0, allow_inf_nan=False)], Tag("number")]
    | Annotated[Literal["auto"], BeforeValidator(_auto), Tag("measured")],
    Discriminator(lambda gpus: "measured" if isinstance(gpus, str) else "number"),
]


class Resources(Section):
    """What trials run on: null means as many at once as fit, and a GPU each where there are GPUs.

    A fraction of a GPU lets several trials share one; `auto` is measured, so that as many share it as fit. CPUs and
    GPUs above 1 are whole numbers, as Ray wants them. With `fuse` the trials of a GPU take their steps together, as one
    network, where they have the same architecture and batch.
    A trial that raised an error is tried again `max_failures` times; one that reported neither an epoch nor a
    checkpoint for `timeout_minutes` has timed out, and gets another worker; within a long epoch a checkpoint is written
    every `checkpoint_minutes`. `prices` are those of a node an hour, in any currency: one for each node, or by node
    type, as the cluster's file names them.
    """

    concurrent: Count | None = None
    cpus_per_trial: Positive = 1.0
    gpus_per_trial: GPUs | None = None
    fuse: bool = False
    max_failures: Annotated[int, Field(ge=0)] = 1
    timeout_minutes: Positive = 60.0
    checkpoint_minutes: Positive = 10.0
    prices: Prices | None = None

    @property
    def of_a_trial(self) -> dict[str, float]:
        """What one trial asks Ray for."""
        return {"CPU": self.cpus_per_trial, "GPU": self.gpus}

    @property
    def gpus(self) -> float:
        """GPUs of one trial; none before that is decided, and a whole one before it is measured."""
        return 1.0 if self.gpus_per_trial == "auto" else self.gpus_per_trial or 0.0

    @field_validator("cpus_per_trial", "gpus_per_trial")
    @classmethod
    def _whole_above_one(cls, amount: float | Literal["auto"] | None) -> float | Literal["auto"] | None:
        if isinstance(amount, float) and amount > 1 and amount != int(amount):
            raise ValueError("must be a whole number above 1")
        return amount
