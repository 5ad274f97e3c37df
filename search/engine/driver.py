"""The search without Ray: what to try next, what to stop, what to record.

Every decision and result is in the journal before it takes effect, and everything else (rungs, the sampler's study, the
leaderboard, MLflow) follows from the journal's events in their order. So a driver that replays a journal is in the
state of the driver that wrote it.

A trial is trained in legs, each by one worker: a new leg begins where an interruption, a lost worker or a pause at a
rung left the trial. Ray Tune's own pause is not used: a paused trial keeps its place in Tune's queues, counts as live
and deadlocks a search that waits for it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from search.algorithms.schedulers.base import Scheduler
from search.algorithms.searchers.base import Searcher
from search.journal.cost import cost_due, final_cost
from search.journal.events import (
    RECIPE,
    Action,
    Cause,
    Decided,
    EpochReported,
    Event,
    SessionEnded,
    SessionEvent,
    SessionStarted,
    TrialEnded,
    TrialEvent,
    TrialResumed,
    TrialSuggested,
    WorkerLost,
)
from search.journal.log import Journal
from search.journal.records import TrialRecord, TrialStatus, diverged
from search.journal.state import StudyState
from search.study.spec import StudySpec

__all__ = ["MAX_WORKER_LOSSES", "Leg", "StudyDriver"]

MAX_WORKER_LOSSES = 3  # in a row without a newer checkpoint: a trial that kills its worker will do so again


class Leg(NamedTuple):
    """A trial, or what is left of it, for one worker. `number` counts the trial's legs from 1."""

    trial: int
    number: int
    config: Mapping[str, Any]


