"""Who searches a study in a storage: a lock without a file system's locks, renewed by a heartbeat."""

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
from trainables.files import write_text

__all__ = ["Lease"]

NAME = "journal/lock.json"
BEAT = 10.0  # seconds
EXPIRES = 35.0  # seconds without a heartbeat after which its driver is dead, or cannot reach the storage
LOOK = 2.0
SETTLED = 0.5  # of two that write at the same moment, each sees by now whose was the last


class Lease:
    """Held by one driver at a time, from `acquire` to `release`; `beat` must be called every `BEAT` seconds.

    Nothing depends on clocks of different machines agreeing: a heartbeat is a number that changes. A lease of this
    very folder is taken over at once: its driver is dead, since the caller holds the folder's own lock. Any other is
    dead after `EXPIRES`. Every method raises OSError if the storage cannot be reached.

    Args:
        study: the study's folder in the storage.
        name: a file of the study's folder on this machine that names it in the lease; made if it is missing.
        tell: shows the user a line.
    """

    def __init__(self, study: RemoteFolder, name: Path, tell: Callable[[str], None]) -> None:
        self._study, self._name, self._tell = study, name, tell
        self._holder: dict[str, Any] = {"process": os.getpid(), "machine": platform.node()}
        self._beats = 0

    def acquire(self) -> None:
        """Take the lease.

        Raises:
            ConfigError: naming the driver that holds it.
        """
        if not self._name.exists():
            write_text(self._name, uuid.uuid4().hex)
        # With the machine's name: a copy of the folder on another machine is not this folder.
        self._holder["id"] = f"{platform.node()} {self._name.read_text(encoding='utf-8')}"
        found = self._read()
        if found is not None and found.get("id") != self._holder["id"]:
            self._watch(found)
        self._write()
        time.sleep(SETTLED)
        if not self.held():
            self._refuse(self._read() or self._holder)

    def beat(self) -> bool:
        """Renew the lease; false if it is another driver's now."""
        if not self.held():
            return False
        self._write()
        return True

    def held(self) -> bool:
        """Whether the lease is still this driver's."""
        return bool((self._read() or {}).get("id") == self._holder["id"])

    def release(self) -> None:
        """End the lease, unless it is another driver's now."""
        if self.held():
            self._study.delete(NAME)

    def _write(self) -> None:
        self._beats += 1
        self._study.write(NAME, json.dumps(self._holder | {"beat": self._beats}).encode())

    def _read(self) -> dict[str, Any] | None:
        text = self._study.read(NAME)
        return json.loads(text) if text else None

    def _watch(self, found: dict[str, Any]) -> None:
        """Wait until the lease has expired; refuse if its driver renews it meanwhile."""
        whose = f"{_driver(found)} still searches {self._study.location}"
        self._tell(f"waiting up to {EXPIRES:.0f} s to see whether {whose}")
        deadline = time.monotonic() + EXPIRES
        while time.monotonic() < deadline:
            time.sleep(LOOK)
            now = self._read()
            if now is None:
                return
            if now != found:
                self._refuse(now)

    def _refuse(self, found: dict[str, Any]) -> None:
        rule = "is held by a running search: wait for it, stop it, or choose another --storage"
        raise ConfigError.single(self._study.location, _driver(found), rule)


def _driver(lease: dict[str, Any]) -> str:
    return f"process {lease.get('process')} on {lease.get('machine')}"
