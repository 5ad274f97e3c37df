"""The search without Ray: what to try next, what to stop, what to write down.

Every decision and result is in the journal before it takes effect, and everything else (rungs, the sampler's study, the
leaderboard, MLflow) follows from the journal's events in their order. So a driver that replays a journal stands where
the one that wrote it stood.

A trial is trained in legs, each by one worker: a new leg begins where an interruption, a lost worker or a pause at a
rung has left the trial. Ray Tune's own pause is not used: a paused trial keeps its place in Tune's queues, counts as
live and deadlocks a search that waits for it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from search.algorithms.schedulers.base import Scheduler
from search.algorithms.searchers.base import Searcher
from search.journal.cost import CostMeter, Spending
from search.journal.events import (
    CostCounted,
    Decided,
    EpochReported,
    Event,
    SessionEnded,
    SessionStarted,
    TrialEnded,
    TrialResumed,
    TrialSuggested,
    WorkerLost,
)
from search.journal.log import Journal
from search.journal.records import TrialRecord, TrialStatus, diverged, fold
from search.study.spec import StudySpec

__all__ = ["MAX_WORKER_LOSSES", "Cause", "Leg", "StudyDriver"]

MAX_WORKER_LOSSES = (
    3  # in a row without a newer checkpoint: a trial that takes its worker down with it will do so again
)

Cause = Literal["worker_died", "error", "timeout"]


@dataclass(frozen=True, slots=True)
class Leg:
    """A trial, or what is left of it, for one worker. `number` counts the trial's legs from 1."""

    trial: int
    number: int
    config: Mapping[str, Any]


