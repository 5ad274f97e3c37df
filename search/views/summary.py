"""Where a study stands, from its journal alone: what `search.status` shows."""

from __future__ import annotations

import contextlib
import os
import textwrap
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from search.journal.cost import spending
from search.journal.error_text import error_summary
from search.journal.events import EpochReported, Event, TrialResumed, TrialStatus, TrialSuggested, WorkerLost
from search.journal.log import holder
from search.journal.records import TrialRecord, best_of, fold
from search.journal.study_folder import SessionRecord, is_over, missing_end, read_study, seconds_used, sessions
from search.study.spec import StudySpec

__all__ = ["Overview", "Trouble", "look"]

MOST_CAUSE = 160  # characters


@dataclass(frozen=True, slots=True)
class Trouble:
    """What went wrong with one trial; `when` is in seconds since 1970, `what` in words, `cause` a line."""

    trial: int
    when: float
    what: str
    cause: str


@dataclass(frozen=True)
class Overview:
    """One look at a study. Times are in seconds since 1970.

    Attributes:
        holder: the driver at work, None if there is none.
        finished: nothing is left to do.
        trials: by number; one that was running when its driver was killed is PENDING.
        seconds: how long all sessions have run, the present one until now.
        cost: what their nodes have cost until then, None if no prices were given.
        cost_an_hour: what the nodes that are there now cost, 0 if nobody searches.
        heard: when each trial was last heard of: handed to a worker, or an epoch reported.
        trouble: losses and failures, the latest first.
        checkpoints: how many checkpoint files there are, and their bytes.
    """

    folder: Path
    spec: StudySpec
    now: float
    holder: str | None
    sessions: list[SessionRecord]
    finished: bool
    trials: list[TrialRecord]
    seconds: float
    cost: float | None
    cost_an_hour: float
    heard: Mapping[int, float]
    trouble: list[Trouble]
    checkpoints: tuple[int, int]

    @property
    def best(self) -> TrialRecord | None:
        """The best trial by `results.BEST_RULE`."""
        return best_of(self.trials, self.spec.objective.metric, self.spec.objective.mode)

    def of(self, status: TrialStatus) -> list[TrialRecord]:
        """The trials in this state."""
        return [record for record in self.trials if record.status is status]


def look(folder: Path) -> Overview:
    """Look at the study in a folder. Takes no lock and writes nothing.

    Raises:
        ConfigError: if study.yaml or journal cannot be read.
    """
    spec, events = read_study(folder)
    while (held := holder(folder / "journal")) is None and _open(events):
        # Killed, or it ended in good order between reading and asking: then the journal says so by now.
        before = events
        spec, events = read_study(folder)
        if _open(events) == _open(before):
            break
    return _overview(folder, spec, events, held, time.time())


def _open(events: Iterable[Event]) -> int | None:
    """The number of the last session, if its end is not written."""
    known = sessions(events)
    return known[-1].number if known and known[-1].reason is None else None


def _overview(folder: Path, spec: StudySpec, events: list[Event], held: str | None, now: float) -> Overview:
    records: dict[int, TrialRecord] = {}
    heard: dict[int, float] = {}
    lost: dict[int, list[WorkerLost]] = {}
    for event in events:
        fold(records, event)
        if isinstance(event, TrialSuggested | TrialResumed | EpochReported):
            heard[event.trial] = event.time
        elif isinstance(event, WorkerLost):
            lost.setdefault(event.trial, []).append(event)
    known = sessions(events)
    over = is_over(spec, list(records.values()), events)
    if held is None and (end := missing_end(events, over)):
        fold(records, end)
    trials = [records[number] for number in sorted(records)]
    seconds, spent = seconds_used(events), spending(events)
    cost, rate = spent.spent, 0.0
    if held is not None and known and known[-1].reason is None:
        seconds += max(now - known[-1].latest, 0.0)
        cost, rate = spent.at(now), spent.rate
    return Overview(
        folder, spec, now, held, known, over or (bool(known) and known[-1].reason == "finished"), trials, seconds,
        cost if spent.counted else None, rate, heard,
        sorted(_trouble(trials, lost), key=lambda trouble: -trouble.when), _size(folder / "checkpoints"),
    )  # fmt: skip


def _trouble(trials: Iterable[TrialRecord], losses: Mapping[int, list[WorkerLost]]) -> Iterable[Trouble]:
    for record in trials:
        lost = losses.get(record.number, [])
        causes = ", ".join(dict.fromkeys(loss.cause for loss in lost))
        counted = f"{len(lost)} loss{'es' * (len(lost) > 1)} ({causes})"
        if record.status is TrialStatus.FAILED and record.error:
            what = f"failed after {counted}" if lost else "failed"
            yield Trouble(record.number, record.ended or 0.0, what, _cause(record.error))
        elif lost:
            yield Trouble(record.number, lost[-1].time, counted, _cause(lost[-1].error))


def _cause(error: str) -> str:
    return textwrap.shorten(error_summary(error), MOST_CAUSE, placeholder=" …")


def _size(folder: Path) -> tuple[int, int]:
    files = size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".pt"):
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile, as checkpoints are
                    size += (Path(parent) / name).stat().st_size
                    files += 1
    return files, size
