"""A study's folder kept in a storage as well, so that a search outlives the machine that it was started on.

The journal is written on this machine first, as ever, and copied within a second or so; what the storage has is at any
moment a beginning of what is here, and so the journal of a search that might have been killed then. Whatever must not
be ahead of it (the deletion of checkpoints, MLflow) follows the copy.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from search.events import Event
from search.journal import lock, segments
from search.storage import Storage, first_line
from search.storage_lock import BEAT, StorageLock
from trainables.config import ConfigError

__all__ = ["Mirror", "fetch_study", "has_study"]

OUTPUTS = ("study.yaml", "trials.parquet", "optuna.db", "best_config.yaml")
INTERVAL = 1.0  # seconds between two copies of the journal, more where one takes long
SHARE = 0.05  # of the time spent copying, at most
LONGEST_WAIT = 60.0  # seconds between two attempts while the storage is away
PATIENCE = 60.0  # seconds for the last copies


def fetch_study(study: Storage, folder: Path) -> None:
    """Bring a study's journal and its YAML here, if the storage has more of it than `folder`.

    Raises:
        ConfigError: if both have what the other lacks, a search holds the folder, or the storage cannot be read.
    """
    try:
        there = {Path(stored.name).name: stored for stored in study.list("journal") if stored.name.endswith(".jsonl")}
        if not there:
            return
        with lock(folder / "journal"):
            here = {path.name: path.read_bytes() for path in segments(folder / "journal")}
            contents = {name: study.read(f"journal/{name}") or b"" for name in sorted(there)}
            if _begins(contents, here):
                return
            if not _begins(here, contents):
                rule = (
                    f"holds results that {study.location} lacks, where the search went on without them: choose another "
                    f"--out, into which it is fetched, or --fresh to start another search"
                )
                raise ConfigError.single("--out", str(folder), rule)
            for name in contents:
                study.get(f"journal/{name}", folder / "journal" / name)
            study.get("study.yaml", folder / "study.yaml")
    except OSError as error:
        rule = f"must be readable ({first_line(error)}); the same command tries again"
        raise ConfigError.single("--storage", study.location, rule) from None


def has_study(study: Storage) -> bool:
    """Whether a study has been begun in this folder of a storage.

    Raises:
        ConfigError: if the storage cannot be read.
    """
    try:
        return any(stored.name.endswith(".jsonl") for stored in study.list("journal"))
    except OSError as error:
        raise ConfigError.single("--storage", study.location, f"must be readable ({first_line(error)})") from None


def _begins(first: dict[str, bytes], second: dict[str, bytes]) -> bool:
    """Whether each of the first's segments is a beginning of the second's."""
    return all(name in second and second[name].startswith(content) for name, content in first.items())


class Mirror:
    """Copies a study's folder to a storage, in a thread; a listener of the driver's events, and a context manager.

    Within the context the storage is locked: no other machine searches the study there.

    Args:
        study: the study's folder in the storage.
        folder: the same on this machine.
        warn: shows the user a line; called from the thread.

    Attributes:
        trouble: why the search must end, once it must: another one has taken the storage over.
    """

    def __init__(self, study: Storage, folder: Path, warn: Callable[[str], None]) -> None:
        self.study = study
        self.trouble: str | None = None
        self._folder, self._warn = folder, warn
        self._lock = StorageLock(study, warn)
        self._copied: dict[str, int] = {}  # bytes of each segment
        self._events = queue.SimpleQueue[Event]()
        self._listeners: tuple[Callable[[Event], None], ...] = ()
        self._due: list[tuple[Callable[[Event], None], Event]] = []
        self._wake, self._hurry, self._closing = threading.Event(), threading.Event(), threading.Event()
        self._news = threading.Condition()
        self._asked, self._served, self._away = 0, 0, False
        self._beaten = 0.0
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)

    def __enter__(self) -> Mirror:
        """Lock the storage, and copy what is here already.

        Raises:
            ConfigError: if another search holds it, or it cannot be written.
        """
        try:
            self._lock.acquire()
            here = {path.name: path.stat().st_size for path in segments(self._folder / "journal")}
            if any(size > here.get(name, -1) for name, size in self._there().items()):
                self._lock.release()
                rule = "was searched from elsewhere a moment ago: the same command fetches what came of it"
                raise ConfigError.single("--storage", self.study.location, rule)
            self._copy_journal()
        except OSError as error:
            rule = f"must be a place where files can be written ({first_line(error)})"
            raise ConfigError.single("--storage", self.study.location, rule) from None
        self._beaten = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._hurry.set()
        self._wake.set()
        self._thread.join()
        if not self._away:
            try:
                self._lock.release()
            except OSError as error:  # it is taken for dead in half a minute
                self._warn(f"{self.study.location} stays locked for a moment ({first_line(error)})")

    def follow(self, *listeners: Callable[[Event], None]) -> None:
        """Who is told of each event once the storage has it, from the thread; OSError means tell it again."""
        self._listeners = listeners

    def __call__(self, event: Event) -> None:
        """Take an event that is in the journal; returns at once."""
        self._events.put(event)
        self._wake.set()

    def flush(self, timeout: float = PATIENCE) -> bool:
        """Wait until the storage has the whole journal; false if it is away, or too slow for `timeout` seconds."""
        self._asked += 1
        wanted = self._asked
        self._hurry.set()
        self._wake.set()
        with self._news:
            self._news.wait_for(lambda: self._served >= wanted or self._away or self.trouble is not None, timeout)
            return self._served >= wanted

    def copy_outputs(self) -> None:
        """Copy what lies beside the journal, as far as it is there.

        Raises:
            OSError: if the storage cannot be written.
        """
        for name in OUTPUTS:
            if (self._folder / name).exists():
                self.study.put(self._folder / name, name)

    def bring(self, location: str) -> Path:
        """A file of the study's as one of this machine, copied here if it is not.

        Raises:
            OSError: if the storage cannot be read, or has no such file.
        """
        name = self.study.name_of(location)
        if not (self._folder / name).exists():
            self.study.get(name, self._folder / name)
        return self._folder / name

    def _there(self) -> dict[str, int]:
        names = ((Path(stored.name).name, stored.nbytes) for stored in self.study.list("journal"))
        return {name: size for name, size in names if name.endswith(".jsonl")}

    def _run(self) -> None:
        failures, pause = 0, INTERVAL
        while self.trouble is None:
            closing, asked = self._closing.is_set(), self._asked
            started = time.monotonic()
            try:
                self._pass()
            except OSError as error:
                if not failures:
                    self._warn(f"the storage {self.study.location} is away ({first_line(error)}); the search goes on")
                failures += 1
                self._away = True
                pause = min(2.0 ** (failures - 1), LONGEST_WAIT)
            else:
                if failures:
                    self._warn(f"the storage {self.study.location} is back and has everything")
                failures, self._away = 0, False
                self._served = asked if self.trouble is None else self._served
                pause = min(max(INTERVAL, (time.monotonic() - started) / SHARE), BEAT)
            with self._news:
                self._news.notify_all()
            if closing:
                return
            self._wait(pause)
        with self._news:
            self._news.notify_all()

    def _wait(self, pause: float) -> None:
        """Until there is something to do, and for a while so that more comes together; somebody who waits is served."""
        self._wake.wait(BEAT)
        self._wake.clear()
        self._hurry.wait(pause)
        self._hurry.clear()

    def _pass(self) -> None:
        events = []
        while not self._events.empty():
            events.append(self._events.get())
        self._due += [(listener, event) for event in events for listener in self._listeners]
        self._beat()
        if self.trouble is None:
            self._copy_journal()
        while self._due and self.trouble is None:
            listener, event = self._due[0]
            listener(event)
            del self._due[0]
            self._beat()

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._beaten < BEAT:
            return
        if not self._lock.beat():
            self.trouble = f"another search has taken over {self.study.location}"
        self._beaten = now

    def _copy_journal(self) -> None:
        for path in segments(self._folder / "journal"):
            size = path.stat().st_size
            if self._copied.get(path.name) != size:
                self.study.put(path, f"journal/{path.name}")
                self._copied[path.name] = size
