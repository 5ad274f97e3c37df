"""A `StudyDriver` behind Ray Tune's searcher and scheduler: Tune places legs and moves results, the driver decides.

Each leg of a trial is a trial to Tune, which ends when the leg does, so that Tune never pauses, retries or restores.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import RayActorError
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher as TuneSearcher

from search.engine.driver import Leg, StudyDriver
from search.engine.reports import details
from search.journal.error_text import first_line
from search.journal.events import Cause
from search.planning.resources import cluster_address
from search.storage.checkpoints import checkpoints, interrupt_file, last_written, leg_folder
from search.storage.mirror import Mirror
from search.storage.remote import RemoteFolder
from search.study.resources import Resources
from search.tune.fusion_host import end_hosts
from search.tune.leg import LegReport, LegRequest
from search.tune.nodes import NodeWatch
from search.tune.patches import (
    NotPickled,
    dead_processes,
    drop_statistics,
    keep_workers,
    leave_without_cleanup,
    survive_lost_workers,
)
from trainables.config import parse_config
from trainables.config.plugins import allowed_plugins
from trainables.data.store import Request, request

__all__ = ["DriverScheduler", "DriverSearcher", "RayEndedError", "TuneContext"]

UNPLACED_SECONDS = 60.0  # that a search at its end waits for a trial to be placed, whose node may never come
LOOK_SECONDS = 1.0  # between two checks of workers, disk and storage


class RayEndedError(RuntimeError):
    """A process of the Ray that this process has started is gone."""


@dataclass
class TuneContext:
    """What the adapters share: the driver, and how its trials are run.

    Attributes:
        driver: decides.
        study: the study's folder on this machine (absolute).
        storage: the same as the workers reach it.
        number: of this session.
        resources: what a trial asks for, timeouts and prices.
        concurrent: most trials at once.
        cache: folder of prepared images, on each node.
        reserve: bytes that must stay free on the study's disk.
        warn: shows the user a line.
        mirror: copies `study` to `storage`, if that is another place.
        prepared: fingerprints of prepared images in the storage, by the data that they are of.
    """

    driver: StudyDriver
    study: Path
    storage: RemoteFolder
    number: int
    resources: Resources
    concurrent: int
    cache: Path
    reserve: int
    warn: Callable[[str], None]
    mirror: Mirror | None = None
    prepared: Mapping[Request, str] = field(default_factory=dict)

    def next_request(self) -> LegRequest | None:
        """What the next worker is to do; None if there is nothing now, or at all."""
        leg: Leg | None = self.guarded(self.driver.next_leg)
        if leg is None:
            return None
        record = self.driver.records[leg.trial]
        # A trial whose worker was lost may be what broke it: it must not break a shared host, too.
        fuse = self.resources.fuse and not record.worker_losses
        prepared = self.prepared.get(request(parse_config(leg.config).data)) if self.prepared else None
        return LegRequest(
            trial=leg.trial, number=leg.number, config=dict(leg.config), reported=record.last_epoch,
            cache=str(self.cache), storage=self.storage.uri, folder=leg_folder(leg.trial, leg.number),
            interrupt=interrupt_file(self.number), save_at=self.driver.rungs(leg.trial),
            rungs=self.driver.averaged_at(leg.trial), save_every=self.resources.checkpoint_minutes * 60,
            gpus=self.resources.gpus, fuse=fuse, prepared=prepared, plugins=allowed_plugins(),
        )  # fmt: skip

    def newest_checkpoint(self, trial: int) -> str | None:
        """Where the trial would resume; while the storage is unreachable, the newest that was reported."""
        record = self.driver.records[trial]
        try:
            names = checkpoints(self.storage, trial, record.last_epoch)
        except OSError:
            return record.checkpoint
        return self.storage.where(names[0]) if names else None

    def interrupt(self, trouble: str | None = None) -> None:
        """Let the workers save their trials and end."""
        self.driver.interrupt(trouble)
        if self.storage.local():
            self._interrupt_workers()
        else:  # an unreachable storage answers after minutes, and this may be a signal handler
            threading.Thread(target=self._interrupt_workers, name="interrupt", daemon=True).start()

    def _interrupt_workers(self) -> None:
        try:
            self.storage.write(interrupt_file(self.number), b"")
        except OSError as error:  # the workers end with this process, and resume from their last checkpoint
            self.warn(f"the workers cannot be asked to save their trials ({first_line(error)})")

    def guarded(self, decide: Callable[..., Any], *arguments: Any) -> Any:
        """Call the driver; a journal that cannot be written interrupts the search."""
        try:
            return decide(*arguments)
        except OSError as error:
            self.interrupt(f"the journal in {self.study} cannot be written ({error.strerror})")
            return None

    def check_storage(self) -> None:
        """Interrupt the search if another one has its storage now, or while there still is room to end cleanly."""
        if self.driver.interrupted:
            return
        if self.mirror is not None and self.mirror.trouble:
            self.interrupt(self.mirror.trouble)
            return
        try:
            free = shutil.disk_usage(self.study / "journal").free
        except OSError as error:  # whatever is written there now would not be found
            self.interrupt(f"{self.study} is gone ({error.strerror}): moved, deleted, or its disk was unmounted")
            return
        if free < self.reserve:
            left, least = f"{free / 1e6:,.0f} MB", f"{self.reserve / 1e6:,.0f} MB"
            self.interrupt(f"the disk of {self.study} has {left} left, of which {least} must stay free")


class DriverSearcher(NotPickled, TuneSearcher):
    """Hands the driver's legs to Tune, at most `concurrent` at a time."""

    def __init__(self, context: TuneContext) -> None:
        super().__init__()
        self._context = context

    def suggest(self, trial_id: str) -> Any:
        context, driver = self._context, self._context.driver
        if driver.running >= context.concurrent:
            return None
        leg = context.next_request()
        if leg is not None:
            return leg.to_dict()
        over = driver.finished or (driver.interrupted and not driver.running)
        return TuneSearcher.FINISHED if over else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pass  # the scheduler reports it

    def save(self, checkpoint_path: str) -> None:
        pass  # a study resumes from its journal

    def restore(self, checkpoint_path: str) -> None:
        raise RuntimeError("a study resumes from its journal, not from Ray's snapshot")


