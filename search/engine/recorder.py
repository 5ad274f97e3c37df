"""A study's state, searcher and scheduler, kept in step with its journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from search.algorithms.schedulers.base import Scheduler
from search.algorithms.searchers.base import Searcher
from search.journal.events import (
    Decided,
    EpochReported,
    Event,
    SessionEvent,
    TrialEnded,
    TrialEvent,
    TrialSuggested,
    WarmStarted,
)
from search.journal.log import Journal
from search.journal.records import TrialStatus, at_rung, diverged, prior_records
from search.journal.state import StudyState

__all__ = ["Recorder"]


class Recorder:
    """Writes events to the journal, applies them, and passes them on; applies those of earlier sessions likewise.

    Args:
        journal: where each event goes first.
        searcher, scheduler: new ones; they hear of the search's trials alone, not of a comparison's runs.
        metric: the objective.
        state: empty; filled here.
        listeners: called with every event that is written.

    Attributes:
        active: the trials that have a worker, or are about to.
    """

    def __init__(
        self, journal: Journal, searcher: Searcher, scheduler: Scheduler, metric: str, state: StudyState,
        listeners: Iterable[Callable[[Event], None]],
    ) -> None:  # fmt: skip
        self._journal, self._searcher, self._scheduler, self._metric = journal, searcher, scheduler, metric
        self._state, self._listeners = state, tuple(listeners)
        self.active: set[int] = set()

    def write(self, *events: Event | None) -> None:
        """Append events to the journal, together: all of them or none, and the disk is waited for once.

        None stands for no event.
        """
        made = [event for event in events if event is not None]
        self._journal.append(*made)
        for event in made:
            self.apply(event)
            for listener in self._listeners:
                listener(event)

    def apply(self, event: Event) -> None:
        """Everything that an event changes, when it happens and when it is replayed."""
        self._state.apply(event)
        if isinstance(event, SessionEvent):
            self.active.clear()
        elif isinstance(event, WarmStarted):
            for record in prior_records(event):
                self._searcher.tell(record)
        elif isinstance(event, TrialEvent):
            self._apply_to_trial(event)

    def _apply_to_trial(self, event: TrialEvent) -> None:
        record = self._state.records[event.trial]
        if record.status is TrialStatus.RUNNING:
            self.active.add(event.trial)
        else:
            self.active.discard(event.trial)
        if record.arm is not None:
            return
        match event:
            case TrialSuggested():
                self._searcher.tell(record)
            case EpochReported() if not diverged(event, self._metric):
                self._scheduler.on_result(event.trial, event.epoch, at_rung(event.metrics, self._metric))
            case Decided(action="pause"):
                self._searcher.tell(record)
            case Decided(rung=int(rung)):  # what the journal says counts, whatever the scheduler would say today
                self._scheduler.leave(event.trial, rung)
            case TrialEnded():
                self._searcher.tell(record)
                if record.history:
                    self._scheduler.leave(event.trial, record.last_epoch)
