from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainables.checkpoint import config_of, load_checkpoint, save_checkpoint
from trainables.config import ConfigError, TrialConfig

STATE: dict[str, Any] = {"config": TrialConfig().model_dump(mode="json"), "epoch": 3, "model": {"w": torch.arange(4.0)}}


def test_round_trip_with_its_config(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "trial.pt"
    save_checkpoint(STATE, path)
    state = load_checkpoint(path)
    assert config_of(state) == TrialConfig()
    assert torch.equal(state["model"]["w"], STATE["model"]["w"])
    assert [p.name for p in path.parent.iterdir()] == ["trial.pt"]


def test_a_failed_write_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "trial.pt"
    save_checkpoint(STATE, path)
    before = path.read_bytes()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_checkpoint({"config": {}, "epoch": 4, "bad": lambda: None}, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["trial.pt"]


class _Hostile:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.victim),)


def test_a_hostile_checkpoint_runs_no_code(tmp_path: Path) -> None:
    victim = tmp_path / "ran"
    torch.save({"config": {}, "epoch": 1, "payload": _Hostile(victim)}, tmp_path / "hostile.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(_Hostile(victim)))
    for name in ("hostile.pt", "plain.pt"):
        with pytest.raises(ConfigError, match="plain tensors"):
            load_checkpoint(tmp_path / name)
    assert not victim.exists()


@pytest.mark.parametrize("name", ["absent.pt", "."])
def test_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="readable file"):
        load_checkpoint(tmp_path / name)


def test_another_file_of_tensors_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "weights.pt")
    with pytest.raises(ConfigError, match="TrialConfig"):
        load_checkpoint(tmp_path / "weights.pt")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_checkpoint_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "trial.pt"
    save_checkpoint(STATE, path)
    content = bytearray(path.read_bytes())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        content[position] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        state = load_checkpoint(path)
        config_of(state)
    except ConfigError:
        return
    assert "config" in state
