"""A lock between processes that the kernel gives back when its holder dies."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["lock"]


@contextmanager
def lock(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold `path` alone, by flock(2); gives False, at once, when it is taken and `wait` is off.

    The file stays behind: removing it would let two processes hold two files of one name.

    Raises:
        OSError: if the file can't be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
