"""The search without Ray: what to try next, what to stop, what to record.

Every decision and result is in the journal before it takes effect, and everything else (rungs, the sampler's study, the
leaderboard, MLflow) follows from the journal's events in their order. So a driver that replays a journal is in the
state of the driver that wrote it.

A trial is trained in legs, each by one worker: a new leg begins where an interruption, a lost worker or a pause at a
rung left the trial. Ray Tune's own pause is not used: a paused trial keeps its place in Tune's queues, counts as live
and deadlocks a search that waits for it.

When the search is over, a comparison may follow. Its runs are trials, too, but not of the search.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from search.algorithms.schedulers.base import Decision, Scheduler
from search.algorithms.searchers.base import Searcher
from search.engine.budget import limit_reached
from search.engine.comparing import Comparer, begun, ended, next_run, open_comparison, superseded
from search.engine.first_trials import Chosen, first_trial
from search.engine.guards import given_up, stops_collapsed
from search.engine.recorder import Recorder
from search.engine.reports import Details, worth_recording
from search.journal.cost import cost_due, final_cost
from search.journal.events import (
    Action,
    Cause,
    Decided,
    EpochReported,
    Event,
    SessionEnded,
    TrialEnded,
    TrialResumed,
    TrialSuggested,
    WorkerLost,
)
from search.journal.log import Journal
from search.journal.records import COLLAPSED, TrialRecord, TrialStatus, at_rung, diverged
from search.journal.state import SEARCH_SHARE, StudyState
from search.study.spec import StudySpec

__all__ = ["Leg", "StudyDriver"]


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
        comparer: decides the comparison that follows the search, if one does.
        searching: False leaves the search as it is and makes the comparison at once.

    Attributes:
        finished: true once nothing more is to be trained (budget or space used up, comparison ended).
        interrupted: whether the session is to end early; `trouble` says why, unless the user wants it.
    """

    def __init__(
        self, spec: StudySpec, journal: Journal, searcher: Searcher, scheduler: Scheduler, state: StudyState,
        listeners: Iterable[Callable[[Event], None]] = (), now: Callable[[], float] = time.time,
        comparer: Comparer | None = None, searching: bool = True,
    ) -> None:  # fmt: skip
        self._metric = spec.objective.metric
        self._log = Recorder(journal, searcher, scheduler, self._metric, state, listeners)
        self._spec, self._searcher, self._scheduler, self._now = spec, searcher, scheduler, now
        self._comparer, self._searching, self._budgeted = comparer, searching, searching
        self._began = now()  # or earlier, by the time that earlier sessions took
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
        return len(self._log.active)

    def rungs(self, trial: int) -> tuple[int, ...]:
        """The epochs at which the trial may be paused, and so must have a checkpoint."""
        pauses = self._scheduler.pauses and self.records[trial].arm is None
        return self._scheduler.rungs(trial) if pauses else ()

    def averaged_at(self, trial: int) -> tuple[int, ...]:
        """The epochs at which the trial is compared by what its averaged weights score."""
        averaged = self._spec.objective.rung_weights == "averaged" and self.records[trial].arm is None
        return self._scheduler.rungs(trial) if averaged else ()

    def replay(self, events: Iterable[Event]) -> None:
        """Apply what happened in earlier sessions: nothing is written, and no listener is called."""
        for event in events:
            self._log.apply(event)
        self._began -= self.state.seconds_used

    def record(self, event: Event) -> None:
        """Record what no trial did: after a session's beginning or end no trial has a worker."""
        before = final_cost(self.state.spending, event.time) if isinstance(event, SessionEnded) else []
        self._log.write(*before, event)

    def on_nodes(self, nodes: Mapping[str, int]) -> None:
        """These nodes are alive now, by type; call it often: what they cost is recorded once a minute."""
        self._log.write(*cost_due(self.state.spending, self._spec.resources.prices, nodes, self._now()))

    def interrupt(self, trouble: str | None = None) -> None:
        """Hand out nothing more; what is running may report or be released."""
        self.interrupted, self.trouble = True, self.trouble or trouble

    def next_leg(self) -> Leg | None:
        """What a free worker should do; None if there is nothing now, or at all: then `finished` is true.

        Trials that have lost their worker come first, then promotions, then new trials. When nothing runs and nothing
        new will come, each rung that holds paused trials promotes its best, so that some trial is trained to the end;
        what stays paused then is stopped. Then come the runs of the comparison.
        """
        if self.interrupted or self.finished:
            return None
        if not self._searching and self._comparer is not None:
            self._log.write(superseded(self._comparer, self.state, self._now()))
        if limit := self._limit_reached():
            self._stop_waiting(limit)
        elif leg := self._resume_waiting() or (self._next_trial() if self._searching else self._next_run()):
            return leg
        if self.running:
            return None
        if self._searching and self._comparer is not None:
            self._searching = False  # what is left of the budget is the comparison's
            return self.next_leg()
        if self._comparer is not None:
            self._log.write(ended(self._comparer, self.state, limit, self._now()))
        self.finished = True
        return None

    def _is_due(self, record: TrialRecord) -> bool:
        """Whether the trial belongs to what is going on: the search, or the comparison that follows."""
        if self._searching or self._comparer is None:
            return record.arm is None
        comparison = open_comparison(self.state, self._comparer.kind)
        return comparison is not None and record in comparison.runs

    def _resume_waiting(self) -> Leg | None:
        waiting = (r for r in self.records.values() if r.status is TrialStatus.PENDING and self._is_due(r))
        if (record := next(waiting, None)) is None:
            return None
        cause = self._lost.get(record.number)
        return self._resume(record, f"worker lost: {cause}" if cause else "interrupted")

    def _limit_reached(self) -> str | None:
        """The key of the budget that is used up. A comparison that does not follow a search here has no budget."""
        if not self._budgeted:
            return None
        share = SEARCH_SHARE if self._searching and self._comparer is not None else 1.0
        now = self._now()
        return limit_reached(self._spec.budget, share, (now - self._began) / 3600, self.state, now)

    def _next_trial(self) -> Leg | None:
        return self._promote() or self._new_trial() or self._last_promotion()

    def _next_run(self) -> Leg | None:
        """The next run of the comparison, which is begun if it is not."""
        if self._comparer is None:
            return None
        self._log.write(begun(self._comparer, self.state, self._now()))
        if (run := next_run(self._comparer, self.state, self._now())) is None:
            return None
        self._log.write(run)
        return Leg(run.trial, 1, self._spec.at_source(run.config))

    def _promote(self, final: bool = False) -> Leg | None:
        if (promotion := self._scheduler.promotion(final=final)) is None:
            return None
        trial, rung = promotion.trial, promotion.rung
        decided = self._decided(trial, rung, "promote", rung, promotion.cutoff)
        return self._resume(self.records[trial], f"promoted at rung {rung}", decided)

    def _resume(self, record: TrialRecord, reason: str, *before: Event) -> Leg:
        trial, leg = record.number, record.leg + 1
        resumed = TrialResumed(trial=trial, leg=leg, reason=reason, checkpoint=record.checkpoint, time=self._now())
        self._log.write(*before, resumed)
        return Leg(trial, leg, self._spec.at_source(record.config))

    def _new_trial(self) -> Leg | None:
        number, searched = len(self.records), len(self.state.trials)
        if searched >= self._spec.budget.trials:
            return None
        if (chosen := first_trial(self._spec, self.state.warm_start, searched)) is None:
            if (point := self._searcher.suggest(number)) is None:
                return None
            chosen = Chosen(self._spec.searcher.kind, point.tree, point.values)
        config = self._spec.trial_config(chosen.tree).model_dump(mode="json")
        seen = [record.config for record in self.records.values()]
        while config in seen:  # the same numbers would say nothing new
            config["seed"] = (config["seed"] + 1) % 2**32
        origin, values = chosen.origin, chosen.values
        self._log.write(TrialSuggested(trial=number, origin=origin, values=values, config=config, time=self._now()))
        return Leg(number, 1, config)

    def _last_promotion(self) -> Leg | None:
        if self.running:
            return None  # whatever runs may still change which trial is promoted
        if (leg := self._promote(final=True)) is None:
            self._stop_waiting()
        return leg

    def _stop_waiting(self, reason: str | None = None) -> None:
        """Stop what waits, for `reason` or else at the rung where it is paused."""
        for record in list(self.records.values()):
            if record.status in (TrialStatus.PENDING, TrialStatus.PAUSED) and self._is_due(record):
                why = reason or f"rung {record.last_epoch}"
                self._log.write(self._ending(record.number, TrialStatus.STOPPED, why))

    def on_result(
        self, trial: int, epoch: int, metrics: Mapping[str, float], last: bool = False, stop_reason: str | None = None,
        checkpoint: str | None = None, details: Details | None = None,
    ) -> bool:  # fmt: skip
        """Take one epoch's result; true if the trial's worker must stop now.

        A repeated result changes nothing. A trial whose loss or objective is not finite ends as DIVERGED before the
        scheduler sees it; one that has collapsed twice in a row is stopped if the study says so.
        """
        record = self.records[trial]
        if record.status is not TrialStatus.RUNNING:
            return True
        if epoch <= record.last_epoch:
            return False
        reported = EpochReported(
            trial=trial, epoch=epoch, metrics=dict(metrics), last=last, stop_reason=stop_reason,
            checkpoint=checkpoint, time=self._now(), **(details or {}),
        )  # fmt: skip
        reported = worth_recording(reported, record, self.state.trials, self._spec.objective)
        if diverged(reported, self._metric):
            self._log.write(reported, self._ending(trial, TrialStatus.DIVERGED, "diverged"))
            return True
        decision = Decision()
        if record.arm is None:
            decision = self._scheduler.on_result(trial, epoch, at_rung(metrics, self._metric))
        action = "continue" if last else decision.action
        events: list[Event] = [reported]
        if decision.rung is not None:
            events.append(self._decided(trial, epoch, action, decision.rung, decision.cutoff))
        if last:
            events.append(self._ending(trial, TrialStatus.COMPLETED, stop_reason or "epochs"))
        elif action == "stop":
            events.append(self._ending(trial, TrialStatus.STOPPED, f"rung {decision.rung}"))
        elif stops_collapsed(self._spec.guards, record, reported):
            events.append(self._ending(trial, TrialStatus.STOPPED, COLLAPSED))
        elif limit := self._limit_reached():
            events.append(self._ending(trial, TrialStatus.STOPPED, limit))
        self._log.write(*events)
        return self.records[trial].status is not TrialStatus.RUNNING

    def on_worker_lost(self, trial: int, cause: Cause, error: str, checkpoint: str | None) -> None:
        """The trial lost its worker: it gets another one, unless that was tried often enough; `error` says why."""
        record = self.records[trial]
        if record.status is not TrialStatus.RUNNING:
            return
        self._lost[trial] = cause
        lost = WorkerLost(trial=trial, cause=cause, error=error, checkpoint=checkpoint, time=self._now())
        self._log.write(lost, given_up(record.after(lost), lost, self._spec.resources.max_failures))

    def release(self, trial: int) -> None:
        """The trial's worker stopped because the search was interrupted; the next session resumes the trial."""
        self._log.active.discard(trial)

    def should_abandon(self, trial: int) -> bool:
        """Whether a trial that still waits for its worker need not wait anymore, because the search is at its end."""
        if self.interrupted:
            self.release(trial)
        elif limit := self._limit_reached():
            self._log.write(self._ending(trial, TrialStatus.STOPPED, limit))
        return trial not in self._log.active

    def _decided(self, trial: int, epoch: int, action: Action, rung: int, cutoff: float | None) -> Decided:
        return Decided(trial=trial, epoch=epoch, action=action, rung=rung, cutoff=cutoff, time=self._now())

    def _ending(self, trial: int, status: TrialStatus, reason: str) -> TrialEnded:
        return TrialEnded(trial=trial, status=status, stop_reason=reason, time=self._now())
