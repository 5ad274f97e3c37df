"""How long a study runs, how it ends, and on what: budget, refit and resources."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator

from search.study.settings import Section
from trainables.config.part import Count, Positive

__all__ = ["Budget", "Refit", "Resources"]


class Budget(Section):
    """`trials` counts recipes; `epochs` is the longest a trial runs, and its schedule's length.

    `hours` and `max_cost` end the search; the latter is in the currency of `resources.prices`, which it needs.
    """

    trials: Count
    epochs: Count
    hours: Positive | None = None
    max_cost: Positive | None = None


class Refit(Section):
    """The last phase of a search: its `top` best trials and the reference recipe, trained with fresh seeds.

    Seeds are added, to at most `seeds`, until one trial is significantly better; then the test split is opened, once.
    `folds` above 1 is cross-validation with so many folds, 1 is the study's own split; null cross-validates where there
    are fewer than 2,000 images to train and validate on. `test_samples` caps the test images, as a smoke run does.
    """

    top: Annotated[int, Field(ge=1, le=100)] = 3
    seeds: Annotated[int, Field(ge=2, le=1000)] = 5
    folds: Annotated[int, Field(ge=1, le=100)] | None = None
    test_samples: Annotated[Count | None, Field(exclude_if=lambda samples: samples is None)] = None


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
