"""What Ray is started with; what a killed search leaves in the folder for temporary files is removed, nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import ray
from ray._private.parameter import RayParams
from ray._private.ray_constants import DEFAULT_DASHBOARD_AGENT_LISTEN_PORT as FIXED

from search.tune.connection import _lock, _remove_left, connect, ray_ended


def niceness() -> int:
    return os.nice(0)


def test_plain_ray_wants_the_same_port_for_every_ray_of_a_machine() -> None:
    assert RayParams().dashboard_agent_listen_port == FIXED


@pytest.mark.slow  # a Ray of its own
def test_trials_have_the_share_of_the_machine_that_the_search_has() -> None:
    with ray_ended():
        connect()
        assert ray.get(ray.remote(niceness).remote()) == niceness()
        node = ray._private.worker._global_node
        assert node is not None
        assert node.dashboard_agent_listen_port not in (0, FIXED)


def test_only_old_folders_of_ended_searches_are_removed(tmp_path: Path) -> None:
    for name in ("rs-left0000", "rs-running0", "rs-started0", "rs-photos00", "rs-photos", "rs-locked00"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "precious").touch()
        if "photos" not in name:
            (tmp_path / name / "lock").touch()
        if "locked" not in name:
            (tmp_path / name / "r").mkdir()
        if "started" not in name:
            os.utime(tmp_path / name, (0, 0))
    with _lock(tmp_path / "rs-running0"):
        os.utime(tmp_path / "rs-running0", (0, 0))
        _remove_left(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"rs-running0", "rs-started0", "rs-photos00", "rs-photos", "rs-locked00"}
