"""Where a study stands, from its journal alone: what `search.status` shows."""

from __future__ import annotations

import contextlib
import os
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from search.journal.error_text import error_summary
from search.journal.events import TrialStatus
from search.journal.locks import holder
from search.journal.records import TrialRecord, best_of
from search.journal.state import StudyState
from search.journal.study_folder import read_study
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
        state: after all events; a session that was killed ends in it as "killed".
        checkpoints: how many checkpoint files there are, and their bytes.
    """

    folder: Path
    spec: StudySpec
    now: float
    holder: str | None
    state: StudyState
    checkpoints: tuple[int, int]

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        reasons = [session.reason or "" for session in self.state.sessions]
        searched = [reason for reason in reasons if not reason.endswith(" finished")]
        return self.state.is_over(self.spec) or searched[-1:] == ["finished"]

    @property
    def word(self) -> str:
        """The study's state: `new`, `running`, `finished`, `killed`, or `interrupted` for every other end."""
        sessions = self.state.sessions
        if self.holder is not None:
            return "running"
        if not sessions:
            return "new"
        return "finished" if self.finished else "killed" if sessions[-1].reason == "killed" else "interrupted"

    @property
    def age(self) -> float | None:
        """Seconds since the last event; None before the first."""
        sessions = self.state.sessions
        return max(self.now - sessions[-1].latest, 0.0) if sessions else None

    @property
    def trials(self) -> list[TrialRecord]:
        """Every trial by number; one that was running when its driver was killed is PENDING."""
        return self.state.trials

    @property
    def seconds(self) -> float:
        """How long all sessions have run, the present one until now."""
        running = self.state.open_session
        return self.state.seconds_used + (max(self.now - running.latest, 0.0) if running else 0.0)

    @property
    def cost(self) -> float | None:
        """What the nodes of all sessions have cost until now; None if no prices were given."""
        spending = self.state.spending
        if not spending.counted:
            return None
        return spending.at(self.now) if self.state.open_session else spending.spent

    @property
    def cost_an_hour(self) -> float:
        """What the nodes that are alive now cost; 0 if no session is running."""
        return self.state.spending.rate if self.state.open_session else 0.0

    @property
    def best(self) -> TrialRecord | None:
        """The best trial by `records.BEST_RULE`."""
        return best_of(self.trials, self.spec.objective.metric, self.spec.objective.mode)

    @property
    def trouble(self) -> list[Trouble]:
        """Lost workers and failed trials, the latest first."""
        return sorted(_trouble(self.state), key=lambda trouble: -trouble.when)

    def of(self, status: TrialStatus) -> list[TrialRecord]:
        """The trials in this state."""
        return [record for record in self.trials if record.status is status]


def look(folder: Path) -> Overview:
    """Look at the study in a folder. Takes no lock and writes nothing.

    Raises:
        ConfigError: if study.yaml or journal cannot be read.
    """
    before: StudyState | None = None
    while True:
        spec, events = read_study(folder)
        state, held = StudyState.of(events), holder(folder / "journal")
        if held is not None or state.open_session is None:
            break
        # Killed, or closed properly between reading and asking for the holder: then the journal says so by now.
        if before is not None and before.sessions[-1:] == state.sessions[-1:]:
            break
        before = state
    if held is None and (end := state.missing_end(spec)):
        state.apply(end)
    return Overview(folder, spec, time.time(), held, state, _size(folder / "checkpoints"))


def _trouble(state: StudyState) -> Iterator[Trouble]:
    for record in state.trials:
        lost = state.worker_losses.get(record.number, [])
        causes = ", ".join(dict.fromkeys(loss.cause for loss in lost))
        counted = f"{len(lost)} worker{'s' * (len(lost) > 1)} lost ({causes})"
        if record.status is TrialStatus.FAILED and record.error:
            what = f"failed, {counted}" if lost else "failed"
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
