"""Whoever holds a study is found, and nobody who wants it is kept from it."""

from __future__ import annotations

import fcntl
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from search.holder import holder
from search.journal import lock

HOLDER = """
import sys, time
from pathlib import Path
from search.journal import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_study_is_held_as_long_as_its_driver_lives(tmp_path: Path) -> None:
    assert holder(tmp_path / "none") is None
    driver = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == b"held\n"
    assert holder(tmp_path) == f"process {driver.pid} on {platform.node()}"
    driver.kill()
    driver.communicate()
    assert "process" in (tmp_path / "lock").read_text()
    assert holder(tmp_path) is None


@pytest.mark.parametrize("text", [f"process {os.getpid()} on some.other.machine\n", ""])
def test_a_driver_on_another_machine_is_found_by_its_lock(tmp_path: Path, text: str) -> None:
    with (tmp_path / "lock").open("w") as file:
        file.write(text)
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        assert holder(tmp_path) == (text.strip() or "another process")
    assert holder(tmp_path) is None


def test_the_lock_of_this_machines_driver_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with lock(tmp_path):
        pass
    monkeypatch.setattr("search.holder.fcntl.flock", pytest.fail)  # a driver that starts now would be refused
    assert holder(tmp_path) is None
    with (tmp_path / "lock").open() as file:
        assert holder(tmp_path) is None
        monkeypatch.undo()
        fcntl.flock(file, fcntl.LOCK_EX)
        monkeypatch.setattr("search.holder.fcntl.flock", pytest.fail)
        assert holder(tmp_path) is not None
