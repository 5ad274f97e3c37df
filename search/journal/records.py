"""Trials as the journal tells them: plain records, rebuilt event by event. Ray's types stop before this module."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from search.journal.events import (
    CostCounted,
    Decided,
    EpochReported,
    Event,
    SessionEnded,
    SessionStarted,
    TrialEnded,
    TrialResumed,
    TrialStatus,
    TrialSuggested,
    WorkerLost,
)
from trainables.config import ConfigError, flatten
from trainables.result import METRICS, Mode

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "BEST_RULE", "Epoch", "Objective", "Study", "StudyResult", "TrialRecord", "TrialStatus", "best_of",
    "collect", "diverged", "fold", "rows",
]  # fmt: skip


BEST_RULE = (
    "{mode} {metric} at the last epoch, among trials that trained all their epochs or until their patience was used "
    "up; ties go to the earlier trial"
)


@dataclass(frozen=True, slots=True)
class Epoch:
    """What a trial reported for one epoch (1 is the first); `time` is when, in seconds since 1970."""

    epoch: int
    metrics: Mapping[str, float]
    time: float = 0.0


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One trial. `values` are its hyperparameters by qualified key, None if it lies outside the space (a recipe may).

    `history` holds each epoch once, in order. `checkpoint` is the path of the newest one that was reported and is kept.
    `leg` counts how often the trial was handed to a worker. `worker_losses` counts the workers it lost in a row without
    a newer checkpoint; `worker_lost_at` is the newest one at the last loss. `failures` counts the errors it raised.
    `started` and `ended` are in seconds since 1970.

    Raises:
        ValueError: if the trial FAILED and no error says why.
    """

    number: int
    origin: str
    values: Mapping[str, Any] | None
    config: Mapping[str, Any]
    status: TrialStatus = TrialStatus.PENDING
    stop_reason: str | None = None
    history: tuple[Epoch, ...] = ()
    checkpoint: str | None = None
    error: str | None = None
    started: float | None = None
    ended: float | None = None
    leg: int = 1
    worker_losses: int = 0
    worker_lost_at: str | None = None
    failures: int = 0

    def __post_init__(self) -> None:
        if self.status is TrialStatus.FAILED and not self.error:
            raise ValueError(f"trial {self.number} is FAILED: `error` must say why")

    def value(self, metric: str) -> float:
        """`metric` at the last epoch; NaN before the first, or if it was not reported."""
        return self.history[-1].metrics.get(metric, math.nan) if self.history else math.nan


class Objective(Protocol):
    """What is optimized."""

    @property
    def metric(self) -> str: ...
    @property
    def mode(self) -> Mode: ...


class Study(Protocol):
    """The part of a StudySpec that results are read with."""

    @property
    def study(self) -> str: ...
    @property
    def objective(self) -> Objective: ...


def fold(records: dict[int, TrialRecord], event: Event) -> None:
    """Apply one event to the records.

    A second result of the same epoch changes nothing, nor does anything about a trial that has ended. A trial that was
    running when a session begins or ends is PENDING: its worker is gone. One that was stopped or diverged has no
    checkpoint any more.

    Raises:
        ConfigError: for a trial that the journal has not introduced.
    """
    if isinstance(event, SessionStarted | SessionEnded):
        for interrupted in [r for r in records.values() if r.status is TrialStatus.RUNNING]:
            records[interrupted.number] = replace(interrupted, status=TrialStatus.PENDING)
        return
    if isinstance(event, CostCounted):
        return
    record = records.get(event.trial)
    if record is None:
        if not isinstance(event, TrialSuggested):
            rule = "must tell of a trial's beginning before its results; a segment is missing or was changed"
            raise ConfigError.single("journal", f"trial {event.trial}", rule)
        records[event.trial] = TrialRecord(
            event.trial, event.origin, event.values, event.config, TrialStatus.RUNNING, started=event.time
        )
    elif not record.status.ended:
        records[event.trial] = _after(record, event)


def _after(record: TrialRecord, event: Event) -> TrialRecord:
    match event:
        case EpochReported() if not record.history or event.epoch > record.history[-1].epoch:
            return replace(
                record,
                status=TrialStatus.RUNNING,
                stop_reason=event.stop_reason,
                history=(*record.history, Epoch(event.epoch, event.metrics, event.time)),
                checkpoint=event.checkpoint or record.checkpoint,
            )
        case Decided(action="pause"):
            return replace(record, status=TrialStatus.PAUSED)
        case Decided(action="promote"):
            return replace(record, status=TrialStatus.PENDING)
        case TrialResumed():
            return replace(record, status=TrialStatus.RUNNING, leg=event.leg)
        case WorkerLost():
            again = record.worker_losses > 0 and event.checkpoint == record.worker_lost_at
            return replace(
                record,
                status=TrialStatus.PENDING,
                worker_losses=record.worker_losses + 1 if again else 1,
                worker_lost_at=event.checkpoint,
                failures=record.failures + (event.cause == "error"),
            )
        case TrialEnded():
            kept = event.status in (TrialStatus.COMPLETED, TrialStatus.FAILED)
            return replace(
                record,
                status=event.status,
                stop_reason=event.stop_reason or record.stop_reason,
                checkpoint=record.checkpoint if kept else None,
                error=event.error,
                ended=event.time,
            )
    return record


