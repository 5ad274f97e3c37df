"""Ray: starting one on this machine, joining a cluster, and ending what was started."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from filelock import FileLock, Timeout

from search.journal.error_text import required
from search.planning.resources import cluster_address
from search.tune.patches import ensure_private_token, environment, private_ray, ray_settings
from trainables.cli import stop_signals
from trainables.config import ConfigError
from trainables.cpu import available_cpus

__all__ = ["connect", "ray_ended"]

ANSWER_SECONDS = 10.0
PREFIX = "rs-"  # of Ray's folders, each with a lock that its search holds; short, since Ray makes sockets below
SHORT = "/tmp"  # noqa: S108 (sockets need a short path; the folder made there is this user's alone)
LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107  # bytes
LONGEST_BASE = LONGEST_SOCKET - 64 - len(f"/{PREFIX}12345678/r")  # Ray adds /session_<date>_<process>/sockets/<name>
LEFT_SECONDS = 60.0  # after which a folder whose lock is free was left by a search that was killed


def connect() -> None:
    """Start Ray on this machine, or join the cluster that RAY_ADDRESS names. Idempotent.

    Raises:
        ConfigError: if that cluster does not answer, or Ray cannot be started with this TMPDIR or home.
    """
    if ray.is_initialized():
        return
    # Ray by itself would join whatever cluster somebody has started on this machine.
    address = cluster_address()
    if address is None:
        _start()
        return
    _check_answer(address)
    try:
        with environment(ray_settings()):
            ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL)
    except ConnectionError as error:
        raise _unreachable(address, error) from None


def _start() -> None:
    base = _base()
    _remove_left(base)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))  # Ray lets everyone into the one below, and so to its logs
    _started.append(_lock(folder))
    _started[-1].acquire()
    with required("HOME", Path.home(), "must be a folder that can be written, since Ray keeps its token there"):
        ensure_private_token()
    with environment(ray_settings()), private_ray(), _signals_wait():
        ray.init(
            "local", num_cpus=available_cpus(), include_dashboard=False, log_to_driver=False,
            logging_level=logging.CRITICAL, _temp_dir=str(folder / "r"),
        )  # fmt: skip


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Let the first signal inside count at the end.

    A start of Ray that is interrupted leaves threads behind, with which Python crashes when it ends. Ray's library also
    catches SIGTERM from its start on, and prints what looks like a crash; setting the handlers again ends that.
    """
    if threading.current_thread() is not threading.main_thread():  # only that one may set signal handlers
        yield
        return
    came: list[int] = []
    before = {each: signal.signal(each, lambda number, _: came.append(number)) for each in stop_signals()}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    for number in came[:1]:
        signal.raise_signal(number)


_started: list[FileLock] = []  # the folders of the Rays that were started here and have not ended


def _lock(folder: Path) -> FileLock:
    return FileLock(folder / "lock", timeout=0)


@contextmanager
def ray_ended() -> Iterator[None]:
    """On exit, end the Ray that `connect` has started inside, and remove its files; one that was there before stays.

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
        while _started:
            lock = _started.pop()
            lock.release()
            shutil.rmtree(Path(lock.lock_file).parent, ignore_errors=True)
        for name in set(os.environ) - set(before):  # what Ray has set for itself, such as PYTHONBREAKPOINT
            del os.environ[name]


def _remove_left(base: Path) -> None:
    """What searches that were killed have left: some 10 MB each."""
    for lock in base.glob(f"{PREFIX}{'?' * 8}/lock"):
        folder = lock.parent
        try:
            ours = folder.stat().st_uid == os.getuid() and (folder / "r").is_dir()  # nothing else of this user's
            if ours and time.time() - folder.stat().st_mtime > LEFT_SECONDS:
                with _lock(folder):
                    shutil.rmtree(folder, ignore_errors=True)
        except (OSError, Timeout):  # its search runs, or is removing it
            continue


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


def _base() -> Path:
    """The folder in which Ray's is made, whose sockets need a short path.

    Raises:
        ConfigError: if RAY_TMPDIR names one that does not do.
    """
    asked = os.environ.get("RAY_TMPDIR")
    for name in (asked, os.environ.get("TMPDIR") if sys.platform == "linux" else None, SHORT):
        if name and len(os.fsencode(name)) <= LONGEST_BASE and os.access(name, os.W_OK | os.X_OK):
            return Path(name)
        if name and name == asked:
            break
    rule = f"must be a folder that can be written, with a path of at most {LONGEST_BASE} bytes: Ray makes sockets there"
    raise ConfigError.single("RAY_TMPDIR", asked or SHORT, rule)
