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
        directory: the study's journal, beside which the lock lies.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "mlflow.lock"
        self._file: int | None = None
        self._free_for_all = False

    def acquire(self) -> bool:
        """Take it, without waiting; whether this process has it."""
        if self._file is not None or self._free_for_all:
            return True
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:
            self._free_for_all = True  # where no lock can be made, no driver can run either
            return True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            self._free_for_all = not isinstance(error, BlockingIOError)  # likewise without locks
            return self._free_for_all
        self._file = handle
        return True

    def release(self) -> None:
        """Let others write."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
