"""Short trainings through our own loop: the same steps with a setting changed, side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from trainables.config import TrialConfig, merge, parse_config
from trainables.data.images import Splits, load_splits
from trainables.diagnosis.subject import Outcome, Subject
from trainables.training.loop import Run
from trainables.training.weights import normalization_for

__all__ = ["Plan", "Short", "plan", "range_losses", "short_run"]

# What the steps of one short training may take, in GFLOP (multiply-adds): about ten seconds of one processor core.
TRAIN_GFLOP, GPU_FACTOR = 500.0, 50
FEWEST_STEPS, MOST_STEPS = 20, 60
LARGEST_BATCH, SMALLEST_BATCH = 64, 16
FEW = 16  # images that are scored after each epoch, of which there may be many: the last one is what counts


@dataclass(frozen=True)
class Plan:
    """How long a short training is: so many steps of so many images."""

    steps: int
    batch: int

    @property
    def words(self) -> str:
        """For a reader."""
        return f"{self.steps} steps of {self.batch} images"


@dataclass(frozen=True)
class Short:
    """What a short training comes to on validation images."""

    accuracy: float
    recall: float

    @classmethod
    def of(cls, outcome: Outcome) -> Short:
        """The scores of a network."""
        return cls(outcome.accuracy, outcome.recall)


def plan(subject: Subject) -> Plan | None:
    """The short trainings that this machine can afford.

    None if the network is too large for any, or its classes are not those of the images, in their order.
    """
    if subject.classes != tuple(range(subject.num_classes)):
        return None
    budget = TRAIN_GFLOP * (GPU_FACTOR if subject.device.type == "cuda" else 1)
    each = 3 * subject.gflops  # a backward pass takes two forward ones
    batch = min(subject.config.batch_size, len(subject.splits.train))
    if batch > LARGEST_BATCH:
        batch = LARGEST_BATCH
    if each * FEWEST_STEPS * batch > budget:
        batch = min(batch, SMALLEST_BATCH)
    steps = int(min(budget / (each * batch), MOST_STEPS))
    return None if steps < FEWEST_STEPS else Plan(steps, batch)


def short_run(
    subject: Subject, planned: Plan, changes: Mapping[str, Any], *, continued: bool = False, images: int | None = None
) -> Short:  # fmt: skip
    """Train for some steps with some settings changed, the whole schedule pressed into them.

    Args:
        subject: whose config and images are taken.
        planned: how many steps, of how many images.
        changes: nested keys of a TrialConfig, laid over the subject's.
        continued: whether to start from the subject's weights; otherwise from its initial ones.
        images: how many training images to take; None: as many as the steps need.
    """
    config, splits = _shortened(subject, planned, changes, images)
    run = Run(config, splits)
    if continued:
        run.network.load_state_dict(subject.model.state_dict())
    for _ in run.steps():
        pass
    normalization = normalization_for(config, splits.train, splits.store)
    return Short.of(subject.outcome(subject.splits.val, model=run.model, normalization=normalization))


def _shortened(
    subject: Subject, planned: Plan, changes: Mapping[str, Any], images: int | None
) -> tuple[TrialConfig, Splits]:
    """The config of a short training, and its images: the first ones of each split, which are stratified."""
    tree = subject.config.model_dump(mode="json")
    batch = int(changes.get("batch_size", planned.batch))
    count = min(images or len(subject.splits.train), planned.steps * batch, len(subject.splits.train))
    steps_an_epoch = max(count // min(batch, count), 1)
    data = {"train_samples": count, "val_samples": FEW, "train_eval_samples": FEW}
    fixed = {
        "data": data, "epochs": max(1, round(planned.steps / steps_an_epoch)), "batch_size": batch,
        "regularization": {"patience": None, "ema_decay": 0.0}, "execution": {"compile": False},
    }  # fmt: skip
    config = parse_config(merge(merge(tree, fixed), changes))
    store = subject.splits.store
    return config, load_splits(config.data, Path(store.directory).parent, store)


class _Recorded(Run):
    """A run whose learning rates are given step by step, and whose losses are kept."""

    def __init__(self, config: TrialConfig, splits: Splits, rates: Sequence[float]) -> None:
        super().__init__(config, splits)
        self._rates = rates
        self.losses: list[float] = []

    def _lr(self, step: int) -> float:
        return self._rates[min(len(self.losses), len(self._rates) - 1)]

    def learn(self, loss: Tensor) -> None:
        super().learn(loss)
        self.losses.append(float(loss.detach()))


def range_losses(subject: Subject, planned: Plan, rates: Sequence[float]) -> list[float]:
    """The training loss of each step while the learning rate rises, up to the first that is not finite.

    Without augmentation, weight decay and clipping, each of which has a check of its own.
    """
    changes = {
        "augment": {"strength": 0.0}, "optimizer": {"weight_decay": 0.0},
        "regularization": {"clip_norm": None, "label_smoothing": 0.0},
    }  # fmt: skip
    config, splits = _shortened(subject, planned, changes, None)
    run = _Recorded(config, splits, rates)
    for _ in run.steps():
        if len(run.losses) >= len(rates) or (run.losses and not math.isfinite(run.losses[-1])):
            break
    return run.losses
