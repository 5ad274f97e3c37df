"""The search without Ray: what to try next, what to stop, what to write down.

Every decision and result is in the journal before it takes effect, and everything else (rungs, the sampler's study, the
leaderboard, MLflow) follows from the journal's events in their order.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from search.journal import Decided, EpochReported, Event, Journal, TrialEnded, TrialSuggested
from search.results import TrialRecord, TrialStatus, fold
from search.schedulers import Scheduler
from search.searchers import Searcher
from search.study import StudySpec
from spaces import Point

__all__ = ["StudyDriver"]


class StudyDriver:
    """Decides for one study; called by the Ray adapters, from one thread.

    Args:
        spec: the study.
        journal: where each event goes first.
        searcher, scheduler: built from the spec.
        records: empty; filled here, and read by whoever shows them.
        listeners: told every event after it is on disk, in order (MLflow, progress).
        now: seconds since the epoch; the time budget counts from the construction of the driver.

    Attributes:
        records: every trial by number.
        exhausted: true once no new trial will come (budget or space used up).
        running: how many trials are under way.
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
    ) -> None:
        self._spec, self._journal = spec, journal
        self._searcher, self._scheduler = searcher, scheduler
        self._listeners, self._now = tuple(listeners), now
        self._recipes = list(spec.recipes.items())
        hours = spec.budget.hours
        self._deadline = math.inf if hours is None else now() + hours * 3600
        self.records = records
        self.exhausted = False
        self.running = 0

    def next_trial(self) -> TrialSuggested | None:
        """The next trial to start; None when there is none, and then `exhausted` is true."""
        number = len(self.records)
        if self.exhausted or number >= self._spec.budget.trials or self._now() >= self._deadline:
            self.exhausted = True
            return None
        if number < len(self._recipes):
            name, recipe = self._recipes[number]
            origin, tree = f"recipe:{name}", recipe.config
            values = self._spec.locate(tree)
        else:
            point: Point | None = self._searcher.suggest(number)
            if point is None:
                self.exhausted = True
                return None
            origin, tree, values = self._spec.searcher.kind, point.tree, dict(point.values)
        config = self._spec.trial_config(tree).model_dump(mode="json")
        event = TrialSuggested(trial=number, origin=origin, values=values, config=config, time=self._now())
        self._write(event)
        self.running += 1
        self._searcher.running(self.records[number])
        return event

    def on_result(
        self,
        trial: int,
        epoch: int,
        metrics: Mapping[str, float],
        last: bool = False,
        stop_reason: str | None = None,
        checkpoint: str | None = None,
    ) -> bool:
        """Take one epoch's result; true when the trial must end now.

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
        value = metrics[self._spec.objective.metric]
        if stop_reason == "diverged" or not (math.isfinite(value) and math.isfinite(metrics["train_loss"])):
            return self._end(trial, TrialStatus.DIVERGED, "diverged", before=[reported])
        decision = self._scheduler.on_result(trial, epoch, value)
        stop = decision.stop and not last
        events: list[Event] = [reported]
        if decision.rung is not None:
            decided = Decided(
                trial=trial, epoch=epoch, action="stop" if stop else "continue", rung=decision.rung,
                cutoff=decision.cutoff, reason=f"rung {decision.rung}",
            )  # fmt: skip
            events.append(decided)
        if last:
            return self._end(trial, TrialStatus.COMPLETED, stop_reason or "epochs", before=events)
        if stop:
            return self._end(trial, TrialStatus.STOPPED, f"rung {decision.rung}", before=events)
        if self._now() >= self._deadline:
            return self._end(trial, TrialStatus.STOPPED, "hours", before=events)
        self._write(*events)
        return False

    def on_error(self, trial: int, error: str) -> None:
        """A trial ended with an exception; `error` is its text."""
        if self.records[trial].status is TrialStatus.RUNNING:
            self._end(trial, TrialStatus.FAILED, "error", error)

    def _end(
        self, trial: int, status: TrialStatus, reason: str, error: str | None = None, before: Sequence[Event] = ()
    ) -> bool:
        ended = TrialEnded(trial=trial, status=status, stop_reason=reason, error=error, time=self._now())
        self._write(*before, ended)  # together: the disk is waited for once
        self.running -= 1
        self._searcher.told(self.records[trial])
        return True

    def _write(self, *events: Event) -> None:
        self._journal.append(*events)
        for event in events:
            fold(self.records, event)
            for listener in self._listeners:
                listener(event)
