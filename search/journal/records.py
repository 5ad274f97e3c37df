"""Trials as the journal describes them: plain records. Ray's types stop before this module."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from search.journal.events import (
    RECIPE,
    ComparisonKind,
    Decided,
    EpochReported,
    TrialEnded,
    TrialEvent,
    TrialResumed,
    TrialStatus,
    WarmStarted,
    WorkerLost,
)
from trainables.result import AVERAGED, ClassReport, Collapse, Mode

__all__ = [
    "BEST_RULE", "COLLAPSED", "Epoch", "Mode", "TrialRecord", "TrialStatus", "at_rung", "best_of", "diverged",
    "prior_records", "ranked",
]  # fmt: skip

COLLAPSED = "collapsed"  # the reason why a study that guards against it has stopped a trial
BEST_RULE = (
    "{mode} {metric} at the last epoch, with patience at that of the lowest val_loss, among trials that trained all "
    "their epochs or until their patience was used up; ties go to the earlier trial"
)


@dataclass(frozen=True, slots=True)
class Epoch:
    """What a trial reported for one epoch (1 is the first); `time` is when, in seconds since 1970."""

    epoch: int
    metrics: Mapping[str, float]
    time: float = 0.0
    collapsed: Collapse | None = None


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One trial. `values` are its hyperparameters by qualified key, None if it lies outside the space (a recipe may).

    `history` holds each epoch once, in order. `checkpoint` is the path of the newest reported one that still exists.
    `leg` counts how often the trial was handed to a worker. `worker_losses` counts the workers it lost in a row without
    a newer checkpoint; `worker_lost_at` is the newest one at the last of them. `failures` counts the errors it raised.
    `started` and `ended` are in seconds since 1970. `cutoff` is what the objective was compared with when the scheduler
    stopped or paused the trial; None where nothing was compared, or since it was promoted. `best_epoch` is the epoch
    whose weights an ended trial has left; None stands for the last. `report` says what these weights do class by class;
    only trials that were the best when they ended have one, and the runs of a refit.

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
    cutoff: float | None = None
    best_epoch: int | None = None
    report: ClassReport | None = None

    def __post_init__(self) -> None:
        if self.status is TrialStatus.FAILED and not self.error:
            raise ValueError(f"trial {self.number} is FAILED: `error` must say why")

    @property
    def recipe(self) -> str | None:
        """The name of the recipe that the trial follows; None if the searcher suggested it."""
        return self.origin.removeprefix(RECIPE) if self.origin.startswith(RECIPE) else None

    @property
    def is_prior(self) -> bool:
        """Whether it is a trial of an earlier study, which the searcher alone knows of: its number is below 0."""
        return self.number < 0

    @property
    def arm(self) -> str | None:
        """The arm of a comparison that the trial is a run of; None for a trial of the search."""
        kind, _, name = self.origin.partition(":")
        return name if kind in get_args(ComparisonKind) else None

    @property
    def last_epoch(self) -> int:
        """The last epoch that was reported; 0 before the first."""
        return self.history[-1].epoch if self.history else 0

    @property
    def final(self) -> Epoch | None:
        """The epoch whose weights are the trial's: the last, with patience the best once the trial has ended."""
        if self.best_epoch is None:
            return self.history[-1] if self.history else None
        return next((epoch for epoch in self.history if epoch.epoch == self.best_epoch), None)

    @property
    def final_epoch(self) -> int:
        """The number of the `final` epoch; 0 before the first."""
        return 0 if self.final is None else self.final.epoch

    @property
    def collapsed(self) -> Collapse | None:
        """Why the trial's network is of no use as it stands, if that is so."""
        return None if self.final is None else self.final.collapsed

    def value(self, metric: str) -> float:
        """`metric` at the `final` epoch; NaN before the first, or if it was not reported."""
        return math.nan if self.final is None else self.final.metrics.get(metric, math.nan)

    def seen(self, metric: str) -> dict[int, float]:
        """`metric` by epoch as searchers are told it: `at_rung`, but for the final epoch of a completed trial."""
        own = self.final_epoch if self.status is TrialStatus.COMPLETED else 0
        return {
            each.epoch: each.metrics.get(metric, math.nan) if each.epoch == own else at_rung(each.metrics, metric)
            for each in self.history
        }

    def after(self, event: TrialEvent) -> TrialRecord:
        """The record with one more event of the trial applied.

        A second result of the same epoch changes nothing, nor does anything about a trial that has ended. A trial that
        was stopped or diverged has no checkpoint anymore.
        """
        if self.status.ended:
            return self
        match event:
            case EpochReported() if event.epoch > self.last_epoch:
                return replace(
                    self,
                    status=TrialStatus.RUNNING,
                    stop_reason=event.stop_reason,
                    history=(*self.history, Epoch(event.epoch, event.metrics, event.time, event.collapsed)),
                    checkpoint=event.checkpoint or self.checkpoint,
                    best_epoch=event.best_epoch,
                    report=event.report,
                )
            case Decided(action="stop"):
                return replace(self, cutoff=event.cutoff)
            case Decided(action="pause"):
                return replace(self, status=TrialStatus.PAUSED, cutoff=event.cutoff)
            case Decided(action="promote"):
                return replace(self, status=TrialStatus.PENDING, cutoff=None)
            case TrialResumed():
                return replace(self, status=TrialStatus.RUNNING, leg=event.leg)
            case WorkerLost():
                again = self.worker_losses > 0 and event.checkpoint == self.worker_lost_at
                return replace(
                    self,
                    status=TrialStatus.PENDING,
                    worker_losses=self.worker_losses + 1 if again else 1,
                    worker_lost_at=event.checkpoint,
                    failures=self.failures + (event.cause == "error"),
                )
            case TrialEnded():
                retained = event.status in (TrialStatus.COMPLETED, TrialStatus.FAILED)
                return replace(
                    self,
                    status=event.status,
                    stop_reason=event.stop_reason or self.stop_reason,
                    checkpoint=self.checkpoint if retained else None,
                    error=event.error,
                    ended=event.time,
                )
        return self


