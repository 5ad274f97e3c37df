"""A study's checkpoint files: where a worker writes them, which one a trial resumes from, and which are retained.

`<study>/checkpoints/trial-0003/leg-02/epoch-0004.pt` holds trial 3 after its fourth epoch, written in its second leg;
`epoch-0004-step-000120.pt` holds it 120 optimizer steps later. No two legs of a study have the same number of the same
trial, so that a worker that was believed dead cannot write into what another one is writing. Names here are relative
to the study's folder, which may be on this machine or in a storage that all machines reach.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from search.journal.comparisons import Comparison
from search.journal.events import ComparisonEnded, EpochReported, Event, TestScored, TrialEnded, TrialStatus
from search.journal.records import TrialRecord
from trainables.result import Mode

if TYPE_CHECKING:  # workers load this module, and none of these
    from search.journal.state import StudyState
    from search.storage.remote import RemoteFolder

__all__ = [
    "CHECKPOINTS", "Retention", "checkpoint_at", "checkpoint_name", "checkpoints", "interrupt_file", "last_written",
    "leg_folder",
]  # fmt: skip

NAME = re.compile(r"leg-(\d+)/epoch-(\d+)(?:-step-(\d+))?\.pt")
CHECKPOINTS = "checkpoints"


def _trial_folder(trial: int) -> str:
    return f"{CHECKPOINTS}/trial-{trial:04d}"


def leg_folder(trial: int, leg: int) -> str:
    """Where the worker of a trial's leg writes."""
    return f"{_trial_folder(trial)}/leg-{leg:02d}"


def interrupt_file(session: int) -> str:
    """Once this exists, the session's workers save their trials and end."""
    return f"{CHECKPOINTS}/interrupt-{session:04d}"


def checkpoint_name(epoch: int, step: int = 0) -> str:
    """The file of a trial that has trained `epoch` epochs, and `step` optimizer steps of the next."""
    return f"epoch-{epoch:04d}-step-{step:06d}.pt" if step else f"epoch-{epoch:04d}.pt"


def checkpoints(study: RemoteFolder, trial: int, reported: int | None = None) -> list[str]:
    """The trial's checkpoints, furthest first, of equal ones the latest leg's; unfinished files are left out.

    Args:
        study: the study's folder.
        trial: the trial's number.
        reported: leaves out what is further than this epoch: a trial that resumed from there would never report the
            epochs between.

    Raises:
        OSError: if the storage cannot be read.
    """
    found: list[tuple[int, int, int, str]] = []
    folder = _trial_folder(trial)
    for file in study.list(folder):
        if match := NAME.fullmatch(file.name):
            leg, epoch, step = (int(number or 0) for number in match.groups())
            if reported is None or epoch <= reported:
                found.append((epoch, step, leg, f"{folder}/{file.name}"))
    return [name for *_, name in sorted(found, reverse=True)]


def checkpoint_at(location: str) -> str:
    """The name of a checkpoint of the study, from its location on the machine that wrote it."""
    return f"{CHECKPOINTS}/" + location.rpartition(f"/{CHECKPOINTS}/")[2]


def last_written(study: RemoteFolder, trial: int) -> float:
    """When the trial last wrote a checkpoint, in seconds since 1970; 0 if there is none.

    Raises:
        OSError: if the storage cannot be read.
    """
    files = study.list(_trial_folder(trial))
    return max((file.written for file in files if NAME.fullmatch(file.name)), default=0.0)


class Retention:
    """Deletes checkpoints that nothing needs anymore; a listener of the driver's events.

    Of a trial that is not over or was completed, the last and the best (by the objective, among those that were
    written) are retained. A trial that was stopped or diverged retains none; one that failed retains what it has, to
    find out why. Of a comparison's runs the winner's are retained, and until the test split was scored the reference's.
    Both methods raise OSError if the storage cannot be reached, and may be called again then.

    Args:
        study: the study's folder.
        state: the driver's, read only.
        metric, mode: the objective.
    """

    def __init__(self, study: RemoteFolder, state: StudyState, metric: str, mode: Mode) -> None:
        self._study, self._state = study, state
        self._metric, self._sign = metric, 1 if mode == "max" else -1
        self._newest: dict[int, str] = {}

    def __call__(self, event: Event) -> None:
        """Delete what one event has made superfluous."""
        if isinstance(event, TrialEnded) and event.status in (TrialStatus.STOPPED, TrialStatus.DIVERGED):
            self._study.delete_folder(_trial_folder(event.trial))
            self._newest.pop(event.trial, None)
        elif isinstance(event, ComparisonEnded | TestScored):
            for run in superfluous(self._state.comparisons[event.comparison - 1]):
                self._study.delete_folder(_trial_folder(run.number))
        elif isinstance(event, EpochReported) and event.checkpoint not in (None, self._newest.get(event.trial)):
            self._prune(self._state.records[event.trial], self._study.name_of(event.checkpoint))
            self._newest[event.trial] = event.checkpoint

    def sweep(self) -> None:
        """Delete what trials have left that were stopped or diverged while the storage was away, or no driver ran."""
        left = {file.name.partition("/")[0] for file in self._study.list(CHECKPOINTS)}
        records = list(self._state.records.values())  # a copy: the driver may be adding to them
        over = [record for record in records if record.status in (TrialStatus.STOPPED, TrialStatus.DIVERGED)]
        over += [run for comparison in self._state.comparisons for run in superfluous(comparison)]
        for folder in {_trial_folder(record.number) for record in over}:
            if folder.rpartition("/")[2] in left:
                self._study.delete_folder(folder)

    def _prune(self, record: TrialRecord, newest: str) -> None:
        files = checkpoints(self._study, record.number)
        if newest not in files:
            return
        # What is further than the newest that was reported is being written right now.
        older = [name for name in files[files.index(newest) + 1 :] if "-step-" not in name]
        values = {epoch.epoch: self._sign * epoch.metrics[self._metric] for epoch in record.history}
        best = max([newest, *older], key=lambda name: values.get(_epoch(name), float("-inf")))
        for name in files[files.index(newest) + 1 :]:
            if name != best:
                self._study.delete(name)


def superfluous(comparison: Comparison) -> list[TrialRecord]:
    """The runs of a comparison that has ended whose networks are of no use anymore."""
    if comparison.ended is None:
        return []
    names = {comparison.ended.winner} if comparison.is_over else {comparison.ended.winner, comparison.started.reference}
    return [run for run in comparison.runs if run.arm not in names and run.status is TrialStatus.COMPLETED]


def _epoch(name: str) -> int:
    return int(PurePosixPath(name).stem.split("-")[1])
