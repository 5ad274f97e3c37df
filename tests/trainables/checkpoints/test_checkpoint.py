from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.trainables.trainable_suite import same
from trainables.checkpoints.checkpoint import config_of, load_checkpoint, save_checkpoint
from trainables.config import ConfigError, TrialConfig, merge, parse_config
from trainables.data.images import load_splits
from trainables.training.loop import Run

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


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a network in the middle of its first epoch."""
    folder = tmp_path_factory.mktemp("real")
    data = {"source": "digits", "train_samples": 64, "val_samples": 16, "train_eval_samples": 16}
    config = parse_config({"model": {"kind": "cifar_resnet", "depth": 8}, "data": data, "batch_size": 16, "epochs": 1})
    trial = Run(config, load_splits(config.data, folder))
    assert next(trial.steps()) is None
    save_checkpoint(trial.state_dict(), folder / "trial.pt")
    return folder / "trial.pt"


def test_a_file_cut_at_any_length_is_refused(real: Path, tmp_path: Path) -> None:
    content, cut = real.read_bytes(), tmp_path / "cut.pt"
    lengths = {0, 1, len(content) - 1, *np.random.default_rng(0).integers(len(content), size=30).tolist()}
    for length in lengths:
        cut.write_bytes(content[:length])
        with pytest.raises(ConfigError, match="damaged"):
            load_checkpoint(cut)


def test_a_flipped_bit_changes_nothing_or_is_refused(real: Path, tmp_path: Path) -> None:
    # torch itself loads a flipped bit as another weight. In the small file every third byte has its turn, which meets
    # all fields of its directory; in the real one, nearly all of it weights, fifty do.
    small, flipped, random = tmp_path / "small.pt", tmp_path / "flipped.pt", np.random.default_rng(0)
    save_checkpoint(STATE, small)
    for path in (small, real):
        content, state, refusals = path.read_bytes(), load_checkpoint(path), []
        third, some = range(0, len(content), 3), random.integers(len(content), size=50).tolist()
        positions = third if path == small else some
        for position in positions:
            changed = bytearray(content)
            changed[position] ^= 1 << int(random.integers(8))
            flipped.write_bytes(changed)
            try:
                loaded = load_checkpoint(flipped)
            except ConfigError as error:
                refusals.append(str(error))
            else:
                assert same(loaded, state)
        assert len(refusals) > len(positions) / 2
        assert all("damaged" in refusal for refusal in refusals)


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
    except ConfigError:
        return
    assert same(state, STATE)
