"""Running a study's trials on the connected Ray.

Tune's own searcher state, scheduler state and snapshots are not used: the journal is the only state. What Tune's
OptunaSearch and ASHA do differently, and wrongly for this purpose, is said in `search.algorithms.schedulers.base`.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray import tune

from search.tune.adapters import DriverScheduler, DriverSearcher, RayEndedError, TuneContext
from search.tune.fusion_host import end_hosts
from search.tune.patches import dead_processes, environment, quiet, tune_settings, without_env_propagation
from search.tune.trainable import ResNetTrial
from search.views.next_commands import resume
from trainables.cli import leave_terminal, stop_signals

__all__ = ["run_trials"]

LOOK_SECONDS = 1.0
STUCK_SECONDS = 8.0


def run_trials(context: TuneContext, trainable: type[tune.Trainable] = ResNetTrial) -> None:
    """Run the study's trials on the connected Ray until the driver has finished or was interrupted.

    In the main thread, the first SIGINT, SIGTERM or SIGHUP interrupts: running trials are saved and end. Ray's files
    are in `ray/` in the study's folder meanwhile.

    Args:
        context: the driver and how its trials are run.
        trainable: what runs a leg.

    Raises:
        KeyboardInterrupt: at a second signal.
    """
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": context.resources.cpus_per_trial, "gpu": context.resources.gpus}),
        tune_config=tune.TuneConfig(
            search_alg=DriverSearcher(context), scheduler=DriverScheduler(context), num_samples=-1, reuse_actors=True
        ),
        run_config=tune.RunConfig(
            name=f"session-{context.number:04d}",
            storage_path=str(context.study / "ray"),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the trials' own are in `checkpoints/`
            verbose=0,
            progress_reporter=tune.CLIReporter(),  # silent, too; in a notebook Tune's own empties the cell's output
        ),
    )
    if context.resources.fuse:
        end_hosts(context.storage.uri)  # of a session that was killed: they hold GPU memory
    try:
        with (
            _interruptible(context),
            _never_stuck(context),
            environment(tune_settings(context.concurrent)),
            without_env_propagation(),
            quiet(),
        ):
            tuner.fit()
    except RayEndedError as error:
        context.driver.interrupt(str(error))
    except (EOFError, OSError) as error:
        # At its end Tune reads back files of its trials, for a result that is not used: a full disk left them empty.
        if not (context.driver.finished or context.driver.interrupted):
            raise
        context.driver.interrupt(f"Ray's files in {context.study / 'ray'} cannot be read ({error!r})")
    finally:
        if context.resources.fuse and not dead_processes():
            end_hosts(context.storage.uri)
        shutil.rmtree(context.study / "ray", ignore_errors=True)  # what matters is in the journal


@contextmanager
def _never_stuck(context: TuneContext) -> Iterator[None]:
    """End the process, which Ray would do after a minute without a word, where a call into a Ray that is gone hangs."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_SECONDS):
            if dead_processes() and not over.wait(STUCK_SECONDS):
                context.warn(f"Ray ended; every result is kept, and this continues: {resume(context.study)}")
                os._exit(1)

    threading.Thread(target=watch, name="ray-watch", daemon=True).start()
    try:
        yield
    finally:
        over.set()


@contextmanager
def _interruptible(context: TuneContext) -> Iterator[None]:
    """The first signal interrupts the session, a second one raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():  # only that one may set signal handlers
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        if number == signal.SIGHUP:
            leave_terminal()
        if context.driver.interrupted:
            raise KeyboardInterrupt
        context.warn("interrupted: saving the running trials; press Ctrl-C again to stop immediately")
        context.interrupt()

    previous = {number: signal.signal(number, interrupt) for number in stop_signals()}
    previous[signal.SIGUSR1] = signal.getsignal(signal.SIGUSR1)  # which Tune sets
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
