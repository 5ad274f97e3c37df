"""A `StudyDriver` behind Ray Tune's searcher and scheduler: Tune places legs and moves results, the driver decides.

Each leg of a trial is a trial to Tune, which ends when the leg does, so that Tune never pauses, retries or restores.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import RayActorError
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher as TuneSearcher

from search.engine.driver import StudyDriver
from search.journal.error_text import first_line
from search.journal.events import Cause
from search.storage.checkpoints import checkpoints, interrupt_file, last_written, leg_folder
from search.storage.mirror import Mirror
from search.storage.remote import RemoteFolder
from search.study.settings import Resources
from search.tune.fusion_host import end_hosts
from search.tune.lost_workers import survive_lost_workers
from search.tune.nodes import NodeWatch
from search.tune.patches import keep_workers
from trainables.config import parse_config
from trainables.data.store import Request, request
from trainables.result import METRICS

__all__ = ["DriverScheduler", "DriverSearcher", "TuneContext"]

LONGEST_ERROR = 4000  # characters; the end of a traceback says most
UNPLACED_SECONDS = 60.0  # that a search which is over waits for the worker of a trial, whose node may never come
LOOK_SECONDS = 1.0  # between two looks at silent workers and the disk


@dataclass
class TuneContext:
    """What the adapters share: the driver, the study's folder (absolute), and how its trials are run.

    `storage` is the study's folder as the workers reach it: `study` itself, or one that `mirror` keeps like it.
    `prepared` names prepared images in the storage, by the data that they are of. `reserve` is how many bytes must stay
    free on the study's disk. `on_cluster` tells of its nodes as they come and go. `trouble` says, once it is set, why
    the session could not go on.
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
    on_cluster: bool = False
    trouble: str | None = None
    heard: dict[int, float] = field(default_factory=dict)

    def leg(self) -> dict[str, Any] | None:
        """What the next worker is to do, as `ResNetTrial` wants it; None if there is nothing now, or at all."""
        leg = self.guarded(self.driver.next_leg)
        if leg is None:
            return None
        return {
            "trial": leg.trial,
            "leg": leg.number,
            "config": dict(leg.config),
            "cache": str(self.cache),
            "storage": self.storage.uri,
            "folder": leg_folder(leg.trial, leg.number),
            "reported": self.reported(leg.trial),
            "prepared": self.prepared.get(request(parse_config(leg.config).data)) if self.prepared else None,
            "save_at": list(self.driver.rungs),
            "save_every": self.resources.checkpoint_minutes * 60,
            "interrupt": interrupt_file(self.number),
            "gpus": self.resources.gpus,
            # One that has lost its host may be what ended it, and does not share another one.
            "fuse": self.resources.fuse and not self.driver.records[leg.trial].worker_losses,
            "version": metadata.version("resnet-search"),
        }

    def reported(self, trial: int) -> int:
        """The last epoch of the trial that the driver was told."""
        history = self.driver.records[trial].history
        return history[-1].epoch if history else 0

    def newest_checkpoint(self, trial: int) -> str | None:
        """Where the trial would go on; while the storage is away, the newest that was reported."""
        try:
            names = checkpoints(self.storage, trial, self.reported(trial))
        except OSError:
            return self.driver.records[trial].checkpoint
        return self.storage.where(names[0]) if names else None

    def interrupt(self, trouble: str | None = None) -> None:
        """Let the workers save their trials and end."""
        self.trouble = self.trouble or trouble
        self.driver.interrupt()
        if self.storage.local():
            self._tell_workers()
        else:  # a storage that is away answers after minutes, and this may be the handler of a signal
            threading.Thread(target=self._tell_workers, name="interrupt", daemon=True).start()

    def _tell_workers(self) -> None:
        try:
            self.storage.write(interrupt_file(self.number), b"")
        except OSError as error:  # the workers end with this process, and go on from their last checkpoint
            self.warn(f"the workers cannot be told to save their trials ({first_line(error)})")

    def guarded(self, decide: Callable[..., Any], *arguments: Any) -> Any:
        """Call the driver; a journal that cannot be written interrupts the search."""
        try:
            return decide(*arguments)
        except OSError as error:
            self.interrupt(f"the journal in {self.study} cannot be written ({error.strerror})")
            return None

    def check_ground(self) -> None:
        """Interrupt the search if its storage is another one's now, or while there still is room to end in order."""
        if self.mirror is not None and self.mirror.trouble and not self.driver.interrupted:
            self.interrupt(self.mirror.trouble)
        free = shutil.disk_usage(self.study).free
        if free < self.reserve and not self.driver.interrupted:
            left, least = f"{free / 1e6:,.0f} MB", f"{self.reserve / 1e6:,.0f} MB"
            self.interrupt(f"the disk of {self.study} has {left} left, of which {least} must stay free")


