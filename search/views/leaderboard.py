"""The trials, best first, each against the published recipe, as rows that a terminal or a report can show."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from search.journal.records import TrialRecord, TrialStatus, ranked
from search.study.spec import StudySpec
from trainables.config import flatten

__all__ = ["Row", "leaderboard", "reference"]

# What tells recipes apart at a glance, most telling first, and how a narrow terminal names it.
SHOWN = {
    "optimizer.kind": "", "optimizer.lr": "lr", "optimizer.weight_decay": "wd", "schedule.kind": "",
    "augment.strength": "aug", "augment.policy": "", "model.frozen_stages": "frozen", "batch_size": "batch",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One trial, with its value at the last epoch.

    `source` is the recipe or the searcher that it comes from, `gain` that over the reference recipe (None without one),
    `config` what stands out of its config, in words.
    """

    trial: int
    source: str
    status: TrialStatus
    epochs: int
    value: float
    gain: float | None
    config: str


def reference(spec: StudySpec, records: Iterable[TrialRecord]) -> tuple[str, float] | None:
    """Name and final value of the study's first recipe, the published one; None until it has completed."""
    for record in records:
        if record.number == 0 and record.status is TrialStatus.COMPLETED and record.recipe is not None:
            return record.recipe, record.value(spec.objective.metric)
    return None


def leaderboard(spec: StudySpec, records: Iterable[TrialRecord]) -> list[Row]:
    """Completed trials by value, then the others by how many epochs they trained."""
    records = list(records)
    objective, baseline = spec.objective, reference(spec, records)
    rows = []
    for record in ranked(records, objective.metric, objective.mode):
        value, source = record.value(objective.metric), record.recipe or record.origin
        gain = None if baseline is None or not math.isfinite(value) else value - baseline[1]
        rows.append(Row(record.number, source, record.status, record.last_epoch, value, gain, _words(record)))
    return rows


def _words(record: TrialRecord) -> str:
    flat = flatten(record.config)
    words = []
    for key, name in SHOWN.items():
        value = flat.get(key)
        if value not in (None, "none", 0):
            text = f"{value:.2g}" if isinstance(value, float) else str(value)
            words.append(f"{name} {text}".strip())
    return ", ".join(words)
