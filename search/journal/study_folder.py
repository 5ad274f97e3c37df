"""Studies as they lie on disk: found by name or path, read back, and what their sessions were."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from search.journal.cost import spending
from search.journal.events import Event, SessionEnded, SessionStarted
from search.journal.log import read, segments
from search.journal.records import TrialRecord
from search.study.parse import load_study
from search.study.spec import StudySpec
from trainables.config import ConfigError

__all__ = ["SessionRecord", "find_study", "is_over", "missing_end", "read_study", "seconds_used", "sessions"]


def find_study(study: str, out: Path) -> Path:
    """The folder of a study that has been begun: `out/<study>`, or a path if `study` has a slash or is `.` or `..`.

    Raises:
        ConfigError: naming the studies that are there, if this is none.
    """
    separators = {"/", os.sep, os.altsep} - {None}
    is_path = study in (".", "..") or any(str(mark) in study for mark in separators)
    folder = Path(study).expanduser().absolute() if is_path else out / study
    folder = Path(os.path.normpath(folder))  # `.` and `..` have no name to look beside
    if study and segments(folder / "journal"):
        return folder
    parent = folder.parent if study else out
    known = sorted({path.parent.parent.name for path in parent.glob("*/journal/*.jsonl")}) if parent.is_dir() else []
    there = f"there are {', '.join(known)}" if known else "there is none; --out names the folder of another search"
    raise ConfigError.single("STUDY", study, f"must be a study in {parent}: {there}")


def read_study(folder: Path) -> tuple[StudySpec, list[Event]]:
    """The study in a folder, and its journal. Takes no lock and writes nothing: a driver may be at work.

    Raises:
        ConfigError: naming the file, and the line of a journal, that cannot be read.
    """
    return load_study(str(folder / "study.yaml")), list(read(folder / "journal"))


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
    """Whether nothing is left to do: all trials have ended, and the budget of trials, hours or money is used up."""
    if not trials or not all(record.status.ended for record in trials):
        return False
    hours = spec.budget.hours
    out_of_time = hours is not None and seconds_used(events) >= hours * 3600
    most = spec.budget.max_cost
    out_of_money = most is not None and spending(events).spent >= most
    return len(trials) >= spec.budget.trials or out_of_time or out_of_money


def missing_end(events: Sequence[Event], over: bool) -> SessionEnded | None:
    """The end of the last session that its driver could not write, because it was killed; None if there is one.

    For views of a journal that nobody writes any more: to them its trials would be running for ever.
    """
    known = sessions(events)
    if not known or known[-1].reason is not None:
        return None
    last = known[-1]
    return SessionEnded(session=last.number, reason="finished" if over else "killed", time=last.latest)
