"""Whether a journal can have happened: every event held against those before it and against the study.

`search.journal` reads lines that are events. One that was cut out, doubled, moved or written by hand leaves lines that
are events as well, and tell of what no driver does: a result of a trial that has ended, a trial promoted while it runs.
To go on from such a journal would be to search from a state that never was, or to fail far from the cause.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from search.algorithms.schedulers.registry import build_scheduler
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
from search.journal.records import TrialRecord, diverged, fold
from search.study.spec import StudySpec
from spaces.space import check
from trainables.config import ConfigError, parse_config

__all__ = ["checked"]

Due = Literal["decision", "end"]


def checked(spec: StudySpec, told: Iterable[tuple[str, Event]]) -> list[Event]:
    """The events alone, all of which a driver of the study can have written, in this order.

    What was decided, and when, is not judged: a later version may decide otherwise, and a clock may be set.

    Args:
        spec: the study.
        told: each event and where it stands, from `journal.read_places`.

    Raises:
        ConfigError: naming file, line and rule for the first that cannot be.
    """
    history, events, place = _History(spec), list[Event](), "journal"
    for place, event in told:
        if (rule := history.rule_broken(event)) is not None:
            raise _refusal(place, event, rule)
        history.take(event)
        events.append(event)
    if history.due:
        raise _refusal(place, events[-1], f"must be followed by the trial's {history.due[0]}")
    return events


def _refusal(place: str, event: Event, rule: str) -> ConfigError:
    trial = getattr(event, "trial", None)
    what = event.event if trial is None else f"{event.event} of trial {trial}"
    return ConfigError.single(place, what, f"{rule}; a line is missing or was changed")


class _History:
    """What is known before an event."""

    def __init__(self, spec: StudySpec) -> None:
        self._spec = spec
        self._scheduler = build_scheduler(spec)
        self._records: dict[int, TrialRecord] = {}
        self._epochs: dict[int, int] = {}  # that each trial was to train
        self._finished: set[int] = set()  # trials that reported their last epoch
        self._session, self._open = 0, False
        self._cost = 0.0  # when it was counted last
        self._latest: int | None = None  # the trial of the last event
        self.due: list[Due] = []  # what the last event is always written together with

    def take(self, event: Event) -> None:
        """Learn that the event happened."""
        fold(self._records, event)
        if isinstance(event, SessionStarted | SessionEnded):
            self._session, self._open = event.session, isinstance(event, SessionStarted)
            return
        if isinstance(event, CostCounted):
            self._cost = event.total
            return
        self._latest = event.trial
        self.due = self.due[1:]
        if isinstance(event, EpochReported):
            if event.last:
                self._finished.add(event.trial)
            has_diverged = diverged(event, self._spec.objective.metric)
            if not has_diverged and event.epoch in self._scheduler.rungs(event.trial):
                self.due.append("decision")
            if has_diverged or event.last:
                self.due.append("end")

    def rule_broken(self, event: Event) -> str | None:
        """The rule that the event breaks; None if it can have happened."""
        if self.due and (event.event != self.due[0] or getattr(event, "trial", None) != self._latest):
            return f"must come after the {self.due[0]} of trial {self._latest}"
        match event:
            case SessionStarted():
                return None if event.session > self._session else f"must be of a session after {self._session}"
            case SessionEnded():
                return None if self._open and event.session == self._session else "must end the session that runs"
            case _ if not self._open:
                return "must stand between the beginning and the end of a session"
            case CostCounted():
                falls = f"must not be below the cost counted before, {self._cost:g}"
                return falls if event.total < self._cost else None
            case TrialSuggested():
                return self._suggested(event)
        record = self._records.get(event.trial)
        if record is None:
            return "must be of a trial that was suggested before"
        if record.status.ended:
            return f"must not come after the trial's end as {record.status}"
        return self._of_trial(event, record)

    def _suggested(self, event: TrialSuggested) -> str | None:
        if event.trial != len(self._records):
            return f"must be of trial {len(self._records)}, the next"
        recipes = list(self._spec.recipes)
        is_recipe = event.trial < len(recipes)
        origin = f"recipe:{recipes[event.trial]}" if is_recipe else self._spec.searcher.kind
        if event.origin != origin:
            return f"must have the origin {origin}, as the study says"
        if event.values is not None:
            if problems := check(self._spec.parsed_space, event.values):
                return f"must hold values of the study's space (values.{problems[0]})"
        elif not is_recipe:
            return "must hold values of the study's space"
        try:
            self._epochs[event.trial] = parse_config(event.config).epochs
        except ConfigError as error:
            return f"must hold a valid config (config.{error.problems[0]})"
        return None

    def _of_trial(self, event: Event, record: TrialRecord) -> str | None:
        at = record.history[-1].epoch if record.history else 0
        status = record.status
        match event:
            case EpochReported():
                return self._reported(event, at) or _while(status, TrialStatus.RUNNING)
            case Decided():
                if event.epoch != at or event.rung != at:
                    return f"must be about the trial's last epoch ({at}), as rung and epoch"
                return _while(status, TrialStatus.PAUSED if event.action == "promote" else TrialStatus.RUNNING)
            case TrialResumed():
                if event.leg != record.leg + 1:
                    return f"must be leg {record.leg + 1} of the trial, not {event.leg}"
                return _while(status, TrialStatus.PENDING)
            case WorkerLost():
                return _while(status, TrialStatus.RUNNING)
            case TrialEnded(status=TrialStatus.COMPLETED) if event.trial not in self._finished:
                return "must not be COMPLETED without a last epoch"
        return None

    def _reported(self, event: EpochReported, at: int) -> str | None:
        if event.epoch != at + 1:
            return f"must be of epoch {at + 1}, not {event.epoch}"
        if event.epoch > self._epochs[event.trial]:
            return f"must be of at most the {self._epochs[event.trial]} epochs of the trial's config"
        if self._spec.objective.metric not in event.metrics or not all(map(str.isidentifier, event.metrics)):
            return f"must hold {self._spec.objective.metric}, and names of metrics only"
        return None


def _while(status: TrialStatus, needed: TrialStatus) -> str | None:
    return None if status is needed else f"must come while the trial is {needed}, not {status}"
