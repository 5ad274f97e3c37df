"""MLflow as a listener of the study's events, written in batches by a thread of the driver.

Ray's own callback logs every value of every result in a call of its own, inside the loop that also schedules trials,
marks stopped trials as finished, makes new runs after a restart, and hangs when the server does. Here an event costs a
queue entry, a journal replayed twice makes no second run, and an outage is retried and caught up with. Loading MLflow
and writing to it share the interpreter's lock with the driver, which mostly waits for trials.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from search.journal.events import Event, SessionStarted
from search.tracking.projection import RunProjection
from search.tracking.uri import artifact_root, reason, redacted

if TYPE_CHECKING:
    from search.study.spec import StudySpec

__all__ = ["ATTACHED", "MLflowTracker", "writer_lock"]

ATTACHED = ("best_config.yaml", "report.html")  # of a study's folder, kept with the search's run where they are there

INTERVAL = 2.0  # seconds; a trial that ends within it is written in one batch
PATIENCE = 30.0  # seconds for the last batch, when the search is over
LONGEST_WAIT = 60.0  # seconds between two attempts while MLflow is away


def writer_lock(study: Path) -> FileLock:
    """The right to write the study in this folder to MLflow: two writers could each make a run for the same trial."""
    return FileLock(study / "journal" / "mlflow.lock", timeout=0)


class MLflowTracker:
    """Keeps MLflow up to date with a study's events; call it with each of them.

    Start with the first event of the study's journal: that one identifies the search, and what MLflow already holds is
    not written again. MLflow is loaded at `start`, or when this session's trials begin: by then the driver has imported
    Ray, and two threads that import the same packages at the same time can deadlock.

    Args:
        uri: MLflow's tracking URI.
        spec: the study; its name is the experiment's.
        out: where the study's folder is, and `mlartifacts/` if `uri` is a database; a server keeps artifacts itself.
        warn: shows the user one line; called from a thread. None: a log record.
        interval: seconds between two batches.
    """

    def __init__(
        self,
        uri: str,
        spec: StudySpec,
        out: Path,
        *,
        warn: Callable[[str], None] | None = None,
        interval: float = INTERVAL,
    ) -> None:
        out = out.resolve()
        self._study, self._shown, self._interval = spec.study, redacted(uri), interval
        self._warn = warn or logging.getLogger(__name__).warning
        self._projection = RunProjection(uri, spec, artifact_root(uri, out), self._report)
        self._lock = writer_lock(out / spec.study)
        self._inbox: queue.SimpleQueue[Event | tuple[str, str]] = queue.SimpleQueue()  # events, and texts to attach
        self._began = time.time()
        self._put, self._taken, self._written = 0, 0, 0
        self._away, self._ended, self._complete = False, False, False
        self._news = threading.Condition()
        self._needed, self._wake = threading.Event(), threading.Event()
        self._closing, self._abandoned = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
        self._thread.start()

    @property
    def experiment_id(self) -> str | None:
        """MLflow's id of the study's experiment, once it is known."""
        return self._projection.experiment_id

    def start(self) -> None:
        """Load MLflow and write what was taken so far, while the caller waits for something else than imports."""
        self._needed.set()

    def __call__(self, event: Event) -> None:
        """Take an event, in the journal's order; returns at once."""
        self._put += 1
        self._inbox.put(event)
        if not isinstance(event, SessionStarted) and getattr(event, "time", 0.0) >= self._began:
            self.start()

    def flush(self, timeout: float = PATIENCE) -> bool:
        """Write what was taken so far; false if MLflow is away, or was too slow for `timeout` seconds."""
        wanted = self._put
        self._needed.set()
        self._wake.set()
        with self._news:
            self._news.wait_for(lambda: self._written >= wanted or self._away or self._ended, timeout)
            return self._written >= wanted

    def run_id(self, trial: int) -> str | None:
        """MLflow's id of the trial's run; None if it has none, because MLflow is away."""
        self.flush()
        return self._projection.run_ids.get(trial)

    def close(self, attachments: Iterable[Path] = (), timeout: float = PATIENCE) -> bool:
        """Write the rest, these texts with the search's run, and end; false (and a line) if that took too long."""
        for path in attachments:
            self._inbox.put((path.name, path.read_text(encoding="utf-8")))
        self._closing.set()
        self._needed.set()
        self._wake.set()
        self._thread.join(timeout)
        self._abandoned.set()
        if not self._complete:
            missing = self._projection.missing
            lacks = f"{missing} trials are incomplete there" if missing else "it lacks the search's end"
            self._warn(
                f"MLflow at {self._shown} did not catch up within {timeout:.0f} s, {lacks}; the journal has "
                f"everything, and `search.track {self._study}` writes it"
            )
        return self._complete

    def _report(self, line: str) -> None:
        if not self._abandoned.is_set():
            self._warn(line)

    def _run(self) -> None:
        failures = 0
        self._needed.wait()
        while not (self._complete or self._abandoned.is_set()):
            closing = self._closing.is_set()  # then all there will be is in the inbox
            try:
                self._write()
            except Exception as error:  # noqa: BLE001 (stores are plug-ins and raise what they like; reported, retried)
                self._projection.forget()
                failures += 1
                if failures == 1:
                    self._report(f"MLflow at {self._shown} is away ({reason(error)}); the search continues without it")
                pause = min(2.0 ** (failures - 1), 1.0 if self._closing.is_set() else LONGEST_WAIT)
            else:
                if failures:
                    self._report(f"MLflow at {self._shown} is back and has caught up")
                failures, pause = 0, self._interval
                self._written, self._complete = self._taken, closing
            with self._news:
                self._away = failures > 0
                self._news.notify_all()
            if not self._complete:
                self._wake.wait(pause)
                self._wake.clear()
        self._lock.release()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _write(self) -> None:
        if not self._put:  # the driver was refused the study
            return
        self._take()
        if not self._lock.is_locked:
            try:
                self._lock.acquire()
            except Timeout:
                raise BlockingIOError("another process writes this study to it") from None
        self._projection.write()

    def _take(self) -> None:
        while not self._inbox.empty():
            item = self._inbox.get()
            if isinstance(item, tuple):
                self._projection.attach(*item)
            else:
                self._projection.take(item)
                self._taken += 1
