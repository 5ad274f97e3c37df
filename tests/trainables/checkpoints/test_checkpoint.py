from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainables.trainable_suite import same
from trainables.checkpoints.checkpoint import config_of, load_checkpoint, save_checkpoint
from trainables.config import ConfigError, TrialConfig, merge, parse_config

STATE: dict[str, Any] = {
    "config": TrialConfig().model_dump(mode="json"), "epoch": 3, "step": 0, "model": {"w": torch.arange(4.0)},
}  # fmt: skip


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
        save_checkpoint({**STATE, "bad": lambda: None}, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["trial.pt"]


class _Hostile:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.victim),)


def test_a_hostile_checkpoint_runs_no_code(tmp_path: Path) -> None:
    victim = tmp_path / "ran"
    torch.save({**STATE, "payload": _Hostile(victim)}, tmp_path / "hostile.pt")
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


def test_an_entry_that_is_a_folder_or_compressed_is_refused(tmp_path: Path) -> None:
    # Of a folder torch takes what lies in memory for its content; what is compressed may unpack forever.
    folder, packed = tmp_path / "folder.pt", tmp_path / "packed.pt"
    save_checkpoint(STATE, folder)
    save_checkpoint(STATE, packed)
    content = bytearray(folder.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 38] |= 0x10
    folder.write_bytes(content)
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/more", bytes(1000))
    for path in (folder, packed):
        with pytest.raises(ConfigError, match="damaged"):
            load_checkpoint(path)


class TestAnotherConfig:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        save_checkpoint(STATE, tmp_path / "trial.pt")
        return tmp_path / "trial.pt"

    def refusal(self, path: Path, changes: dict[str, Any]) -> str:
        with pytest.raises(ConfigError) as refused:
            load_checkpoint(path, parse_config(merge(STATE["config"], changes)))
        return str(refused.value)

    def test_the_same_is_read(self, path: Path) -> None:
        assert same(load_checkpoint(path, TrialConfig()), STATE)

    def test_it_is_refused_by_the_keys_that_differ(self, path: Path) -> None:
        message = self.refusal(path, {"seed": 7, "optimizer": {"lr": 0.2}})
        assert "not with another optimizer.lr (0.1 there, 0.2 here); seed (0 there, 7 here), got" in message
        assert str(path) in message

    def test_a_kind_is_named_first_and_the_rest_is_counted(self, path: Path) -> None:
        message = self.refusal(path, {"optimizer": {"kind": "adamw"}})
        assert "not with another optimizer.kind (sgd there, adamw here); optimizer.lr (" in message
        assert "; and 4 more" in message

    def test_what_the_machine_decides_is_no_difference(self, path: Path) -> None:
        resolved = {"device": "cpu", "threads": 2, "memory_format": "channels_last", "precision": "fp32"}
        load_checkpoint(path, parse_config({"execution": resolved}))
        save_checkpoint({**STATE, "config": merge(STATE["config"], {"execution": resolved})}, path)
        load_checkpoint(path, TrialConfig())
        load_checkpoint(path, parse_config({"execution": resolved}))
        assert "execution.threads (2 there, 3 here)" in self.refusal(path, {"execution": {"threads": 3}})
        assert "execution.precision (fp32 there, bf16 here)" in self.refusal(path, {"execution": {"precision": "bf16"}})


@pytest.mark.parametrize("config", [{"optimizer": {"kind": "sgd", "speed": 1}}, [1], None])
def test_a_config_that_is_none_is_reported_with_the_file(tmp_path: Path, config: object) -> None:
    path = tmp_path / "trial.pt"
    save_checkpoint({**STATE, "config": config}, path)
    with pytest.raises(ConfigError, match=r"must hold a valid TrialConfig .*trial\.pt"):
        load_checkpoint(path)


def test_a_file_that_was_cut_or_whose_bits_were_flipped_is_refused(tmp_path: Path) -> None:
    # torch itself loads a flipped bit as another weight. Some bytes of a file's directory say nothing.
    path, damaged, random = tmp_path / "trial.pt", tmp_path / "damaged.pt", np.random.default_rng(0)
    save_checkpoint(STATE, path)
    content = path.read_bytes()
    files = [content[:length] for length in (0, 1, *range(50, len(content), 100), len(content) - 1)]
    for position in range(0, len(content), 3):
        flipped = bytearray(content)
        flipped[position] ^= 1 << int(random.integers(8))
        files.append(bytes(flipped))
    refusals = 0
    for changed in files:
        damaged.write_bytes(changed)
        try:
            assert same(load_checkpoint(damaged), STATE)
        except ConfigError as error:
            assert "damaged" in str(error)  # noqa: PT017 (the other outcome is fine as well)
            refusals += 1
    assert refusals > len(files) / 2
