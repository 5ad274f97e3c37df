"""One process at a time writes a study to MLflow, since two could each make a run for the same trial.

A driver that was killed leaves a process behind that still writes what it was told, while the next driver's, or
`search.track`, begins.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

__all__ = ["WriterLock"]


class WriterLock:
    """The right to write a study to MLflow; it ends with the process, however that ends.

    Args:
        journal: the study's journal, in whose folder the lock lies. Where nothing can be written or locked no driver
            can run either, and everybody may read the journal and write to MLflow.
    """

    def __init__(self, journal: Path) -> None:
        self._path = journal / "mlflow.lock"
        self._file: int | None = None

    def acquire(self) -> bool:
        """Take it, without waiting; whether this process has it."""
        if self._file is not None:
            return True
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:
            return True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(file)
            return not isinstance(error, BlockingIOError)
        self._file = file
        return True

    def release(self) -> None:
        """Let others write."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