def diverged(result: EpochReported, metric: str) -> bool:
    """Whether the trial ends with this result as DIVERGED: `metric`, its objective, or its loss is not finite."""
    watched = (result.metrics.get(metric, math.nan), result.metrics.get("train_loss", math.nan))
    return result.stop_reason == "diverged" or not all(map(math.isfinite, watched))


def best_of(records: Iterable[TrialRecord], metric: str, mode: Mode) -> TrialRecord | None:
    """The best trial by `BEST_RULE`; a value that is not finite never wins. None if no trial qualifies."""
    sign = 1 if mode == "max" else -1
    done = [r for r in records if r.status is TrialStatus.COMPLETED and math.isfinite(r.value(metric))]
    return max(done, key=lambda r: (sign * r.value(metric), -r.number), default=None)


@dataclass(frozen=True)
class StudyResult:
    """Everything a study has found so far; versions, git commit and data fingerprint are those of its last session."""

    spec: Study
    trials: list[TrialRecord]
    versions: Mapping[str, str] = field(default_factory=dict)
    git: str | None = None
    fingerprint: str | None = None

    def best(self, metric: str | None = None, mode: Mode | None = None) -> TrialRecord | None:
        """The best trial by `BEST_RULE`, on the study's own objective unless another is named."""
        objective = self.spec.objective
        return best_of(self.trials, metric or objective.metric, mode or objective.mode)


def collect(spec: Study, events: Iterable[Event]) -> StudyResult:
    """Fold a whole journal.

    Raises:
        ConfigError: as `journal.read` and `fold` do.
    """
    records: dict[int, TrialRecord] = {}
    session: SessionStarted | None = None
    for event in events:
        fold(records, event)
        if isinstance(event, SessionStarted):
            session = event
    trials = [records[number] for number in sorted(records)]
    if session is None:
        return StudyResult(spec, trials)
    return StudyResult(spec, trials, session.versions, session.git, session.fingerprint)


def rows(records: Iterable[TrialRecord]) -> pa.Table:
    """A row per trial and epoch, ordered by both; a trial without epochs has one row whose `epoch` is null.

    Columns: `trial_id`, `epoch` (int64); `status`, `stop_reason`, `origin` (string); every metric (float64), those of
    `EpochResult` first and always; the config flattened under `config.`. A config key that a trial's optimizer or
    schedule does not have is null, and one whose values differ in type over the trials is a string.
    """
    import pyarrow as pa  # here, since most of what reads records writes no table

    ordered = sorted(records, key=lambda record: record.number)
    lines = [(index, epoch) for index, record in enumerate(ordered) for epoch in record.history or (None,)]
    owner = pa.array([index for index, _ in lines], pa.int64())
    fixed: dict[str, pa.Array] = {
        "trial_id": pa.array([record.number for record in ordered], pa.int64()).take(owner),
        "status": pa.array([str(record.status) for record in ordered], pa.string()).take(owner),
        "stop_reason": pa.array([record.stop_reason for record in ordered], pa.string()).take(owner),
        "origin": pa.array([record.origin for record in ordered], pa.string()).take(owner),
        "epoch": pa.array([epoch.epoch if epoch else None for _, epoch in lines], pa.int64()),
    }
    reported = {name for record in ordered for epoch in record.history for name in epoch.metrics}
    names = [*METRICS, *sorted(reported - set(METRICS) - set(fixed))]
    metrics = {
        name: pa.array([epoch.metrics.get(name) if epoch else None for _, epoch in lines], pa.float64())
        for name in names
    }
    configs = [flatten(record.config) for record in ordered]
    keys = dict.fromkeys(key for config in configs for key in config)
    settings = {f"config.{key}": _column([config.get(key) for config in configs]).take(owner) for key in keys}
    return pa.table(fixed | metrics | settings)


def _column(values: list[Any]) -> pa.Array:
    import pyarrow as pa

    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present}
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds and kinds <= {int, float} and all(abs(value) < 2**63 for value in present if type(value) is int):
        return (
            pa.array(values, pa.int64()) if kinds == {int} else pa.array([_as_float(v) for v in values], pa.float64())
        )
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def _as_float(value: float | None) -> float | None:
    return None if value is None else float(value)
