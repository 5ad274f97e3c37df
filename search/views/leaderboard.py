"""The trials in order of merit, each against the published recipe, as rows that a terminal or a report can show."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from search.journal.records import TrialRecord, TrialStatus
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
    """One trial: its value at its last epoch, the gain over the reference recipe (None without one), its config."""

    trial: int
    origin: str
    status: TrialStatus
    epochs: int
    value: float
    gain: float | None
    recipe: str


def reference(spec: StudySpec, records: Iterable[TrialRecord]) -> tuple[str, float] | None:
    """Name and final value of the study's first recipe, the published one; None until it has ended well."""
    for record in records:
        if record.number == 0 and record.status is TrialStatus.COMPLETED and record.origin.startswith("recipe:"):
            return record.origin.removeprefix("recipe:"), record.value(spec.objective.metric)
    return None


def leaderboard(spec: StudySpec, records: Iterable[TrialRecord]) -> list[Row]:
    """Completed trials by value, then the others by how far they came."""
    records = list(records)
    metric, sign = spec.objective.metric, 1 if spec.objective.mode == "max" else -1
    baseline = reference(spec, records)

    def order(record: TrialRecord) -> tuple[bool, int, float, int]:
        value = record.value(metric)
        completed = record.status is TrialStatus.COMPLETED and math.isfinite(value)
        merit = sign * value if math.isfinite(value) else -math.inf
        return not completed, 0 if completed else -len(record.history), -merit, record.number

    rows = []
    for record in sorted(records, key=order):
        value = record.value(metric)
        gain = None if baseline is None or not math.isfinite(value) else value - baseline[1]
        epochs = record.history[-1].epoch if record.history else 0
        rows.append(Row(record.number, record.origin, record.status, epochs, value, gain, _words(record)))
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