class StudyDriver:
    """Decides for one study; called by the Ray adapters, from one thread.

    Args:
        spec: the study.
        journal: where each event goes first.
        searcher, scheduler: new ones, as the spec says.
        state: empty; filled here, and read by whoever shows it.
        listeners: called with every event after it is on disk, in order (MLflow, progress).
        now: seconds since 1970; the time budget counts from the construction of the driver.

    Attributes:
        finished: true once every trial has ended and no new one will come (budget or space used up).
        interrupted: whether the session is to end early; `trouble` says why, unless the user wants it.
    """

    def __init__(
        self, spec: StudySpec, journal: Journal, searcher: Searcher, scheduler: Scheduler, state: StudyState,
        listeners: Iterable[Callable[[Event], None]] = (), now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._spec, self._journal = spec, journal
        self._searcher, self._scheduler = searcher, scheduler
        self._listeners, self._now = tuple(listeners), now
        self._recipes, self._metric = list(spec.recipes.items()), spec.objective.metric
        hours = spec.budget.hours
        self._deadline = math.inf if hours is None else now() + hours * 3600
        self._active: set[int] = set()  # trials that have a worker, or are about to
        self._lost: dict[int, Cause] = {}  # why a trial lost its worker last, in this session
        self.state = state
        self.finished = self.interrupted = False
        self.trouble: str | None = None

    @property
    def records(self) -> Mapping[int, TrialRecord]:
        """Every trial by number."""
        return self.state.records

    @property
    def running(self) -> int:
        """How many trials have a worker, or are about to."""
        return len(self._active)

    def rungs(self, trial: int) -> tuple[int, ...]:
        """The epochs at which the trial may be paused, and so must have a checkpoint."""
        return self._scheduler.rungs(trial) if self._scheduler.pauses else ()

    def replay(self, events: Iterable[Event]) -> None:
        """Apply what happened in earlier sessions: nothing is written, and no listener is called."""
        for event in events:
            self._apply(event)
        self._deadline -= self.state.seconds_used

    def record(self, event: SessionStarted | SessionEnded) -> None:
        """Record that a session begins or ends; whatever was running then has no worker anymore."""
        before = final_cost(self.state.spending, event.time) if isinstance(event, SessionEnded) else []
        self._write(*before, event)

    def on_nodes(self, nodes: Mapping[str, int]) -> None:
        """These nodes are alive now, by type; call it often: what they cost is recorded once a minute."""
        self._write(*cost_due(self.state.spending, self._spec.resources.prices, nodes, self._now()))

    def interrupt(self, trouble: str | None = None) -> None:
        """Hand out nothing more; what is running may report or be released."""
        self.interrupted, self.trouble = True, self.trouble or trouble

    def next_leg(self) -> Leg | None:
        """What a free worker should do; None if there is nothing now, or at all: then `finished` is true.

        Trials that have lost their worker come first, then promotions, then new trials. When nothing runs and nothing
        new will come, each rung that holds paused trials promotes its best, so that some trial is trained to the end;
        what stays paused then is stopped.
        """
        if self.interrupted or self.finished:
            return None
        if limit := self._limit_reached():
            self._stop_waiting(limit)
            self.finished = not self.running
            return None
        waiting = next((r for r in self.records.values() if r.status is TrialStatus.PENDING), None)
        if waiting:
            cause = self._lost.get(waiting.number)
            return self._resume(waiting, f"worker lost: {cause}" if cause else "interrupted")
        return self._promote() or self._new_trial() or self._last_promotion()

    def _limit_reached(self) -> str | None:
        """The key of the budget that is used up."""
        now, max_cost = self._now(), self._spec.budget.max_cost
        if now >= self._deadline:
            return "hours"
        return "max_cost" if max_cost is not None and self.state.spending.at(now) >= max_cost else None

    def _promote(self, final: bool = False) -> Leg | None:
        promotion = self._scheduler.promotion(final=final)
        if promotion is None:
            return None
        trial, rung = promotion.trial, promotion.rung
        decided = self._decided(trial, rung, "promote", rung, promotion.cutoff)
        return self._resume(self.records[trial], f"promoted at rung {rung}", decided)

    def _resume(self, record: TrialRecord, reason: str, *before: Event) -> Leg:
        trial, leg = record.number, record.leg + 1
        resumed = TrialResumed(trial=trial, leg=leg, reason=reason, checkpoint=record.checkpoint, time=self._now())
        self._write(*before, resumed)
        return Leg(trial, leg, self._spec.at_source(record.config))

    def _new_trial(self) -> Leg | None:
        number = len(self.records)
        if number >= self._spec.budget.trials:
            return None
        if number < len(self._recipes):
            name, recipe = self._recipes[number]
            origin, tree = f"{RECIPE}{name}", recipe.config
            values = self._spec.locate(tree)
        else:
            point = self._searcher.suggest(number)
            if point is None:
                return None
            origin, tree, values = self._spec.searcher.kind, point.tree, dict(point.values)
        config = self._spec.trial_config(tree).model_dump(mode="json")
        seen = [record.config for record in self.records.values()]
        while config in seen:  # the same numbers would say nothing new
            config["seed"] = (config["seed"] + 1) % 2**32
        self._write(TrialSuggested(trial=number, origin=origin, values=values, config=config, time=self._now()))
        return Leg(number, 1, config)

    def _last_promotion(self) -> Leg | None:
        if self.running:
            return None  # whatever runs may still change which trial is promoted
        leg = self._promote(final=True)
        if leg is None:
            self._stop_waiting()
            self.finished = True
        return leg

    def _stop_waiting(self, reason: str | None = None) -> None:
        """Stop what waits, for `reason` or else at the rung where it is paused."""
        for record in list(self.records.values()):
            if record.status in (TrialStatus.PENDING, TrialStatus.PAUSED):
                why = reason or f"rung {record.last_epoch}"
                self._write(self._ending(record.number, TrialStatus.STOPPED, why))

    def on_result(
        self, trial: int, epoch: int, metrics: Mapping[str, float], last: bool = False, stop_reason: str | None = None,
        checkpoint: str | None = None,
    ) -> bool:  # fmt: skip
        """Take one epoch's result; true if the trial's worker must stop now.

        A repeated result changes nothing. A trial whose loss or objective is not finite ends as DIVERGED before the
        scheduler sees it.
        """
        record = self.records[trial]
        if record.status is not TrialStatus.RUNNING:
            return True
        if epoch <= record.last_epoch:
            return False
        reported = EpochReported(
            trial=trial, epoch=epoch, metrics=dict(metrics), last=last, stop_reason=stop_reason,
            checkpoint=checkpoint, time=self._now(),
        )  # fmt: skip
        if diverged(reported, self._metric):
            self._write(reported, self._ending(trial, TrialStatus.DIVERGED, "diverged"))
            return True
        decision = self._scheduler.on_result(trial, epoch, metrics[self._metric])
        action = "continue" if last else decision.action
        events: list[Event] = [reported]
        if decision.rung is not None:
            events.append(self._decided(trial, epoch, action, decision.rung, decision.cutoff))
        if last:
            events.append(self._ending(trial, TrialStatus.COMPLETED, stop_reason or "epochs"))
        elif action == "stop":
            events.append(self._ending(trial, TrialStatus.STOPPED, f"rung {decision.rung}"))
        elif limit := self._limit_reached():
            events.append(self._ending(trial, TrialStatus.STOPPED, limit))
        self._write(*events)
        return self.records[trial].status is not TrialStatus.RUNNING

    def on_worker_lost(self, trial: int, cause: Cause, error: str, checkpoint: str | None) -> None:
        """The trial lost its worker: it gets another one, unless that was tried often enough; `error` says why."""
        record = self.records[trial]
        if record.status is not TrialStatus.RUNNING:
            return
        self._lost[trial] = cause
        lost = WorkerLost(trial=trial, cause=cause, error=error, checkpoint=checkpoint, time=self._now())
        after, events = record.after(lost), list[Event]([lost])
        if after.failures > self._spec.resources.max_failures:
            events.append(self._ending(trial, TrialStatus.FAILED, "error", error))
        elif after.worker_losses >= MAX_WORKER_LOSSES:
            count = f"{MAX_WORKER_LOSSES} times in a row without a newer checkpoint"
            text = f"lost its worker {count}, the last time: {error}"
            events.append(self._ending(trial, TrialStatus.FAILED, cause, text))
        self._write(*events)

    def release(self, trial: int) -> None:
        """The trial's worker stopped because the search was interrupted; the next session resumes the trial."""
        self._active.discard(trial)

    def should_abandon(self, trial: int) -> bool:
        """Whether a trial that still waits for its worker need not wait anymore, because the search is at its end."""
        if self.interrupted:
            self.release(trial)
        elif limit := self._limit_reached():
            self._write(self._ending(trial, TrialStatus.STOPPED, limit))
        return trial not in self._active

    def _decided(self, trial: int, epoch: int, action: Action, rung: int, cutoff: float | None) -> Decided:
        return Decided(trial=trial, epoch=epoch, action=action, rung=rung, cutoff=cutoff, time=self._now())

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
        self.state.apply(event)
        if not isinstance(event, TrialEvent):
            if isinstance(event, SessionEvent):
                self._active.clear()
            return
        record = self.records[event.trial]
        if record.status is TrialStatus.RUNNING:
            self._active.add(event.trial)
        else:
            self._active.discard(event.trial)
        match event:
            case TrialSuggested():
                self._searcher.tell(record)
            case EpochReported() if not diverged(event, self._metric):
                self._scheduler.on_result(event.trial, event.epoch, event.metrics[self._metric])
            case Decided(action="pause"):
                self._searcher.tell(record)
            case Decided(rung=int(rung)):  # what the journal says counts, whatever the scheduler would say today
                self._scheduler.leave(event.trial, rung)
            case TrialEnded():
                self._searcher.tell(record)
                if record.history:
                    self._scheduler.leave(event.trial, record.last_epoch)
