"""An earlier study for a search on the recorded curves: some of the runs on digits, as CIFAR-10 would have them.

What a search on CIFAR-10 has beyond one on digits is set as its recipe does (crops of 4 pixels, flips); digits were
turned instead.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from search.journal.records import Epoch, TrialRecord, TrialStatus
from spaces import Scalar

__all__ = ["EarlierTrial", "earlier_study", "told"]

TRIALS = 48  # random ones, since these were recorded
DECAY, LEAST_DECAY = "optimizer.kind=adamw/optimizer.weight_decay", 1e-3  # the space's


class EarlierTrial(NamedTuple):
    """A point of the new study's space, and the metric after each epoch of the earlier one."""

    values: dict[str, Scalar]
    curve: tuple[float, ...]


@cache
def _runs() -> list[EarlierTrial]:
    rows = pq.read_table(Path(__file__).with_name("curves_digits_resnet8.parquet")).to_pylist()
    whole = max(len(row["val_accuracy"]) for row in rows)
    return [
        EarlierTrial(_carried(json.loads(row["values"])), tuple(row["val_accuracy"]))
        for row in rows if len(row["val_accuracy"]) == whole
    ]  # fmt: skip


def _carried(values: dict[str, Scalar]) -> dict[str, Scalar]:
    carried = {key: value for key, value in values.items() if key != "augment.rotation"}
    if DECAY in carried:
        carried[DECAY] = max(float(carried[DECAY]), LEAST_DECAY)
    return carried | {"augment.pad_crop": 0.125, "augment.flip": True}


def earlier_study(seed: int) -> list[EarlierTrial]:
    """The trials of the earlier study with this seed, the best first."""
    runs = _runs()
    drawn = [runs[i] for i in np.random.default_rng(1000 + seed).choice(len(runs), TRIALS, replace=False)]
    return sorted(drawn, key=lambda trial: -trial.curve[-1])


def told(trials: list[EarlierTrial], metric: str) -> list[TrialRecord]:
    """The trials as a searcher may be told of them: stopped, since their values are on another scale."""
    return [
        TrialRecord(
            number, "prior:digits", trial.values, {}, TrialStatus.STOPPED,
            history=tuple(Epoch(epoch, {metric: value}) for epoch, value in enumerate(trial.curve, 1)),
        )
        for number, trial in enumerate(trials, start=-len(trials))
    ]  # fmt: skip
