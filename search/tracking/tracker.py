"""MLflow as a projection of the journal, written in batches by a process of its own.

Ray's own callback writes every value of every result in a call of its own, in the loop that also schedules trials,
tells stopped trials as finished, makes new runs after a restart, and hangs with the server. Here an event costs a
queue entry; a journal shown twice makes no second run; and an outage costs nothing, since what was told is kept, tried
again and caught up with. A thread would do, but for Python's lock: MLflow computes for four seconds in a search of 100
quick trials, and a driver that waits for the lock at every step took a quarter longer.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from search.journal.events import Event
from search.tracking.projection import TrackedStudy
from search.tracking.uri import check_reachable, default_uri, redacted
from search.tracking.values import parameters
from search.tracking.worker import INCOMPLETE

if TYPE_CHECKING:
    from search.study.spec import StudySpec

__all__ = ["MLflowTracker", "check_reachable", "default_uri", "tracked_study"]

INTERVAL = 2.0  # seconds; a trial that ends within it is written in one go
PATIENCE = 30.0  # seconds for the last batch, when the search is over
HAND_OVER = 0.2  # seconds between two writes to the process
CLOSE = {"close": True}


def tracked_study(spec: StudySpec) -> TrackedStudy:
    """What MLflow is told about a study. What may change under its name, such as its budget, is only in study.yaml."""
    tree = spec.model_dump(mode="json", include={"objective", "searcher", "scheduler", "seed"})
    objective = spec.objective
    files = {"study.yaml": spec.dump()}
    return TrackedStudy(spec.study, spec.description, objective.metric, objective.mode, parameters(tree), files)


class MLflowTracker:
    """Takes a study's events and keeps MLflow up to date with them.

    Feed it the study's journal from its first event: that says which search it is, and what MLflow holds already is
    not written again.

    Args:
        uri: MLflow's tracking URI; its credentials come from MLflow's environment variables.
        spec: the study; its name is the experiment's.
        out: where the study's folder is, and `mlartifacts/` if `uri` is a database; a server keeps artifacts itself.
        warn: shows the user one line; called from a thread. None: as a log record.
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
        self._study, self._shown = spec.study, redacted(uri)
        self._warn = warn or logging.getLogger(__name__).warning
        self._run_ids: dict[int, str] = {}
        self._missing, self._written, self._flushes = 0, 0, 0
        self._away, self._given_up = False, False
        self._news = threading.Condition()
        self._hurry = threading.Event()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)
        # A process group of its own: Ctrl-C at the terminal is for the driver.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "search.tracking.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, process_group=0,
        )  # fmt: skip
        start = {
            "uri": uri,
            "study": asdict(tracked_study(spec)),
            "artifact_root": str(out.resolve() / "mlartifacts"),
            "journal": str(out.resolve() / spec.study / "journal"),
            "interval": interval,
        }
        self._queue: queue.SimpleQueue[Event | dict[str, Any]] = queue.SimpleQueue()
        self._sender = threading.Thread(target=self._send, args=(start,), name="mlflow-sender", daemon=True)
        self._listener = threading.Thread(target=self._listen, name="mlflow-listener", daemon=True)
        self._sender.start()
        self._listener.start()

    def submit(self, event: Event) -> None:
        """Take an event, in the journal's order; returns at once."""
        self._queue.put(event)

    def attach(self, name: str, text: str) -> None:
        """Keep a text as an artifact of the search's run."""
        self._queue.put({"attach": [name, text]})

    def flush(self, timeout: float = PATIENCE) -> bool:
        """Write what was taken so far; false if MLflow is away, or was too slow for `timeout` seconds."""
        self._flushes += 1
        wanted = self._flushes
        self._queue.put({"flush": wanted})
        self._hurry.set()
        with self._news:
            self._news.wait_for(lambda: self._written >= wanted or self._away or not self._alive(), timeout)
            return self._written >= wanted

    def run_id(self, trial: int) -> str | None:
        """MLflow's id of the trial's run; None if it has none, because MLflow is away."""
        if trial not in self._run_ids:
            self.flush()
        return self._run_ids.get(trial)

    def close(self, best_config: Path | None = None, timeout: float = PATIENCE) -> bool:
        """Write the rest, the best config with the search's run, and end; false (and a line) if that took too long."""
        if best_config is not None:
            self.attach(best_config.name, best_config.read_text(encoding="utf-8"))
        self._queue.put(CLOSE)
        self._hurry.set()
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._given_up = True
            self._process.kill()
            status = self._process.wait()
        self._sender.join()
        self._listener.join()
        if status == INCOMPLETE or self._given_up:
            lacks = f"{self._missing} trials are incomplete there" if self._missing else "it lacks the search's end"
            self._warn(
                f"MLflow at {self._shown} did not catch up within {timeout:.0f} s, {lacks}; the journal has "
                f"everything, and `search.track {self._study}` writes it"
            )
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(BrokenPipeError):  # lines that nobody reads any more
                if stream is not None:
                    stream.close()
        return status == 0

    def _alive(self) -> bool:
        return self._process.poll() is None

    def _send(self, start: dict[str, Any]) -> None:
        pipe = self._process.stdin
        if pipe is None:
            raise RuntimeError("the process was started without a pipe")
        try:
            pipe.write(json.dumps(start).encode() + b"\n")
            pipe.flush()
            while self._hand_over(pipe):
                self._hurry.wait(HAND_OVER)
                self._hurry.clear()
        except BrokenPipeError:
            return  # the listener tells that the process has ended

    def _hand_over(self, pipe: IO[bytes]) -> bool:
        """Write what is queued; false after the last."""
        lines: list[bytes] = []
        last = False
        while not last:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            last = item == CLOSE
            if isinstance(item, dict):
                lines.append(b"C" + json.dumps(item).encode() + b"\n")
            else:
                lines.append(b"E" + item.model_dump_json().encode() + b"\n")
        pipe.write(b"".join(lines))
        pipe.flush()
        return not last

    def _listen(self) -> None:
        pipe = self._process.stdout
        if pipe is None:
            raise RuntimeError("the process was started without a pipe")
        for line in pipe:
            message = json.loads(line)
            with self._news:
                self._run_ids |= {int(trial): run_id for trial, run_id in message.get("runs", [])}
                self._missing = message.get("missing", self._missing)
                self._written = message.get("written", self._written)
                self._away = "away" in message or (self._away and "back" not in message)
                self._news.notify_all()
            if "warn" in message:
                self._warn(message["warn"])
            if "away" in message:
                why = message["away"]
                self._warn(f"MLflow at {self._shown} is away ({why}); the search goes on, MLflow follows")
            if "back" in message:
                self._warn(f"MLflow at {self._shown} is back and has caught up")
        if self._process.wait() not in (0, INCOMPLETE) and not self._given_up:
            self._errors.seek(0)
            last = self._errors.read().decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
            self._warn(f"MLflow's process has ended ({last[0][:200]}); the search goes on, the journal has everything")
        with self._news:
            self._news.notify_all()