class StudyDriver:
    """Decides for one study; called by the Ray adapters, from one thread.

    Args:
        spec: the study.
        journal: where each event goes first.
        searcher, scheduler: built from the spec.
        records: empty; filled here, and read by whoever shows them.
        listeners: told every event after it is on disk, in order (MLflow, progress).
        now: seconds since the epoch; the time budget counts from the construction of the driver.
        used: seconds of the time budget that earlier sessions have used.

    Attributes:
        records: every trial by number.
        finished: true once every trial has ended and no new one will come (budget or space used up).
    """

    def __init__(
        self,
        spec: StudySpec,
        journal: Journal,
        searcher: Searcher,
        scheduler: Scheduler,
        records: dict[int, TrialRecord],
        listeners: Iterable[Callable[[Event], None]] = (),
        now: Callable[[], float] = time.time,
        used: float = 0.0,
    ) -> None:
        self._spec, self._journal = spec, journal
        self._searcher, self._scheduler = searcher, scheduler
        self._listeners, self._now = tuple(listeners), now
        self._recipes = list(spec.recipes.items())
        hours = spec.budget.hours
        self._deadline = math.inf if hours is None else now() + hours * 3600 - used
        self._meter = CostMeter(spec.resources.prices, spec.budget.max_cost)
        self._under_way: set[int] = set()
        self._lost: dict[int, Cause] = {}
        self.records = records
        self.finished = False
        self.interrupted = False

    @property
    def running(self) -> int:
        """How many trials have a worker, or are about to."""
        return len(self._under_way)

    def rungs(self, trial: int) -> tuple[int, ...]:
        """The epochs at which the trial may be paused, and so must have a checkpoint."""
        return self._scheduler.rungs(trial) if self._scheduler.pauses else ()

    @property
    def spending(self) -> Spending:
        """What the study has cost so far."""
        return self._meter.spending

    def replay(self, events: Iterable[Event]) -> None:
        """Learn what happened before: nothing is written, and listeners are not told."""
        for event in events:
            self._apply(event)

    def record(self, event: SessionStarted | SessionEnded) -> None:
        """Write down that a session begins or ends; whatever was running then has no worker any more."""
        before = self._meter.last_count(event.time) if isinstance(event, SessionEnded) else []
        self._write(*before, event)

    def on_nodes(self, nodes: Mapping[str, int]) -> None:
        """These nodes are alive now, so many of each type; call it often: what they cost is written once a minute."""
        if (counted := self._meter.count(nodes, self._now())) is not None:
            self._write(counted)

    def interrupt(self) -> None:
        """Hand out nothing more; what is running may report or be let go of."""
        self.interrupted = True

    def next_leg(self) -> Leg | None:
        """What a free worker should do; None if there is nothing now, or at all: then `finished` is true.

        Trials that have lost their worker come first, then promotions, then new trials. When nothing runs and nothing
        new will come, each rung that holds paused trials sends its best on, so that somebody is trained to the end;
        what stays paused then is stopped.
        """
        if self.interrupted or self.finished:
            return None
        if (limit := self._limit_reached()) is not None:
            self._stop_waiting(limit)
            self.finished = not self.running
            return None
        waiting = next((r for r in self.records.values() if r.status is TrialStatus.PENDING), None)
        if waiting is not None:
            lost = self._lost.get(waiting.number)
            return self._resume(waiting, "interrupted" if lost is None else f"worker lost: {lost}")
        return self._promote() or self._new_trial() or self._last_promotion()

    def _limit_reached(self) -> str | None:
        """The key of the budget that is used up."""
        now = self._now()
        if now >= self._deadline:
            return "hours"
        return "max_cost" if self._meter.used_up(now) else None

    def _promote(self, final: bool = False) -> Leg | None:
        promotion = self._scheduler.promotion(final=final)
        if promotion is None:
            return None
        rung = promotion.rung
        decided = Decided(
            trial=promotion.trial, epoch=rung, action="promote", rung=rung, cutoff=promotion.cutoff,
            reason=f"rung {rung}",
        )  # fmt: skip
        return self._resume(self.records[promotion.trial], f"promoted at rung {rung}", decided)

    def _resume(self, record: TrialRecord, reason: str, *before: Event) -> Leg:
        leg = record.leg + 1
        resumed = TrialResumed(
            trial=record.number, leg=leg, reason=reason, checkpoint=record.checkpoint, time=self._now()
        )
        self._write(*before, resumed)
        return Leg(record.number, leg, record.config)

    def _new_trial(self) -> Leg | None:
        number = len(self.records)
        if number >= self._spec.budget.trials:
            return None
        if number < len(self._recipes):
            name, recipe = self._recipes[number]
            origin, tree = f"recipe:{name}", recipe.config
            values = self._spec.locate(tree)
        else:
            point = self._searcher.suggest(number)
            if point is None:
                return None
            origin, tree, values = self._spec.searcher.kind, point.tree, dict(point.values)
        config = self._spec.trial_config(tree).model_dump(mode="json")
        self._write(TrialSuggested(trial=number, origin=origin, values=values, config=config, time=self._now()))
        return Leg(number, 1, config)

    def _last_promotion(self) -> Leg | None:
        if self.running:
            return None  # whatever runs may still change who is promoted
        leg = self._promote(final=True)
        if leg is None:
            self._stop_waiting()
            self.finished = True
        return leg

    def _stop_waiting(self, reason: str | None = None) -> None:
        """Stop what waits, for `reason` or else at the rung where it is paused."""
        for record in list(self.records.values()):
            if record.status in (TrialStatus.PENDING, TrialStatus.PAUSED):
                at = record.history[-1].epoch if record.history else 0
                self._write(self._ending(record.number, TrialStatus.STOPPED, reason or f"rung {at}"))

    def on_result(
        self,
        trial: int,
        epoch: int,
        metrics: Mapping[str, float],
        last: bool = False,
        stop_reason: str | None = None,
        checkpoint: str | None = None,
    ) -> bool:
        """Take one epoch's result; true when the trial's worker must let go of it now.

        A result told twice changes nothing. A trial whose loss or objective is not finite ends as DIVERGED before the
        scheduler sees it.
        """
        record = self.records[trial]
        if record.status is not TrialStatus.RUNNING:
            return True
        if record.history and epoch <= record.history[-1].epoch:
            return False
        reported = EpochReported(
            trial=trial, epoch=epoch, metrics=dict(metrics), last=last, stop_reason=stop_reason,
            checkpoint=checkpoint, time=self._now(),
        )  # fmt: skip
        if self._diverged(reported):
            self._write(reported, self._ending(trial, TrialStatus.DIVERGED, "diverged"))
            return True
        decision = self._scheduler.on_result(trial, epoch, self._value(reported))
        action = "continue" if last else decision.action
        events: list[Event] = [reported]
        if decision.rung is not None:
            decided = Decided(
                trial=trial, epoch=epoch, action=action, rung=decision.rung, cutoff=decision.cutoff,
                reason=f"rung {decision.rung}",
            )  # fmt: skip
            events.append(decided)
        if last:
            events.append(self._ending(trial, TrialStatus.COMPLETED, stop_reason or "epochs"))
        elif action == "stop":
            events.append(self._ending(trial, TrialStatus.STOPPED, f"rung {decision.rung}"))
        elif (limit := self._limit_reached()) is not None:
            events.append(self._ending(trial, TrialStatus.STOPPED, limit))
        self._write(*events)
        return self.records[trial].status is not TrialStatus.RUNNING

    def on_worker_lost(self, trial: int, cause: Cause, error: str, checkpoint: str | None) -> None:
        """The trial's worker is gone: it gets another, unless that has been tried often enough.

        Args:
            trial: its number.
            cause: see `WorkerLost`.
            error: what is known about it, for the user.
            checkpoint: the newest on disk.
        """
        record = self.records[trial]
        if record.status is not TrialStatus.RUNNING:
            return
        self._lost[trial] = cause
        lost = WorkerLost(trial=trial, cause=cause, error=error, checkpoint=checkpoint, time=self._now())
        after = {trial: record}
        fold(after, lost)
        if after[trial].failures > self._spec.resources.max_failures:
            self._write(lost, self._ending(trial, TrialStatus.FAILED, "error", error))
        elif after[trial].worker_losses >= MAX_WORKER_LOSSES:
            text = (
                f"lost its worker {MAX_WORKER_LOSSES} times in a row without a newer checkpoint, the last time: {error}"
            )
            self._write(lost, self._ending(trial, TrialStatus.FAILED, cause, text))
        else:
            self._write(lost)

    def release(self, trial: int) -> None:
        """The trial's worker stopped because the search was interrupted; the next session goes on with the trial."""
        self._under_way.discard(trial)

    def should_abandon(self, trial: int) -> bool:
        """Whether a trial that still waits for its worker need not wait any more, because the search is at its end."""
        if self.interrupted:
            self.release(trial)
        elif (limit := self._limit_reached()) is not None:
            self._write(self._ending(trial, TrialStatus.STOPPED, limit))
        return trial not in self._under_way

    def _value(self, result: EpochReported) -> float:
        return result.metrics.get(self._spec.objective.metric, math.nan)

    def _diverged(self, result: EpochReported) -> bool:
        return diverged(result, self._spec.objective.metric)

    def _ending(self, trial: int, status: TrialStatus, reason: str, error: str | None = None) -> TrialEnded:
        return TrialEnded(trial=trial, status=status, stop_reason=reason, error=error, time=self._now())

    def _write(self, *events: Event) -> None:
        self._journal.append(*events)  # together: all of them or none, and the disk is waited for once
        for event in events:
            self._apply(event)
            for listener in self._listeners:
                listener(event)

    def _apply(self, event: Event) -> None:
        """Everything that an event changes, when it happens and when it is replayed."""
        fold(self.records, event)
        self._meter.take(event)
        if isinstance(event, CostCounted):
            return
        if isinstance(event, SessionStarted | SessionEnded):
            self._under_way.clear()
            return
        record = self.records[event.trial]
        if record.status is TrialStatus.RUNNING:
            self._under_way.add(event.trial)
        else:
            self._under_way.discard(event.trial)
        match event:
            case TrialSuggested():
                self._searcher.tell(record)
            case EpochReported() if not self._diverged(event):
                self._scheduler.on_result(event.trial, event.epoch, self._value(event))
            case Decided(action="pause"):
                self._searcher.tell(record)
            case Decided(rung=int(rung)):  # what the journal says counts, whatever the scheduler would say today
                self._scheduler.leave(event.trial, rung)
            case TrialEnded():
                self._searcher.tell(record)
                if record.history:
                    self._scheduler.leave(event.trial, record.history[-1].epoch)
