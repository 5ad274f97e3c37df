"""Ray Tune around a `StudyDriver`: Tune places trials and moves results, the driver decides.

Tune's own searcher state, scheduler state and snapshots are not used: the journal is the only state. What Tune's
OptunaSearch and ASHA do differently, and wrongly for this purpose, is said in `searchers` and `schedulers`.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from importlib import metadata
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher as TuneSearcher

from search.driver import StudyDriver
from search.study import Resources
from search.trial import ResNetTrial
from search.warm_workers import keep_workers
from trainables.result import METRICS

LONGEST_ERROR = 4000  # characters; the end of a traceback says most

__all__ = ["available_resources", "connect", "run_trials"]


class DriverSearcher(TuneSearcher):
    """Hands the driver's trials to Tune, at most `concurrent` at a time.

    Tune's own limits count paused trials as live; this one counts running trials only.
    """

    def __init__(self, driver: StudyDriver | None, concurrent: int, cache: Path, checkpoints: Path) -> None:
        super().__init__()
        self._driver, self._concurrent = driver, concurrent
        self._cache, self._checkpoints = cache, checkpoints

    def suggest(self, trial_id: str) -> Any:
        if self._driver is None or (self._driver.running >= self._concurrent and not self._driver.exhausted):
            return None
        suggested = self._driver.next_trial()
        if suggested is None:
            return TuneSearcher.FINISHED
        return {
            "trial": suggested.trial,
            "config": suggested.config,
            "cache": str(self._cache),
            "version": metadata.version("resnet-search"),
            "checkpoints": str(self._checkpoints / f"trial-{suggested.trial:04d}"),
        }

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        raise RuntimeError("a study resumes from its journal, not from Ray's snapshot")

    def __reduce__(self) -> tuple[Any, ...]:
        # Tune pickles its searcher into tuner.pkl, which nobody reads back; open files and threads stay here.
        return DriverSearcher, (None, self._concurrent, self._cache, self._checkpoints)


class DriverScheduler(FIFOScheduler):
    """Brings every result to the driver, and its decision back."""

    def __init__(self, driver: StudyDriver | None, concurrent: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._driver, self._concurrent = driver, concurrent
        self._waiting: dict[str, Trial] = {}
        self._keeps_workers = False

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._waiting[trial.trial_id] = trial
        if not self._keeps_workers:
            keep_workers(tune_controller, trial, self._concurrent)
            self._keeps_workers = True

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        # FIFO without a walk through every finished trial at each step.
        for trial_id, trial in list(self._waiting.items()):
            if trial.status == Trial.PENDING:
                return trial
            if trial.status in (Trial.TERMINATED, Trial.ERROR):
                del self._waiting[trial_id]
        return None

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if self._driver is None:
            raise RuntimeError("a scheduler read back from tuner.pkl has no driver")
        stop = self._driver.on_result(
            trial.config["trial"], result["epoch"], {name: result[name] for name in METRICS},
            result["last"], result["stop_reason"], result["checkpoint"],
        )  # fmt: skip
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        if self._driver is not None:
            # Ray copies the error to its storage later; here it lies beside the driver.
            file = Path(trial.error_file) if trial.error_file else None
            text = file.read_text(errors="replace") if file is not None and file.exists() else ""
            self._driver.on_error(trial.config["trial"], text.strip()[-LONGEST_ERROR:] or "no error was recorded")

    def __reduce__(self) -> tuple[Any, ...]:
        return DriverScheduler, (None, self._concurrent)


def connect() -> None:
    """Start Ray on this machine, or join the cluster that RAY_ADDRESS names. Idempotent."""
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # A GPU hidden from trials that ask for none would hide the device they were configured for.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)


def available_resources() -> dict[str, float]:
    """What the connected Ray has in all, by kind (`CPU`, `GPU`)."""
    return dict(ray.cluster_resources())  # type: ignore[no-untyped-call]


def run_trials(
    driver: StudyDriver, resources: Resources, concurrent: int, study: Path, session: int, cache: Path
) -> bool:
    """Run the study's trials on the connected Ray until the driver is exhausted and every trial has ended.

    `study` is the study's folder (absolute): Ray's files go to `ray/`, checkpoints to `checkpoints/`, each below the
    session's number, so that a worker of a dead session can never write into a living one.

    Returns:
        False if an interrupt ended it early; what was done until then is in the journal.
    """
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # the journal holds every result already
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = str(10**9)  # and every decision
    # Workers take seconds to start. One at a time, the second would be given up whenever a short trial ends before it
    # is there and hands its own worker on: the search would never get past one worker.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(concurrent)
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # prints a table whatever `verbose` says
    os.environ["TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S"] = "60"
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    name = f"session-{session:04d}"
    interrupted = threading.Event()
    previous = _as_interrupt(signal.SIGTERM)
    try:
        tuner = tune.Tuner(
            tune.with_resources(ResNetTrial, {"cpu": resources.cpus_per_trial, "gpu": resources.gpus_per_trial or 0.0}),
            tune_config=tune.TuneConfig(
                search_alg=DriverSearcher(driver, concurrent, cache, study / "checkpoints" / name),
                scheduler=DriverScheduler(driver, concurrent),
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(name=name, storage_path=str(study / "ray"), verbose=0),
        )
        tuner.fit()
    except KeyboardInterrupt:
        interrupted.set()
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)
    return driver.exhausted and not driver.running and not interrupted.is_set()


def _as_interrupt(number: signal.Signals) -> Any:
    """SIGTERM as a graceful interrupt; Ray would abort at it without saving. Only the main thread may do this."""
    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
