"""Ray: connecting to it, and running a study's trials on it.

Tune's own searcher state, scheduler state and snapshots are not used: the journal is the only state. What Tune's
OptunaSearch and ASHA do differently, and wrongly for this purpose, is said in `searchers` and `schedulers`.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray import tune

from search.tune.adapters import DriverScheduler, DriverSearcher, TuneContext
from search.tune.fusion_host import end_hosts
from search.tune.nodes import expected_resources
from search.tune.trainable import ResNetTrial

__all__ = ["available_resources", "connect", "run_trials"]


def connect() -> None:
    """Start Ray on this machine, or join the cluster that RAY_ADDRESS names. Idempotent."""
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # A GPU hidden from trials that ask for none would hide the device they were configured for.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray by itself would join whatever cluster somebody has started on this machine.
    address = os.environ.get("RAY_ADDRESS") or "local"
    ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)


def available_resources(tell: Callable[[str], None]) -> dict[str, float]:
    """What the connected Ray has in all, by kind (`CPU`, `GPU`), and what it can grow to; `tell` shows a line."""
    return expected_resources(tell)


def run_trials(session: TuneContext, trainable: type[tune.Trainable] = ResNetTrial) -> None:
    """Run the study's trials on the connected Ray until the driver has finished or was interrupted.

    The first SIGINT or SIGTERM interrupts: running trials are saved and let go of. Ray's files go to `ray/` in the
    study's folder, below the session's number.

    Args:
        session: the driver and how its trials are run.
        trainable: what runs a leg.

    Raises:
        KeyboardInterrupt: at a second signal.
    """
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # the journal holds every result already
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = str(10**9)  # and every decision
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # ours lets the trials be saved
    # Workers take seconds to start. One at a time, the second would be given up whenever a short trial ends before it
    # is there and hands its own worker on: the search would never get past one worker.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(session.concurrent)
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # prints a table whatever `verbose` says
    os.environ["TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S"] = "60"
    os.environ["TUNE_PRINT_ALL_TRIAL_ERRORS"] = "0"  # a lost worker is told in a line, an error is in the journal
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    # It says at the end that trials did not complete, which have completed on another worker.
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)
    # Tune's snapshot fails with a traceback where the disk is full; nobody reads it back.
    logging.getLogger("ray.tune.execution.experiment_state").setLevel(logging.CRITICAL)
    resources = {"cpu": session.resources.cpus_per_trial, "gpu": session.resources.gpus}
    tuner = tune.Tuner(
        tune.with_resources(trainable, resources),
        tune_config=tune.TuneConfig(
            search_alg=DriverSearcher(session), scheduler=DriverScheduler(session), num_samples=-1, reuse_actors=True
        ),
        run_config=tune.RunConfig(
            name=f"session-{session.number:04d}",
            storage_path=str(session.study / "ray"),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the trials' own are in `checkpoints/`
            verbose=0,
        ),
    )
    if session.resources.fuse:
        end_hosts(session.storage.uri)  # of a session that was killed: they hold what the GPU has
    try:
        with _interruptible(session):
            tuner.fit()
    finally:
        if session.resources.fuse:
            end_hosts(session.storage.uri)


@contextmanager
def _interruptible(session: TuneContext) -> Iterator[None]:
    """The first signal interrupts the session, a second one raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():  # which alone may do this
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        if session.driver.interrupted:
            raise KeyboardInterrupt
        session.warn("interrupted: saving the running trials; once more stops at once")
        session.interrupt()

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
