"""A study's folder kept in a storage as well, so that a search outlives the machine that it was started on.

The journal is written on this machine first, as ever, and copied within a second or so; what the storage has is at any
moment a beginning of what is here, and so the journal of a search that might have been killed then. Whatever must not
be ahead of it (the deletion of checkpoints, MLflow) follows the copy.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from search.journal.events import Event
from search.journal.log import segments
from search.storage.checkpoints import CHECKPOINTS, checkpoint_at
from search.storage.lease import BEAT, Lease
from search.storage.location import REMEMBERED, journal_segments
from search.storage.remote import RemoteFolder, first_line
from trainables.config import ConfigError
from trainables.files import write_text

__all__ = ["Mirror"]

OUTPUTS = ("study.yaml", "trials.parquet", "optuna_journal.log", "best_config.yaml")
INTERVAL = 1.0  # seconds between two copies of the journal, more where one takes long
SHARE = 0.05  # of the time spent copying, at most
LONGEST_WAIT = 15.0  # seconds between two attempts while the storage is away: a lock that is not shown to live is lost
PATIENCE = 60.0  # seconds for the last copies
SLICE = 1.0  # seconds of tidying up before the journal is looked after again


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

    def __init__(self, study: RemoteFolder, folder: Path, warn: Callable[[str], None]) -> None:
        self.study = study
        self.trouble: str | None = None
        self._folder, self._warn = folder, warn
        self._lock = Lease(study, warn)
        self._copied: dict[str, int] = {}  # bytes of each segment
        self._events = queue.SimpleQueue[Event]()
        self._tell: Callable[[Event], None] | None = None
        self._tidy: Callable[[Event], None] | None = None
        self._untold: deque[Event] = deque()
        self._jobs: deque[Callable[[], None]] = deque()  # tidying up, which may be late
        self._wake, self._hurry, self._closing = threading.Event(), threading.Event(), threading.Event()
        self._news = threading.Condition()
        self._asked, self._served, self._tried, self._away = 0, 0, 0, False
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
            if any(size > here.get(name, -1) for name, size in journal_segments(self.study).items()):
                self._lock.release()
                rule = "was searched from elsewhere a moment ago: the same command fetches what came of it"
                raise ConfigError.single("--storage", self.study.location, rule)
            write_text(self._folder / REMEMBERED, f"{self.study.parent.uri}\n")
            if here:  # of a search that was begun without a storage, all is still to be copied
                self.copy_outputs()
                self._copy_checkpoints()
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
        if not self._away and self.trouble is None:
            try:
                self._lock.release()
            except OSError as error:  # it is taken for dead in half a minute
                self._warn(f"{self.study.location} stays locked for a moment ({first_line(error)})")

    def follow(self, tell: Callable[[Event], None], tidy: Callable[[Event], None]) -> None:
        """Who is told of each event once the storage has it, from the thread.

        Args:
            tell: returns at once.
            tidy: may take its time and be told late; OSError means tell it again.
        """
        self._tell, self._tidy = tell, tidy

    def later(self, job: Callable[[], None]) -> None:
        """Do something in the thread when there is time for it; OSError means do it again."""
        self._jobs.append(job)

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
            self._news.wait_for(lambda: self._tried >= wanted or self.trouble is not None, timeout)
            return self._served >= wanted

    def copy_study(self) -> None:
        """Copy the study's YAML, before its first trial starts.

        Raises:
            ConfigError: if the storage cannot be written.
        """
        try:
            self.copy_outputs(["study.yaml"])
        except OSError as error:
            rule = f"must be writable ({first_line(error)})"
            raise ConfigError.single("--storage", self.study.location, rule) from None

    def copy_outputs(self, names: Iterable[str] = OUTPUTS) -> None:
        """Copy what lies beside the journal, as far as it is there: all of it, or the files of these names.

        Raises:
            OSError: if the storage cannot be written.
        """
        for name in names:
            if (self._folder / name).exists():
                self.study.put(self._folder / name, name)

    def bring(self, location: str) -> Path | None:
        """A checkpoint of the study's as a file of this machine, copied here if it is not; None if there is none.

        Raises:
            OSError: if the storage cannot be read.
        """
        name = checkpoint_at(location)
        if not (self._folder / name).exists():
            try:
                self.study.get(name, self._folder / name)
            except FileNotFoundError:
                return None
        return self._folder / name

    def _run(self) -> None:
        failures = 0
        while self.trouble is None:
            closing, asked = self._closing.is_set(), self._asked
            started = time.monotonic()
            try:
                self._copy()
            except OSError as error:
                if not failures:
                    self._warn(f"the storage {self.study.location} is away ({first_line(error)}); the search goes on")
                failures += 1
                self._away = True
                pause = min(2.0 ** (failures - 1), LONGEST_WAIT)
            except Exception as error:  # noqa: BLE001 (the search must not go on as if it were kept)
                self._fail(error)
            else:
                if failures:
                    self._warn(f"the storage {self.study.location} is back and has everything")
                failures, self._away = 0, False
                self._served = asked if self.trouble is None else self._served
                pause = max(INTERVAL, (time.monotonic() - started) / SHARE)
            with self._news:
                self._tried = asked
                self._news.notify_all()
            if self.trouble is None:
                try:
                    self._tidy_up(PATIENCE if closing else SLICE)
                except Exception as error:  # noqa: BLE001 (as above)
                    self._fail(error)
            if closing:
                return
            if self.trouble is None:
                self._wait(pause)

    def _fail(self, error: Exception) -> None:
        self.trouble = f"the copy to {self.study.location} has failed ({error!r})"

    def _wait(self, pause: float) -> None:
        """Until there is something to do, and for a while so that more comes together; somebody who waits is served."""
        if not self._jobs:
            self._wake.wait(BEAT)
        self._wake.clear()
        self._hurry.wait(min(pause, BEAT))
        self._hurry.clear()

    def _copy(self) -> None:
        """Copy what is new, and tell of it, as long as the lock is this driver's."""
        while not self._events.empty():
            self._untold.append(self._events.get())
        due = time.monotonic() - self._beaten >= BEAT
        if not (self._lock.beat() if due else self._lock.held()):
            self.trouble = f"another search has taken over {self.study.location}"
            return
        if due:
            self._beaten = time.monotonic()
            there = journal_segments(self.study)  # a driver that was cut off may have written what it had, just before
            self._copied = {name: size for name, size in self._copied.items() if there.get(name) == size}
        self._copy_journal()
        while self._untold:
            event = self._untold.popleft()
            if self._tell is not None and self._tidy is not None:
                self._tell(event)
                self._jobs.append(partial(self._tidy, event))

    def _tidy_up(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._jobs and time.monotonic() < deadline:
            try:
                self._jobs[0]()
            except OSError:  # the copies tell that the storage is away; done again later, or by the next session
                return
            self._jobs.popleft()

    def _copy_journal(self) -> None:
        for path in segments(self._folder / "journal"):
            size = path.stat().st_size
            if self._copied.get(path.name) != size:
                self.study.put(path, f"journal/{path.name}")
                self._copied[path.name] = size

    def _copy_checkpoints(self) -> None:
        there = {stored.name for stored in self.study.list(CHECKPOINTS)}
        folder = self._folder / CHECKPOINTS
        for path in folder.rglob("*.pt"):
            name = path.relative_to(folder).as_posix()
            if name not in there:
                self.study.put(path, f"{CHECKPOINTS}/{name}")
