"""Ray: connecting to it, and running a study's trials on it.

Tune's own searcher state, scheduler state and snapshots are not used: the journal is the only state. What Tune's
OptunaSearch and ASHA do differently, and wrongly for this purpose, is said in `search.algorithms`.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune

from search.planning.resources import cluster_address
from search.tune.adapters import DriverScheduler, DriverSearcher, TuneContext
from search.tune.fusion_host import end_hosts
from search.tune.patches import environment, quiet, ray_settings, tune_settings
from search.tune.trainable import ResNetTrial
from trainables.config import ConfigError

__all__ = ["connect", "ray_ended", "run_trials"]

LONGEST_FOLDER = 36  # bytes; Ray adds 70 for its sockets, whose paths have at most 103 on macOS and 107 on Linux
ANSWER_SECONDS = 10.0


def connect() -> None:
    """Start Ray on this machine, or join the cluster that RAY_ADDRESS names. Idempotent.

    Raises:
        ConfigError: if that cluster does not answer, or Ray cannot use the folder that RAY_TMPDIR names.
    """
    if ray.is_initialized():
        return
    # Ray by itself would join whatever cluster somebody has started on this machine.
    address = cluster_address()
    folder = None
    if address is not None:
        _check_answer(address)
    else:
        folder = _socket_folder()
    try:
        with environment(ray_settings()):
            ray.init(
                address or "local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
                _temp_dir=folder,
            )  # fmt: skip
    except ConnectionError as error:
        raise _unreachable(address, error) from None


@contextmanager
def ray_ended() -> Iterator[None]:
    """On exit, end the Ray that `connect` has started inside; one that was there before stays.

    A Ray that outlived the thread that started it would be killed with that thread, and later calls with it.
    """
    if ray.is_initialized():
        yield
        return
    before = dict(os.environ)
    try:
        yield
    finally:
        ray.shutdown()
        for name in set(os.environ) - set(before):  # what Ray has set for itself, such as PYTHONBREAKPOINT
            del os.environ[name]


def _check_answer(address: str) -> None:
    """Ray itself would try for minutes, and not name RAY_ADDRESS."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
        except OSError as error:
            raise _unreachable(address, error) from None


def _unreachable(address: str | None, error: Exception) -> ConfigError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    rule = f"must be a cluster that answers ({reason}): start it, or unset RAY_ADDRESS to search on this machine"
    return ConfigError.single("RAY_ADDRESS", address, rule)


def _socket_folder() -> str | None:
    """Where Ray is to make its sockets; None for the folder that it would choose.

    Raises:
        ConfigError: if RAY_TMPDIR names one that does not do.
    """
    asked = os.environ.get("RAY_TMPDIR")
    chosen = asked or (os.environ.get("TMPDIR") if sys.platform == "linux" else None) or "/tmp"  # noqa: S108 (Ray's)
    below = Path(chosen, "ray")
    if len(os.fsencode(chosen)) <= LONGEST_FOLDER and (not below.exists() or os.access(below, os.W_OK)):
        return None
    if asked:
        rule = f"must be a folder that can be written, with a path of at most {LONGEST_FOLDER} bytes"
        raise ConfigError.single("RAY_TMPDIR", asked, f"{rule}: Ray makes sockets there")
    return f"/tmp/ray-{os.getuid()}"  # noqa: S108 (a folder of this user's own)


def run_trials(context: TuneContext, trainable: type[tune.Trainable] = ResNetTrial) -> None:
    """Run the study's trials on the connected Ray until the driver has finished or was interrupted.

    In the main thread, the first SIGINT or SIGTERM interrupts: running trials are saved and end. Ray's files go to
    `ray/` in the study's folder, below the session's number.

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
        ),
    )
    if context.resources.fuse:
        end_hosts(context.storage.uri)  # of a session that was killed: they hold GPU memory
    try:
        with _interruptible(context), environment(tune_settings(context.concurrent)), quiet():
            tuner.fit()
    except (EOFError, OSError) as error:
        # At its end Tune reads back files of its trials, for a result that is not used: a full disk left them empty.
        if not (context.driver.finished or context.driver.interrupted):
            raise
        context.trouble = context.trouble or f"Ray's files in {context.study / 'ray'} cannot be read ({error!r})"
    finally:
        if context.resources.fuse:
            end_hosts(context.storage.uri)


@contextmanager
def _interruptible(context: TuneContext) -> Iterator[None]:
    """The first signal interrupts the session, a second one raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():  # only that one may set signal handlers
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        if context.driver.interrupted:
            raise KeyboardInterrupt
        context.warn("interrupted: saving the running trials; once more stops at once")
        context.interrupt()

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    previous[signal.SIGUSR1] = signal.getsignal(signal.SIGUSR1)  # which Tune sets
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
