"""All that is done to Ray and Ray Tune beyond their public interface: patches, environment variables, log levels.

Ray is pinned below its next minor version, because these reach for private names. tests/search/tune/test_patches.py has
a test for each that fails once plain Tune does not need it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ray._private.worker
from ray._private import parameter, ray_constants, services, utils
from ray._private.authentication.authentication_token_generator import generate_new_authentication_token
from ray._private.node import Node
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial

__all__ = [
    "NotPickled", "dead_processes", "drop_statistics", "ensure_private_token", "environment", "keep_workers",
    "leave_without_cleanup", "private_ray", "quiet", "ray_settings", "survive_lost_workers", "tune_settings",
    "without_env_propagation",
]  # fmt: skip


def ray_settings() -> dict[str, str]:
    """Environment variables for starting or joining Ray, unless the user has set them."""
    settings = {
        "RAY_USAGE_STATS_ENABLED": "0",  # else Ray reports to its makers, and says so
        # else a trial that asks for no GPU sees none, though it may be configured to train on one
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        # else trials get what any other program leaves over: 2.3 times as long as planned where the machine is shared
        "RAY_worker_niceness": "0",
    }
    return {name: os.environ.get(name, value) for name, value in settings.items()}


def tune_settings(concurrent: int) -> dict[str, str]:
    """Environment variables for Tune while it runs at most `concurrent` trials."""
    return {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # else every result is written thrice more, the journal has it
        "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),  # else snapshots, which nobody reads, are pickled every few seconds
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # else Ctrl-C kills the workers before they have saved their trials
        # Else one worker starts at a time, and is given up whenever a short trial ends before it is there and hands its
        # own worker on: the search never gets past one worker.
        "TUNE_MAX_PENDING_TRIALS_PG": str(concurrent),
        "RAY_AIR_NEW_OUTPUT": "0",  # else a table is printed whatever `verbose` says
        "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # else a traceback is printed for each lost worker
    }


SECRETS = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
TO_A_JOB = {signal.SIGTERM, signal.SIGHUP}  # what scancel, systemd, `timeout` and a closed terminal send to everyone


_Popen: Any = services.ConsolePopen
_RayParams: Any = parameter.RayParams


class _RayProcess(_Popen):  # type: ignore[misc]
    """One of Ray's own processes, as `private_ray` starts it.

    Without this, a signal to the search's process group or job also ends Ray, before the trials are saved, and all that
    is below Ray knows MLflow's password. Its children, the workers, inherit both.
    """

    def __init__(self, *args: Any, env: Mapping[str, str], preexec_fn: Callable[[], None], **kwargs: Any) -> None:
        def prepare() -> None:
            preexec_fn()
            signal.pthread_sigmask(signal.SIG_BLOCK, TO_A_JOB)

        env = {name: value for name, value in env.items() if name not in SECRETS}
        super().__init__(*args, env=env, preexec_fn=prepare, start_new_session=True, **kwargs)

    def terminate(self) -> None:
        self.kill()  # it is deaf to SIGTERM, and holds nothing that must be saved


@contextlib.contextmanager
def private_ray() -> Iterator[None]:
    """While Ray is started on this machine: for this user alone, for this search alone.

    Without this Ray listens on all interfaces, ends with the first signal, replaces this process's handler of SIGTERM,
    and starts a dashboard, a log monitor and an autoscaler, which nobody asks for anything: 4 s of CPU time. Its agent
    wants a port that is the same for all Rays of a machine: where another search runs, or has just ended, this one
    would begin 4 s later.
    """
    options = {"no_monitor": True, "include_log_monitor": False, "dashboard_agent_listen_port": 0}
    with contextlib.ExitStack() as patches:
        for place, name, value in (
            (services, "ConsolePopen", _RayProcess),
            (ray_constants, "ENABLE_RAY_CLUSTER", False),
            (utils, "set_sigterm_handler", lambda handler: None),
            (parameter, "RayParams", partial(_RayParams, **options)),
            (Node, "start_api_server", lambda node, **options: None),
        ):
            patches.enter_context(_replaced(place, name, value))
        yield


@contextlib.contextmanager
def _replaced(place: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)


def ensure_private_token() -> None:
    """Make the token of Ray for this user's eyes alone; Ray makes one that every user of the machine can read.

    Raises:
        OSError: if there is no home to keep it in.
    """
    token = Path.home() / ".ray" / "auth_token"
    token.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(generate_new_authentication_token())
    except FileExistsError:
        token.chmod(0o600)


def dead_processes() -> list[str]:
    """Which of the processes of a Ray that was started here have ended; without them Tune waits for ever."""
    node = ray._private.worker._global_node
    return [] if node is None else [str(kind) for kind, _ in node.dead_processes()]


def leave_without_cleanup(controller: Any) -> None:
    """Let an exception leave Tune at once; it would ask a Ray that is dead to end the workers, for a minute."""
    controller._tune_controller.cleanup = lambda: None


@contextlib.contextmanager
def without_env_propagation() -> Iterator[None]:
    """Tune hands keys such as AWS_SECRET_ACCESS_KEY to its workers in their runtime environment.

    That is in Ray's logs and on a command line; and workers with one of their own cannot use processes that Ray has
    started in advance.
    """
    with _replaced(class_cache, "ENV_VARS_TO_PROPAGATE", ()), _replaced(class_cache, "DEFAULT_ENV_VARS", {}):
        yield


LOG_LEVELS = {
    "ray.tune": logging.ERROR,
    "ray.tune.tune": logging.CRITICAL,  # "Trials did not complete", which have completed on another worker
    "ray.tune.execution.experiment_state": logging.CRITICAL,  # a traceback of the snapshot where the disk is full
}


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and restore them afterwards."""
    before = {name: os.environ[name] for name in variables if name in os.environ}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
        os.environ.update(before)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what Tune logs about things that are not wrong here; levels are restored afterwards."""
    before = {name: logging.getLogger(name).level for name in LOG_LEVELS}
    try:
        for name, level in LOG_LEVELS.items():
            logging.getLogger(name).setLevel(level)
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


class NotPickled:
    """Pickles to an empty string.

    Tune pickles its searcher, scheduler and controller into snapshots, which nobody reads back: without this, the open
    files and threads that ours hold would end the search with a TypeError.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return str, ()