def prior_records(event: WarmStarted) -> list[TrialRecord]:
    """The trials of earlier studies as the searcher is told of them: in their order, the last one has the number -1."""
    return [
        TrialRecord(
            number, f"prior:{trial.study}", trial.values, trial.config, trial.status,
            history=tuple(Epoch(epoch, {event.metric: value}) for epoch, value in trial.history.items()),
        )
        for number, trial in enumerate(event.trials, start=-len(event.trials))
    ]  # fmt: skip


def at_rung(metrics: Mapping[str, float], metric: str) -> float:
    """`metric` as schedulers are given it: that of averaged weights where they were scored, else the network's own.

    NaN if it was not reported.
    """
    return metrics.get(AVERAGED + metric, metrics.get(metric, math.nan))


def diverged(result: EpochReported, metric: str) -> bool:
    """Whether the trial ends with this result as DIVERGED: `metric`, its objective, or its loss is not finite."""
    watched = (result.metrics.get(metric, math.nan), result.metrics.get("train_loss", math.nan))
    return result.stop_reason == "diverged" or not all(map(math.isfinite, watched))


def best_of(records: Iterable[TrialRecord], metric: str, mode: Mode) -> TrialRecord | None:
    """The best trial by `BEST_RULE`; a value that is not finite never wins. None if no trial qualifies."""
    best = next(iter(ranked(records, metric, mode)), None)
    completed = best is not None and best.status is TrialStatus.COMPLETED and math.isfinite(best.value(metric))
    return best if completed else None


def ranked(records: Iterable[TrialRecord], metric: str, mode: Mode) -> list[TrialRecord]:
    """Completed trials by their value, best first, then the others by how many epochs they trained."""

    def order(record: TrialRecord) -> tuple[bool, int, float, int]:
        value = record.value(metric)
        completed = record.status is TrialStatus.COMPLETED and math.isfinite(value)
        merit = (value if mode == "max" else -value) if math.isfinite(value) else -math.inf
        return not completed, 0 if completed else -len(record.history), -merit, record.number

    return sorted(records, key=order)
