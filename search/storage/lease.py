"""Who searches a study in a storage: a lock without a file system's locks, kept by a heartbeat."""

from __future__ import annotations

import json
import os
import platform
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from search.storage.remote import RemoteFolder
from trainables.config import ConfigError

__all__ = ["Lease"]

NAME = "journal/lock.json"
BEAT = 10.0  # seconds
SILENCE = 35.0  # seconds without a heartbeat after which its driver is dead, or cannot reach the storage
LOOK = 2.0
SETTLED = 0.5  # of two that write at the same moment, each sees by now whose was the last


class Lease:
    """Held by one driver at a time, from `acquire` to `release`; `beat` must be called every `BEAT` seconds.

    Nothing depends on clocks of different machines agreeing: a heartbeat is a number that changes. A driver that was
    killed on this machine is known to be dead at once; one that died elsewhere, after `SILENCE`.

    Args:
        study: the study's folder.
        tell: shows the user a line.
    """

    def __init__(self, study: RemoteFolder, tell: Callable[[str], None]) -> None:
        self._study, self._tell = study, tell
        self._holder = {
            "process": os.getpid(), "machine": platform.node(), "processes": _process_table(), "id": uuid.uuid4().hex,
        }  # fmt: skip
        self._beats = 0

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            ConfigError: naming the driver that holds it.
            OSError: if the storage cannot be reached.
        """
        found = self._read()
        if found is not None and not self._is_dead(found):
            self._watch(found)
        self.beat(first=True)
        time.sleep(SETTLED)
        if not self.held():
            self._refuse(self._read() or self._holder)

    def beat(self, *, first: bool = False) -> bool:
        """Show that the driver lives; false if the lock is another's now.

        Raises:
            OSError: if the storage cannot be reached.
        """
        if not (first or self.held()):
            return False
        self._beats += 1
        self._study.write(NAME, json.dumps(self._holder | {"beat": self._beats}).encode())
        return True

    def held(self) -> bool:
        """Whether the lock is still this driver's.

        Raises:
            OSError: if the storage cannot be reached.
        """
        return (self._read() or {}).get("id") == self._holder["id"]

    def release(self) -> None:
        """Let go.

        Raises:
            OSError: if the storage cannot be reached.
        """
        if self.held():
            self._study.delete(NAME)

    def _read(self) -> dict[str, Any] | None:
        text = self._study.read(NAME)
        try:
            found = json.loads(text) if text else None
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    def _is_dead(self, found: dict[str, Any]) -> bool:
        here = self._holder["processes"]
        if here is None or found.get("processes") != here or not isinstance(found.get("process"), int):
            return False
        try:
            os.kill(found["process"], 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # somebody else's, and so alive
            return False
        return False

    def _watch(self, found: dict[str, Any]) -> None:
        self._tell(
            f"waiting up to {SILENCE:.0f} s to see whether {_named(found)} still searches {self._study.location}"
        )
        deadline = time.monotonic() + SILENCE
        while time.monotonic() < deadline:
            time.sleep(LOOK)
            now = self._read()
            if now is None:
                return
            if now != found:
                self._refuse(now)

    def _refuse(self, found: dict[str, Any]) -> None:
        rule = "is held by a running search: wait for it, stop it, or choose another --storage"
        raise ConfigError.single(self._study.location, _named(found), rule)


def _process_table() -> str | None:
    """Which machine's processes, or which container's, this process sees; None where that cannot be known.

    A host name does not say it: containers share it, and so do machines that nobody has named.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _named(found: dict[str, Any]) -> str:
    return f"process {found.get('process')} on {found.get('machine')}"
