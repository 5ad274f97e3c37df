"""Who holds a study, asked without getting in anybody's way.

Testing an flock means taking it, if only for a moment, and a driver that starts in that moment would be refused. So
the kernel's own account of the process that the lock file names is read instead, which takes nothing.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
from pathlib import Path

__all__ = ["holder"]

HELD = re.compile(r"^lock:.*\bFLOCK\b.*\bWRITE\b", re.MULTILINE)
NAMED = re.compile(r"process (\d+) on (.+)")


def holder(directory: Path) -> str | None:
    """The driver that holds the study whose journal is in `directory`, as its lock file names it; None if nobody does.

    A driver on another machine (with the study on a shared disk), one that belongs to another user, or any where
    there is no /proc, can only be found by trying the lock. That is done for reading, so that several that ask do
    not see each other, and takes microseconds, in which a driver that starts would have to be started again.
    """
    path = directory / "lock"
    try:
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None  # no driver has been here, or none could: a lock must be readable to be taken
    named = NAMED.fullmatch(text)
    here = named is not None and named[2] == platform.node()
    held = _holds(int(named[1]), path) if named is not None and here else None
    if held is None:
        held = _is_taken(path)
    return (text or "another process") if held else None


def _holds(process: int, path: Path) -> bool | None:
    """Whether a process of this machine has the file locked; None if that cannot be known."""
    if not Path("/proc/self/fdinfo").is_dir():
        return None
    try:
        wanted = path.stat()
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            try:
                if os.path.samestat(descriptor.stat(), wanted):
                    told = Path(f"/proc/{process}/fdinfo/{descriptor.name}").read_text(encoding="utf-8")
                    if HELD.search(told):
                        return True
            except (FileNotFoundError, ProcessLookupError):  # closed meanwhile, or a pipe
                continue
    except (FileNotFoundError, ProcessLookupError):
        return False  # the process is gone, and its locks with it
    except OSError:
        return None
    return False


def _is_taken(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # a file system without locks, on which no driver can run
    finally:
        os.close(handle)
    return False
