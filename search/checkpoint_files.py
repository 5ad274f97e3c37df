"""A study's checkpoint files: where a worker writes them, which one a trial goes on from, and which are kept.

`<study>/checkpoints/trial-0003/leg-02/epoch-0004.pt` holds trial 3 after its fourth epoch, written in its second leg;
`epoch-0004-step-000120.pt` holds it 120 optimizer steps later. No two legs of a study have the same number of the same
trial, so that a worker that was thought dead cannot write into what another one writes now.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from search.events import EpochReported, Event, TrialEnded, TrialStatus
from search.results import Mode, TrialRecord

__all__ = ["Retention", "checkpoint_name", "checkpoints", "interrupt_file", "leg_folder"]

NAME = re.compile(r"leg-(\d+)/epoch-(\d+)(?:-step-(\d+))?\.pt")
FOLDER = "checkpoints"


def leg_folder(study: Path, trial: int, leg: int) -> Path:
    """Where the worker of a trial's leg writes."""
    return study / FOLDER / f"trial-{trial:04d}" / f"leg-{leg:02d}"


def interrupt_file(study: Path, session: int) -> Path:
    """Once this exists, the session's workers save their trials and let go of them."""
    return study / FOLDER / f"interrupt-{session:04d}"


def checkpoint_name(epoch: int, step: int = 0) -> str:
    """The file of a trial that has trained `epoch` epochs, and `step` optimizer steps of the next."""
    return f"epoch-{epoch:04d}-step-{step:06d}.pt" if step else f"epoch-{epoch:04d}.pt"


def checkpoints(study: Path, trial: int, reported: int | None = None) -> list[Path]:
    """The trial's checkpoints, furthest first, of equal ones the latest leg's. Unfinished files are none.

    Args:
        study: the study's folder.
        trial: the trial's number.
        reported: leaves out what is further than this epoch: a trial that went on from there would never report the
            epochs between.
    """
    found: list[tuple[int, int, int, Path]] = []
    folder = study / FOLDER / f"trial-{trial:04d}"
    for path in folder.glob("leg-*/epoch-*.pt"):
        if match := NAME.fullmatch(f"{path.parent.name}/{path.name}"):
            leg, epoch, step = (int(number or 0) for number in match.groups())
            if reported is None or epoch <= reported:
                found.append((epoch, step, leg, path))
    return [path for *_, path in sorted(found, reverse=True)]


class Retention:
    """Deletes checkpoints that nothing needs any more; a listener of the driver's events.

    Of a trial that goes on or was completed, the last and the best (by the objective, among those that were written)
    are kept. A trial that was stopped or diverged keeps none; one that failed keeps what it has, to find out why.

    Args:
        study: the study's folder.
        records: the driver's, read only.
        metric, mode: the objective.
    """

    def __init__(self, study: Path, records: Mapping[int, TrialRecord], metric: str, mode: Mode) -> None:
        self._study, self._records = study, records
        self._metric, self._sign = metric, 1 if mode == "max" else -1
        self._newest: dict[int, str] = {}

    def __call__(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, TrialEnded) and event.status in (TrialStatus.STOPPED, TrialStatus.DIVERGED):
            shutil.rmtree(self._study / FOLDER / f"trial-{event.trial:04d}", ignore_errors=True)
            self._newest.pop(event.trial, None)
        elif isinstance(event, EpochReported) and event.checkpoint not in (None, self._newest.get(event.trial)):
            self._newest[event.trial] = event.checkpoint
            self._prune(self._records[event.trial], Path(event.checkpoint))

    def _prune(self, record: TrialRecord, newest: Path) -> None:
        files = checkpoints(self._study, record.number)
        if newest not in files:
            return
        # What is further than the newest that was reported is being written now.
        older = [path for path in files[files.index(newest) + 1 :] if "-step-" not in path.name]
        values = {epoch.epoch: self._sign * epoch.metrics[self._metric] for epoch in record.history}
        best = max([newest, *older], key=lambda path: values.get(_epoch(path), float("-inf")))
        for path in files[files.index(newest) + 1 :]:
            if path != best:
                path.unlink(missing_ok=True)


def _epoch(path: Path) -> int:
    return int(path.stem.split("-")[1])