def drop_statistics(trial: Trial) -> None:
    """Free what Tune has counted about an ended trial.

    Tune holds on to every trial, with queues of each of its metrics: without this, most of what a long study grows by.
    """
    trial.run_metadata.metric_analysis.clear()
    trial.run_metadata.metric_n_steps.clear()


def keep_workers(controller: Any, trial: Trial, most: int) -> None:
    """Let `controller` keep up to `most` idle workers with `trial`'s resources, and let starting ones start.

    With `reuse_actors` Tune keeps one idle worker for sure and ends the others; and a trial whose own worker is
    starting takes an idle one, whereupon the starting one is ended. Without this, a search whose trials are shorter
    than the start of a process never gets past one worker, or starts a new process for most trials: 33 s instead of
    23 s for the same hundred trials.

    Args:
        controller: what Tune hands to a scheduler.
        trial: any trial of the study; all ask for the same resources.
        most: how many trials run at once.
    """
    controller = controller._tune_controller  # Tune hands out a wrapper
    controller._actor_cache.increase_max(trial.placement_group_factory, most)
    controller._maybe_reuse_cached_actor = _ReuseUnlessStarting(controller)


class _ReuseUnlessStarting(NotPickled):
    """Gives an idle worker to a waiting trial, unless the trial's own is starting.

    A trial whose worker still waits for resources takes the idle one: its worker may be waiting for those of that one.
    """

    def __init__(self, controller: Any) -> None:
        self._reuse: Callable[[Trial], bool] = controller._maybe_reuse_cached_actor
        self._own: Mapping[Trial, Any] = controller._trial_to_actor
        self._has_resources: Callable[[Any], bool] = controller._actor_manager.is_actor_started

    def __call__(self, trial: Trial) -> bool:
        starting = trial in self._own and self._has_resources(self._own[trial])
        return not starting and self._reuse(trial)


def survive_lost_workers(controller: Any) -> None:
    """Let `controller`, which Tune hands to a scheduler, treat every error of Ray's about a worker as a lost worker.

    Tune knows two ways in which a call to a worker fails: RayActorError (the worker is gone) and RayTaskError (the
    trial raised). What Ray raises for a worker that it killed because memory ran out (OutOfMemoryError), or that went
    with its node, is sometimes neither: without this, it ends the whole search.
    """
    workers = controller._tune_controller._actor_manager
    for name in ("_actor_start_failed", "_actor_task_failed"):
        setattr(workers, name, _as_actor_error(getattr(workers, name)))


def _as_actor_error(handle: Callable[..., None]) -> Callable[..., None]:
    def translated(*, exception: Exception, **failed: Any) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = RayActorError(error_msg=f"{type(exception).__name__}: {exception}")
        handle(exception=exception, **failed)

    return translated
