"""The sections of a study beside trial and space: recipes, objective, searcher, scheduler, budget, resources."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationInfo, field_validator

from trainables.config.part import Count, Part, Positive
from trainables.result import DIRECTIONS, METRICS, Mode

__all__ = [
    "ASHAPromoteSettings", "ASHASettings", "Budget", "GridSettings", "HalvingSettings", "NoSchedulerSettings",
    "Objective", "RandomSettings", "Recipe", "Resources", "SchedulerSettings", "SearcherSettings", "TPESettings",
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
        if metric is None:  # already told
            return mode or "max"
        better = DIRECTIONS.get(metric)
        if mode is None and better is None:
            raise ValueError(f"`mode` is required with {metric}: max or min")
        if mode in ("max", "min") and better is not None and mode != better:
            raise ValueError(f"must be {better} with {metric}")
        return mode or better


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


SearcherSettings = Annotated[RandomSettings | GridSettings | TPESettings, Field(discriminator="kind")]


class NoSchedulerSettings(Section):
    """Every trial runs all its epochs."""

    kind: Literal["none"] = "none"


class HalvingSettings(Section):
    """What both variants of ASHA share.

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


SchedulerSettings = Annotated[NoSchedulerSettings | ASHASettings | ASHAPromoteSettings, Field(discriminator="kind")]


class Budget(Section):
    """`trials` counts recipes; `epochs` is the longest a trial runs, and its schedule's length.

    `hours` and `max_cost` end it all; the latter is in the currency of `resources.prices`, which it needs.
    """

    trials: Count
    epochs: Count
    hours: Positive | None = None
    max_cost: Positive | None = None


Price = Annotated[float, Field(ge=0, le=1e9)]
# One price for each node, or one a node type. Told apart by hand, so that a mistake is told once and where it is.
Prices = Annotated[
    Annotated[Price, Tag("each")] | Annotated[dict[str, Price], Field(min_length=1), Tag("by type")],
    Discriminator(lambda prices: "by type" if isinstance(prices, dict) else "each"),
]


def _auto(text: str) -> str:
    if text != "auto":
        raise ValueError("must be a number, or auto")
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
    A trial that raised an error is tried again `max_failures` times; one that has shown no sign of life for
    `timeout_minutes` (no epoch, no checkpoint) is taken to hang, and gets another worker; within a long epoch a
    checkpoint is written every `checkpoint_minutes`. `prices` are those of a node an hour, in any currency: one for
    each node, or by node type, as the cluster's file names them.
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