class DriverScheduler(NotPickled, FIFOScheduler):
    """Passes results and lost workers to the driver, and its decisions back; kills workers that hang."""

    def __init__(self, context: TuneContext) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._context = context
        self._live: dict[str, Trial] = {}
        self._last_heartbeat: dict[int, float] = {}
        self._timed_out: set[str] = set()
        self._last_look = 0.0
        self._watch = NodeWatch(context.resources.prices)

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        if not self._last_heartbeat:
            keep_workers(tune_controller, trial, self._context.concurrent)
            survive_lost_workers(tune_controller)
        self._live[trial.trial_id] = trial
        self._last_heartbeat[_number(trial)] = time.monotonic()

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        if time.monotonic() - self._last_look > LOOK_SECONDS:
            self._last_look = time.monotonic()
            self._look(tune_controller)
        # FIFO without a walk through every finished trial at each step.
        for trial_id, trial in list(self._live.items()):
            if trial.status == Trial.PENDING:
                return trial
            if trial.status in (Trial.TERMINATED, Trial.ERROR):
                del self._live[trial_id]
                drop_statistics(trial)
        return None

    def _look(self, tune_controller: Any) -> None:
        context = self._context
        if dead := dead_processes():
            leave_without_cleanup(tune_controller)
            raise RayEndedError(f"Ray's {' and '.join(dead)} ended (killed, or memory ran out)")
        context.check_storage()
        self._kill_hung()
        self._stop_unplaced(tune_controller)
        if cluster_address() and (line := self._watch()):
            context.warn(line)
        context.guarded(context.driver.on_nodes, self._watch.types)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        context, number, report = self._context, _number(trial), LegReport.from_dict(result)
        self._last_heartbeat[number] = time.monotonic()
        for line in report.warnings:
            context.warn(line)
        epoch, ends = report.result, None
        if epoch is not None:
            ends = context.guarded(
                context.driver.on_result, number, epoch.epoch, epoch.metrics(), epoch.last, epoch.stop_reason,
                report.checkpoint, details(epoch),
            )  # fmt: skip
        if ends is None:  # interrupted, or not written: the next session trains it again
            context.driver.release(number)
        return str(TrialScheduler.CONTINUE if ends is False else TrialScheduler.STOP)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        context, number = self._context, _number(trial)
        cause, error = self._classify_failure(trial)
        context.guarded(context.driver.on_worker_lost, number, cause, error, context.newest_checkpoint(number))
        context.driver.release(number)

    def _classify_failure(self, trial: Trial) -> tuple[Cause, str]:
        """Why a leg failed, and the text for the user: a hung worker, one that is gone, or an error of the trial."""
        if trial.trial_id in self._timed_out:
            minutes = self._context.resources.timeout_minutes
            return "timeout", f"no epoch and no checkpoint for {minutes:g} min (resources.timeout_minutes)"
        # Ray copies both files to its storage later; here they lie beside the driver.
        text, pickled = (_content(file) for file in (trial.error_file, trial.pickled_error_file))
        error = cloudpickle.loads(pickled) if pickled else None
        gone = isinstance(error, RayActorError) and not error.actor_init_failed
        return ("worker_died" if gone else "error"), text.decode(errors="replace").strip() or "no error was recorded"

    def _kill_hung(self) -> None:
        limit = self._context.resources.timeout_minutes * 60
        for trial_id, trial in self._live.items():
            worker = trial.temporary_state.ray_actor
            if trial.status != Trial.RUNNING or worker is None or trial_id in self._timed_out:
                continue
            number = _number(trial)
            silence = time.monotonic() - self._last_heartbeat[number]
            if silence > limit and time.time() - self._last_written(number) > limit:
                self._timed_out.add(trial_id)
                ray.kill(worker)
                if self._context.resources.fuse:  # it may be the host that hangs
                    end_hosts(self._context.storage.uri)

    def _stop_unplaced(self, tune_controller: Any) -> None:
        """A trial that waits for a node must not hold a search up at its end: that node may be sold out for days."""
        for trial in self._live.values():
            number = _number(trial)
            waited = time.monotonic() - self._last_heartbeat[number]
            if trial.status != Trial.PENDING or waited < UNPLACED_SECONDS:
                continue
            if self._context.guarded(self._context.driver.should_abandon, number):
                tune_controller.stop_trial(trial)

    def _last_written(self, trial: int) -> float:
        try:
            return last_written(self._context.storage, trial)
        except OSError:  # cannot be known now: decided at a later look
            return time.time()


def _number(trial: Trial) -> int:
    """The number of the trial of ours that a trial of Tune's is a leg of."""
    return LegRequest.from_dict(trial.config).trial


def _content(file: str | None) -> bytes:
    path = Path(file) if file else None
    return path.read_bytes() if path is not None and path.exists() else b""
