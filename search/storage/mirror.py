"""A study's folder copied to a storage as well, so that a search outlives the machine that it was started on.

The journal is written on this machine first, as ever, and copied within a second or so; what the storage has is at any
moment a beginning of what is here, and so the journal of a search that might have been killed then. Whatever must not
be ahead of it (the deletion of checkpoints, MLflow) follows the copy.

One thread does all of it, and one queue is the only way to it: events to copy, and requests to copy right now.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from search.journal.error_text import first_line, required
from search.journal.events import Event
from search.journal.log import segments
from search.storage.checkpoints import CHECKPOINTS, checkpoint_at
from search.storage.lease import BEAT, Lease
from search.storage.location import REMEMBERED, journal_segments
from search.storage.remote import RemoteFolder
from trainables.config import ConfigError
from trainables.files import write_text

__all__ = ["Mirror"]

OUTPUTS = ("study.yaml", "trials.parquet", "optuna_journal.log", "best_config.yaml", "report.html")
INTERVAL = 1.0  # seconds between two copies of the journal, more where one takes long
SHARE = 0.05  # of the time spent copying, at most
PATIENCE = 60.0  # seconds for the last copies
SLICE = 1.0  # seconds of cleaning up before the journal is copied again


class Mirror:
    """Copies a study's folder to a storage, in a thread; a listener of the driver's events, and a context manager.

    Within the context the storage is leased: no other machine searches the study there.

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
        self._lease = Lease(study, folder / "journal" / "lease", warn)
        self._inbox = queue.Queue[Event | Future[bool] | None]()  # an event, who waits for a copy, or None: close
        self._uncopied: deque[Event] = deque()  # in the journal here, not yet known to be in the storage
        self._jobs: deque[Callable[[], None]] = deque()  # cleaning up, which may be late
        self._copied: dict[str, int] = {}  # bytes of each segment in the storage
        self._on_copied: Callable[[Event], None] = lambda event: None
        self._clean_up: Callable[[Event], None] = lambda event: None
        self._away = False
        self._beaten = 0.0  # when the lease was renewed
        self._pause, self._earliest = INTERVAL, 0.0  # before the next copy, and when that may begin
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)

    def __enter__(self) -> Mirror:
        """Lease the storage, and copy what is here already.

        Raises:
            ConfigError: if another search holds it, or it cannot be written.
        """
        with required("--storage", self.study.location, "must be a place where files can be written"):
            self._lease.acquire()
            here = {path.name: path.stat().st_size for path in segments(self._folder / "journal")}
            if any(size > here.get(name, -1) for name, size in journal_segments(self.study).items()):
                self._lease.release()
                rule = "was searched from another machine a moment ago: the same command fetches those results"
                raise ConfigError.single("--storage", self.study.location, rule)
            write_text(self._folder / REMEMBERED, f"{self.study.parent.uri}\n")
            if here:  # a search that was started without a storage has more to copy
                self.copy_outputs()
                self._copy_checkpoints()
            self._copy_journal()
        self._beaten = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._inbox.put(None)
        self._thread.join()
        if not self._away and self.trouble is None:
            try:
                self._lease.release()
            except OSError as error:  # it expires in half a minute
                self._warn(f"{self.study.location} stays locked for a moment ({first_line(error)})")

    def follow(self, on_copied: Callable[[Event], None], clean_up: Callable[[Event], None]) -> None:
        """Set the listeners that are called from the thread with each event once the storage has it.

        Args:
            on_copied: returns at once.
            clean_up: may take its time and be called late; after an OSError it is called again.
        """
        self._on_copied, self._clean_up = on_copied, clean_up

    def later(self, job: Callable[[], None]) -> None:
        """Do something in the thread when there is time for it; after an OSError it is done again."""
        self._jobs.append(job)

    def __call__(self, event: Event) -> None:
        """Take an event that is in the journal; returns at once."""
        self._inbox.put(event)

    def flush(self, timeout: float = PATIENCE) -> bool:
        """Wait until the storage has the whole journal; false if it is away, or too slow for `timeout` seconds."""
        copied = Future[bool]()
        self._inbox.put(copied)
        if self.trouble is not None:  # nobody reads the queue anymore
            return False
        try:
            return copied.result(timeout)
        except TimeoutError:
            return False

    def copy_study(self) -> None:
        """Copy the study's YAML, before its first trial starts.

        Raises:
            ConfigError: if the storage cannot be written.
        """
        with required("--storage", self.study.location, "must be writable"):
            self.copy_outputs(["study.yaml"])

    def copy_outputs(self, names: Iterable[str] = OUTPUTS) -> None:
        """Copy what lies beside the journal, as far as it is there: all of it, or the files of these names.

        Raises:
            OSError: if the storage cannot be written.
        """
        for name in names:
            if (self._folder / name).exists():
                self.study.put(self._folder / name, name)

    def fetch_checkpoint(self, location: str) -> Path | None:
        """A checkpoint of the study as a file of this machine, copied here if it is not; None if there is none.

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
        """The thread: until it is closed, or another search has taken the storage over."""
        closing = False
        while self.trouble is None and not closing:
            waiting, closing = self._receive()
            copied = self._guarded(self._try_to_copy)
            if waiting is not None:
                waiting.set_result(copied)
            self._guarded(partial(self._do_jobs, PATIENCE if closing else SLICE))
        while not self._inbox.empty():
            if isinstance(late := self._inbox.get(), Future):
                late.set_result(False)

    def _guarded(self, step: Callable[[], bool]) -> bool:
        if self.trouble is not None:
            return False
        try:
            return step()
        except Exception as error:  # noqa: BLE001 (the search must not continue as if it were copied)
            self.trouble = f"the copy to {self.study.location} has failed ({error!r})"
            return False

    def _receive(self) -> tuple[Future[bool] | None, bool]:
        """Wait until it is time to copy: a second after the last copy if something is new, else for a heartbeat.

        Returns early with whoever waits for a copy, and with true if the mirror is being closed.
        """
        while True:
            has_work = self._uncopied or self._jobs
            wake = self._earliest if has_work else max(self._earliest, self._beaten + BEAT)
            try:
                message = self._inbox.get(timeout=max(wake - time.monotonic(), 0.0))
            except queue.Empty:
                return None, False
            if message is None or isinstance(message, Future):
                return message, message is None
            self._uncopied.append(message)

    def _try_to_copy(self) -> bool:
        """Whether the storage now has everything; says so once when it goes away or comes back."""
        started = time.monotonic()
        try:
            self._copy()
        except OSError as error:
            if not self._away:
                self._warn(f"the storage {self.study.location} is away ({first_line(error)}); the search continues")
            self._pause = min(2 * self._pause, BEAT) if self._away else INTERVAL
            self._away = True
        else:
            if self._away and self.trouble is None:
                self._warn(f"the storage {self.study.location} is back and has everything")
            self._pause = min(max(INTERVAL, (time.monotonic() - started) / SHARE), BEAT)
            self._away = False
        self._earliest = time.monotonic() + self._pause
        return not self._away and self.trouble is None

    def _copy(self) -> None:
        """Copy what is new and pass its events on, as long as the lease is this driver's."""
        due = time.monotonic() - self._beaten >= BEAT
        if not (self._lease.beat() if due else self._lease.held()):
            self.trouble = f"another search has taken over {self.study.location}"
            return
        if due:
            self._beaten = time.monotonic()
            there = journal_segments(self.study)  # a driver that was cut off may have written what it had, just before
            self._copied = {name: size for name, size in self._copied.items() if there.get(name) == size}
        self._copy_journal()
        while self._uncopied:
            event = self._uncopied.popleft()
            self._on_copied(event)
            self._jobs.append(partial(self._clean_up, event))

    def _do_jobs(self, seconds: float) -> bool:
        """Whether all jobs were done in that time."""
        deadline = time.monotonic() + seconds
        while self._jobs and time.monotonic() < deadline:
            try:
                self._jobs[0]()
            except OSError:  # the next copy warns that the storage is away; done again then, or by the next session
                return False
            self._jobs.popleft()
        return not self._jobs

    def _copy_journal(self) -> None:
        for path in segments(self._folder / "journal"):
            size = path.stat().st_size
            if self._copied.get(path.name) != size:
                self.study.put(path, f"journal/{path.name}")
                self._copied[path.name] = size

    def _copy_checkpoints(self) -> None:
        there = {file.name for file in self.study.list(CHECKPOINTS)}
        folder = self._folder / CHECKPOINTS
        for path in folder.rglob("*.pt"):
            name = path.relative_to(folder).as_posix()
            if name not in there:
                self.study.put(path, f"{CHECKPOINTS}/{name}")
