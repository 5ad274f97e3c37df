"""The process that writes to MLflow, so that the one that schedules trials need not wait for it, nor share its GIL.

`tracking.MLflowTracker` starts it and tells it through stdin, a line at a time: first what to track, then `E` and an
event of the journal, or `C` and a command. It answers on stdout in JSON lines. When stdin ends without a `close`, its
driver was killed: it writes what it was told, if MLflow can be reached, and ends. The next driver's waits for that.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

from search.journal.events import EVENTS
from search.tracking.lock import WriterLock
from search.tracking.projection import RunProjection, TrackedStudy
from search.tracking.uri import reason

__all__ = ["Service", "main"]

LONGEST_WAIT = 60.0  # seconds between two attempts while MLflow is away
ORPHAN_PATIENCE = 30.0
TURN = 0.2  # seconds between two looks whether the process of a driver that was killed is through
INCOMPLETE = 3  # exit status
NICENESS = 19


class Service:
    """Projects what comes in, in batches, until told to close.

    Args:
        lines: the protocol above.
        answers: told `runs` (run id by trial), `missing` (trials not complete), `written` (the number of a `flush`),
            `away` (why), `back` and `warn` (a line for the user).
    """

    def __init__(self, lines: IO[bytes], answers: IO[str]) -> None:
        start = json.loads(lines.readline())
        self._answers, self._interval = answers, float(start["interval"])
        self._projection = RunProjection(
            start["uri"],
            TrackedStudy(**start["study"]),
            Path(start["artifact_root"]),
            lambda text: self._say(warn=text),
        )
        self._lock = WriterLock(Path(start["journal"]))
        self._lines, self._inbox = lines, queue.SimpleQueue[bytes]()
        self._wake = threading.Event()
        self._flushes: list[int] = []
        self._told: dict[int, str] = {}
        self._closing, self._orphaned, self._deadline = False, False, float("inf")

    def run(self) -> bool:
        """Serve until closed; whether MLflow holds everything."""
        threading.Thread(target=self._receive, name="inbox", daemon=True).start()
        if not self._wait_for_turn():
            return not self._projection.missing
        failures = 0
        while time.monotonic() < self._deadline:
            try:
                self._projection.prepare()  # takes seconds the first time, while events come in
                if not gc.isenabled():
                    gc.freeze()
                    gc.enable()
                self._take()
                self._projection.write()
            except Exception as error:  # noqa: BLE001 (stores are plug-ins and raise what they like; told, then retried)
                self._report()
                self._projection.forget()
                self._take()
                if not failures:
                    self._say(away=reason(error))
                failures += 1
                pause = min(2.0 ** (failures - 1), 1.0 if self._closing else LONGEST_WAIT)
            else:
                self._report()
                if failures:
                    self._say(back=True)
                failures, pause = 0, self._interval
                for flush in self._flushes:
                    self._say(written=flush)
                self._flushes.clear()
                if self._closing:
                    return True
            self._wake.wait(pause)
            self._wake.clear()
        return False

    def _wait_for_turn(self) -> bool:
        """Until no other process writes this study; false if there is nothing to wait for any more.

        The process of a driver that was killed may still write, and so may `search.track`: both would make a run for
        the same trial.
        """
        while not self._lock.acquire():
            self._take()
            # Orphaned, it leaves the rest to whoever comes next, who tells all of it. A driver that was refused the
            # study closes with nothing to tell.
            if self._orphaned or (self._closing and not self._projection.missing):
                return False
            self._wake.wait(TURN)
            self._wake.clear()
        return True

    def _receive(self) -> None:
        while line := self._lines.readline():
            self._inbox.put(line)
            if line.startswith(b"C"):
                if {"flush", "close"} & json.loads(line[1:]).keys():
                    _stop_giving_way()  # while MLflow still loads, too
                self._wake.set()
        self._inbox.put(b"")
        _stop_giving_way()
        self._wake.set()

    def _take(self) -> None:
        while True:
            try:
                line = self._inbox.get_nowait()
            except queue.Empty:
                return
            if line.startswith(b"E"):
                self._projection.take(EVENTS.validate_json(line[1:]))
                continue
            if not line:
                self._orphaned = True
                self._deadline = time.monotonic() + ORPHAN_PATIENCE
            command: dict[str, Any] = json.loads(line[1:]) if line else {"close": True}
            self._closing = self._closing or "close" in command
            if "attach" in command:
                name, text = command["attach"]
                self._projection.attach(name, text)
            if "flush" in command:
                self._flushes.append(command["flush"])

    def _report(self) -> None:
        ids = self._projection.run_ids
        new = {trial: run_id for trial, run_id in ids.items() if self._told.get(trial) != run_id}
        self._told |= new
        self._say(runs=list(new.items()), missing=self._projection.missing)

    def _say(self, **message: Any) -> None:
        self._answers.write(json.dumps(message) + "\n")
        self._answers.flush()


def _give_way() -> None:
    """Behind everything: what MLflow is told can wait, trials cannot, and Ray runs them at a nice value of 15."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):  # not Linux, or a container that forbids it
        os.nice(NICENESS)


def _stop_giving_way() -> None:
    """Now somebody waits."""
    with contextlib.suppress(AttributeError, OSError):  # not everybody may; the trials are over, so it matters little
        os.sched_setscheduler(os.getpid(), os.SCHED_OTHER, os.sched_param(0))  # the main thread, whoever calls


def main() -> None:
    """Serve on stdin and stdout."""
    _give_way()
    # Of MLflow's imports and first queries nothing is garbage, and looking for it takes an eighth of all the time.
    gc.disable()
    gc.set_threshold(20_000)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver's to handle, which then closes us
    # Whatever MLflow may print must not get among the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        complete = Service(sys.stdin.buffer, answers).run()
    except BrokenPipeError:  # the driver is gone, and with it whoever would read this
        complete = False
    sys.stdout.flush()
    os._exit(
        0 if complete else INCOMPLETE
    )  # the inbox thread may be blocked in a read that interpreter shutdown would wait for


if __name__ == "__main__":
    main()