class DriverSearcher(TuneSearcher):
    """Hands the driver's legs to Tune, at most `concurrent` at a time."""

    def __init__(self, session: TuneContext | None) -> None:
        super().__init__()
        self._session = session

    def suggest(self, trial_id: str) -> Any:
        session = self._session
        if session is None:
            raise RuntimeError("a searcher read back from Tune's snapshot has no driver")
        driver = session.driver
        if driver.running >= session.concurrent:
            return None
        leg = session.leg()
        if leg is None and (driver.finished or (driver.interrupted and not driver.running)):
            return TuneSearcher.FINISHED
        return leg

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        raise RuntimeError("a study resumes from its journal, not from Ray's snapshot")

    def __reduce__(self) -> tuple[Any, ...]:
        # Tune pickles its searcher into tuner.pkl, which nobody reads back; open files and threads stay here.
        return DriverSearcher, (None,)


class DriverScheduler(FIFOScheduler):
    """Brings every result and every loss to the driver, and its decisions back; ends workers that hang."""

    def __init__(self, session: TuneContext | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._open = session
        self._live: dict[str, Trial] = {}
        self._silent: set[str] = set()
        self._looked = 0.0
        self._nodes = NodeWatch(session.resources.prices if session is not None else None)

    @property
    def _session(self) -> TuneContext:
        if self._open is None:
            raise RuntimeError("a scheduler read back from Tune's snapshot has no driver")
        return self._open

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        if not self._session.heard:
            keep_workers(tune_controller, trial, self._session.concurrent)
            survive_lost_workers(tune_controller)
        self._live[trial.trial_id] = trial
        self._session.heard[trial.config["trial"]] = time.monotonic()

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            self._session.check_ground()
            self._end_silent()
            self._end_unplaced(tune_controller)
            if self._session.on_cluster and (line := self._nodes()):
                self._session.warn(line)
            self._session.guarded(self._session.driver.on_nodes, self._nodes.types)
        # FIFO without a walk through every finished trial at each step.
        for trial_id, trial in list(self._live.items()):
            if trial.status == Trial.PENDING:
                return trial
            if trial.status in (Trial.TERMINATED, Trial.ERROR):
                del self._live[trial_id]
                # Tune keeps every trial, with fifty queues of its metrics that nobody reads: most of what a long study
                # would grow by.
                trial.run_metadata.metric_analysis.clear()
                trial.run_metadata.metric_n_steps.clear()
        return None

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        session, number = self._session, trial.config["trial"]
        session.heard[number] = time.monotonic()
        for line in result["warnings"]:
            session.warn(line)
        if result.get("interrupted"):
            session.driver.release(number)
            return str(TrialScheduler.STOP)
        ends = session.guarded(
            session.driver.on_result, number, result["epoch"], {name: result[name] for name in METRICS},
            result["last"], result["stop_reason"], result["checkpoint"],
        )  # fmt: skip
        if ends is None:  # not written: the next session hears it again
            session.driver.release(number)
        return str(TrialScheduler.CONTINUE if ends is False else TrialScheduler.STOP)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        session, number = self._session, trial.config["trial"]
        cause, error = self._why(trial)
        session.guarded(session.driver.on_worker_lost, number, cause, error, session.newest_checkpoint(number))
        session.driver.release(number)

    def _why(self, trial: Trial) -> tuple[Cause, str]:
        # Ray copies both files to its storage later; here they lie beside the driver.
        file = Path(trial.error_file) if trial.error_file else None
        text = file.read_text(errors="replace").strip() if file is not None and file.exists() else ""
        if trial.trial_id in self._silent:
            minutes = self._session.resources.timeout_minutes
            return "timeout", f"no epoch and no checkpoint for {minutes:g} min (resources.timeout_minutes)"
        file = Path(trial.pickled_error_file) if trial.pickled_error_file else None
        error = cloudpickle.loads(file.read_bytes()) if file is not None and file.exists() else None
        text = text[-LONGEST_ERROR:] or "no error was recorded"
        gone = isinstance(error, RayActorError) and not error.actor_init_failed
        return ("worker_died" if gone else "error"), text

    def _end_silent(self) -> None:
        limit = self._session.resources.timeout_minutes * 60
        for trial_id, trial in self._live.items():
            worker = trial.temporary_state.ray_actor
            if trial.status != Trial.RUNNING or worker is None or trial_id in self._silent:
                continue
            silent = time.monotonic() - self._session.heard[trial.config["trial"]]
            if silent > limit and time.time() - self._last_written(trial.config["trial"]) > limit:
                self._silent.add(trial_id)
                ray.kill(worker)
                if self._session.resources.fuse:  # it may be the host that hangs
                    end_hosts(self._session.storage.uri)

    def _end_unplaced(self, tune_controller: Any) -> None:
        """A trial that waits for a node must not keep a search from its end: that node may be sold out for days."""
        for trial in self._live.values():
            number = trial.config["trial"]
            waited = time.monotonic() - self._session.heard[number]
            if trial.status != Trial.PENDING or waited < UNPLACED_SECONDS:
                continue
            if self._session.guarded(self._session.driver.should_abandon, number):
                tune_controller.stop_trial(trial)

    def _last_written(self, trial: int) -> float:
        try:
            return last_written(self._session.storage, trial)
        except OSError:  # nobody can say: judged at a later look
            return time.time()

    def __reduce__(self) -> tuple[Any, ...]:
        return DriverScheduler, (None,)
