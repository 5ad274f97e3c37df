"""Who works on a study on this machine: a lock on its journal's folder, which ends with the process that holds it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from trainables.config import ConfigError

__all__ = ["holder", "lock"]

PROBING = 0.1  # seconds, of which a probe of `holder` takes a thousandth


def _file_lock(directory: Path) -> FileLock:
    return FileLock(directory / "lock", timeout=PROBING, poll_interval=PROBING / 10, fallback_to_soft=False)


@contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Hold the study: a second driver on the same journal is refused. Ends with the process, however that ends.

    Args:
        directory: the journal's folder; made if it is missing.

    Raises:
        ConfigError: naming process and machine of the driver that holds it; or if nothing can be locked there.
    """
    file_lock = _file_lock(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file_lock.acquire()
    except Timeout:
        rule = "is held by a running search: wait for it, stop it, or choose another --out"
        raise ConfigError.single(str(directory), _holder_name(directory), rule) from None
    except OSError as error:
        rule = "must be a writable folder on a file system with locks"
        raise ConfigError.single(str(directory), error.strerror, rule) from None
    try:
        Path(file_lock.lock_file).write_text(f"process {os.getpid()} on {platform.node()}\n", encoding="utf-8")
        yield
    finally:
        file_lock.release()


def holder(directory: Path) -> str | None:
    """Process and machine of the driver that holds the study; None if nobody does.

    Probing takes the lock for a moment. Both `lock` and this wait for longer than that, so that no probe is mistaken
    for a driver. Another user's lock cannot be probed: whoever held it last is said to hold it.
    """
    if not (directory / "lock").exists():  # no driver has been here, and a probe must not leave a file
        return None
    file_lock = _file_lock(directory)
    try:
        file_lock.acquire()
    except (Timeout, PermissionError):
        return _holder_name(directory)
    except OSError:
        return None  # a file system without locks, on which no driver can run
    file_lock.release()
    return None


def _holder_name(directory: Path) -> str:
    return (directory / "lock").read_text(encoding="utf-8", errors="replace").strip() or "another process"
