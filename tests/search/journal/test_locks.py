"""Who works on a study: one driver at a time, however the last one ended."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from search.journal.locks import holder, lock
from trainables.config import ConfigError

HOLD = """
import sys
from pathlib import Path
from search.journal.locks import lock

with lock(Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


def test_a_second_driver_is_refused_and_the_first_is_named(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    assert not list(tmp_path.iterdir())
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    named = f"process {first.pid} on {os.uname().nodename}"
    for _ in range(2):  # being refused leaves the holder's name in place
        with pytest.raises(ConfigError, match=f"running search.*{named}"), lock(tmp_path):
            pass
        assert holder(tmp_path) == named
    first.kill()
    first.communicate()
    assert holder(tmp_path) is None
    for _ in range(2):  # a driver that was killed holds nothing, nor does one that ended
        with lock(tmp_path):
            assert holder(tmp_path) == f"process {os.getpid()} on {os.uname().nodename}"
    assert holder(tmp_path) is None


def test_a_probe_is_not_taken_for_a_driver(tmp_path: Path) -> None:
    with lock(tmp_path):
        pass
    probes = [FileLock(tmp_path / "lock", thread_local=False) for _ in range(2)]
    for probe, enter in zip(probes, (lambda: lock(tmp_path).__enter__(), lambda: holder(tmp_path)), strict=True):
        probe.acquire()
        threading.Timer(0.02, probe.release).start()
        assert enter() is None


def test_a_folder_that_cannot_be_locked_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="writable folder"), lock(tmp_path / "file" / "journal"):
        pass


def test_a_lock_that_is_a_link_is_refused_and_its_target_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(ConfigError, match="must be a writable folder"), lock(tmp_path):
        pass
    assert (tmp_path / "precious").read_text() == "mine"
