"""A study's sessions as its journal tells them: when each ran, and how it ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from search.events import Event, SessionEnded, SessionStarted
from search.results import TrialRecord
from search.study import StudySpec

__all__ = ["SessionRecord", "is_over", "missing_end", "seconds_used", "sessions"]


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One session; times are in seconds since 1970.

    `latest` is when the last of its events was written. `reason` says how it ended, None if no end was written: then
    it is running, or was killed.
    """

    number: int
    started: float
    latest: float
    reason: str | None = None


def sessions(events: Iterable[Event]) -> list[SessionRecord]:
    """Every session in order."""
    found: list[SessionRecord] = []
    latest = 0.0
    for event in events:
        if isinstance(event, SessionStarted):
            _settle(found, latest)
            found.append(SessionRecord(event.session, event.time, event.time))
            latest = event.time
        else:
            latest = max(latest, getattr(event, "time", latest))
            if isinstance(event, SessionEnded) and found:
                found[-1] = replace(found[-1], reason=event.reason)
    _settle(found, latest)
    return found


def _settle(found: list[SessionRecord], latest: float) -> None:
    if found:
        found[-1] = replace(found[-1], latest=latest)


def seconds_used(events: Iterable[Event]) -> float:
    """How long the study's sessions have run; a killed one ran until the last thing that it wrote."""
    return sum(session.latest - session.started for session in sessions(events))


def is_over(spec: StudySpec, trials: Sequence[TrialRecord], events: Sequence[Event]) -> bool:
    """Whether nothing is left to do: all trials have ended, and the budget of trials or hours is used up."""
    if not trials or not all(record.status.ended for record in trials):
        return False
    hours = spec.budget.hours
    out_of_time = hours is not None and seconds_used(events) >= hours * 3600
    return len(trials) >= spec.budget.trials or out_of_time


def missing_end(events: Sequence[Event], over: bool) -> SessionEnded | None:
    """The end of the last session that its driver could not write, because it was killed; None if there is one.

    For views of a journal that nobody writes any more: to them its trials would be running for ever.
    """
    known = sessions(events)
    if not known or known[-1].reason is not None:
        return None
    last = known[-1]
    return SessionEnded(session=last.number, reason="finished" if over else "killed", time=last.latest)
