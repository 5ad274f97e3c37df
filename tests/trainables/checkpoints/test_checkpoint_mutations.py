"""Checkpoints and weights that are damaged, edited or made to hurt: gone on from, or refused in clear words.

A checkpoint's checksums tell damage. What was edited and written again has good ones, so that its content is held
against the trial that is to go on from it, before any of it is taken over.
"""

from __future__ import annotations

import copy
import os
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.mutations import COSTLY, ODD, check_clear, damaged, mutated, read_or_refused
from tests.trainables.trainable_suite import same
from trainables.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from trainables.config import CifarResNet, ConfigError, parse_config
from trainables.data.images import load_splits
from trainables.evaluate import score_images
from trainables.models import build_model
from trainables.models.pretrained import check_pretrained, pretrained_normalization
from trainables.synthetic import SyntheticRun
from trainables.training.loop import Run

DATA = {"source": "digits", "train_samples": 48, "val_samples": 16, "train_eval_samples": 16}
TREE = {"model": {"kind": "cifar_resnet", "depth": 8}, "data": DATA, "batch_size": 16, "epochs": 3}


class Trial:
    """A config, where its images are, and two states: in the middle of its first epoch, and after it."""

    def __init__(self, cache: Path, **changes: Any) -> None:
        self.config = parse_config({**TREE, **changes})
        self.splits = load_splits(self.config.data, cache)
        run = self.fresh()
        steps = run.steps()
        next(steps)
        self.midway = copy.deepcopy(run.state_dict())
        while next(steps) is None:
            pass
        self.after = copy.deepcopy(run.state_dict())

    def fresh(self) -> Run:
        return Run(self.config, self.splits)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def trial(cache: Path) -> Trial:
    return Trial(cache, optimizer={"kind": "adamw"}, regularization={"ema_decay": 0.9})


@pytest.fixture(scope="module")
def sgd(cache: Path) -> Trial:
    return Trial(cache)


@pytest.fixture(scope="module")
def run(trial: Trial) -> Run:
    """Goes on from whatever is accepted, again and again: building one takes longest."""
    return trial.fresh()


def goes_on(run: Run, state: dict[str, Any]) -> None:
    run.load_state_dict(state)
    next(run.steps(), None)


def tensors() -> list[torch.Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of these kinds are on their way in or out
        return [
            torch.zeros(()), torch.tensor(True), torch.zeros(3), torch.zeros(16, dtype=torch.float64),
            torch.zeros(2, 0), torch.zeros(16, dtype=torch.complex64), torch.eye(3).to_sparse(),
            torch.zeros(1).expand(10**12), torch.empty(16, device="meta"), torch.zeros(16, dtype=torch.float8_e4m3fn),
            torch.zeros(5056, dtype=torch.uint8), torch.quantize_per_tensor(torch.zeros(16), 0.1, 0, torch.quint8),
            torch.nested.nested_tensor([torch.zeros(1), torch.zeros(2)]),
        ]  # fmt: skip


TENSORS: st.SearchStrategy[Any] = st.sampled_from(tensors())


@COSTLY
@given(data=st.data())
def test_an_edited_checkpoint_is_gone_on_from_or_refused(
    tmp_path_factory: pytest.TempPathFactory, trial: Trial, run: Run, data: st.DataObject
) -> None:
    part = data.draw(st.sampled_from([None, "optimizer", "partial_epoch", "model"]))
    state = dict(data.draw(st.sampled_from([trial.midway, trial.after])))
    if part is None:
        shallow = {key: value for key, value in state.items() if key not in ("model", "ema", "optimizer")}
        edited = data.draw(mutated(shallow, ODD | TENSORS, most=2))
        state = {**{key: state[key] for key in state.keys() - shallow.keys()}, **edited} if edited else edited
    else:
        state[part] = data.draw(mutated(state[part], ODD | TENSORS, most=2))
    path = tmp_path_factory.mktemp("edited") / "trial.pt"
    save_checkpoint(state, path)

    def read() -> None:
        goes_on(run, load_checkpoint(path, trial.config))

    read_or_refused(read)


@COSTLY
@given(data=st.data())
def test_a_damaged_file_is_refused_or_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, trial: Trial, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "trial.pt"
    small = {key: value for key, value in trial.midway.items() if key not in ("model", "ema", "optimizer")}
    save_checkpoint(small, path)
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    state = read_or_refused(lambda: load_checkpoint(path, trial.config))
    assert state is None or same(state, small)


def without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda state: state.pop(key)


def into(*path: Any, value: object) -> Callable[[dict[str, Any]], object]:
    def change(state: Any) -> None:
        *parents, last = path
        for key in parents:
            state = state[key]
        state[last] = value(state[last]) if callable(value) else value

    return change


WRONG: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no weights": (without("model"), "model: is required"),
    "no average": (into("ema", value=None), "ema: must be a mapping"),
    "another shape": (into("model", "fc.weight", value=torch.zeros(3, 64)), r"model.fc.weight: .* float32 \[10, 64\]"),
    "another dtype": (into("model", "conv1.weight", value=torch.Tensor.double), r"must be a dense tensor, float32"),
    "no dense tensor": (into("model", "fc.weight", value=torch.Tensor.to_sparse), "a tensor that is not dense"),
    "a name too many": (into("model", value=lambda model: {**model, "more": torch.zeros(1)}), "the model's names only"),
    "momentum of another shape": (
        into("optimizer", "state", 0, "exp_avg", value=torch.zeros(1)), r"optimizer.state.0.exp_avg: must be a dense",
    ),
    "momentum of a stranger": (
        into("optimizer", "state", value=lambda state: {**state, 10**6: state[0]}), "must be a whole number from 0 to",
    ),
    "no momentum": (into("optimizer", "state", 0, value={}), "optimizer.state.0.step: is required"),
    "another weight decay": (
        into("optimizer", "param_groups", 0, "weight_decay", value=99.0), "weight_decay: must be .* as the config says",
    ),
    "parameters nested without end": (
        into("optimizer", "param_groups", 0, "params", value=lambda params: [[[params]]] * len(params)),
        "param_groups.0.params: must be",
    ),
    "a group too few": (into("optimizer", "param_groups", value=[]), "must be a list of"),
    "an epoch to come": (into("epoch", value=10**9), "epoch: must be a whole number from 0 to 3"),
    "an epoch before the first": (into("epoch", value=-1), "epoch: must be a whole number"),
    "an epoch that is true": (into("epoch", value=True), "epoch: must be a whole number"),
    "a step to come": (into("step", value=10**9), "step: must be a whole number from 1 to 3"),
    "a step of no epoch": (into("partial_epoch", value=None), "step: must be a whole number from 0 to 0"),
    "losses of other epochs": (into("val_history", value=[1.0] * 7), "val_history: must be a list of 0 losses"),
    "a random stream of zeros": (
        into("partial_epoch", "augment_stream", value=torch.zeros_like), "must be the state of a random generator",
    ),
    "a random stream too short": (
        into("partial_epoch", "global_streams", "cpu", value=torch.zeros(3, dtype=torch.uint8)), "must be a dense",
    ),
    "endless seconds": (into("partial_epoch", "seconds", value=float("inf")), "must be a number of seconds"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "rule"), WRONG.values(), ids=WRONG.keys())
def test_what_does_not_fit_is_refused_by_name(
    trial: Trial, tmp_path: Path, change: Callable[[dict[str, Any]], object], rule: str
) -> None:
    state = copy.deepcopy(trial.midway)
    change(state)
    save_checkpoint(state, tmp_path / "trial.pt")
    with pytest.raises(ConfigError, match=rf"checkpoint.*{rule}") as caught:
        trial.fresh().load_state_dict(load_checkpoint(tmp_path / "trial.pt", trial.config))
    check_clear(caught.value)
    assert len(str(caught.value)) < 600


def test_another_optimizer_is_refused(trial: Trial, sgd: Trial) -> None:
    with pytest.raises(ConfigError, match=r"checkpoint: optimizer\.state\.0\.momentum_buffer: ") as caught:
        sgd.fresh().load_state_dict({**sgd.midway, "optimizer": trial.midway["optimizer"]})
    check_clear(caught.value)


@given(data=st.data())
def test_an_edited_synthetic_checkpoint_is_gone_on_from_or_refused(data: st.DataObject) -> None:
    config = parse_config({"model": {"kind": "synthetic"}, "epochs": 3})
    run = SyntheticRun(config)
    next(run.epochs())
    state = data.draw(mutated(run.state_dict(), ODD | TENSORS, most=2))

    def read() -> None:
        again = SyntheticRun(config)
        again.load_state_dict(state)
        assert len(list(again.epochs())) <= 3

    read_or_refused(read)


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.victim),)


@pytest.mark.parametrize("place", [("config",), ("epoch",), ("model", "conv1.weight"), ("optimizer", "state", 0)])
def test_pickled_code_does_not_run(trial: Trial, tmp_path: Path, place: tuple[Any, ...]) -> None:
    victim, path = tmp_path / "ran", tmp_path / "trial.pt"
    state = copy.deepcopy(trial.midway)
    into(*place, value=Hostile(victim))(state)
    torch.save(state, path)
    with pytest.raises(ConfigError, match="plain tensors") as caught:
        load_checkpoint(path, trial.config)
    check_clear(caught.value)
    model = CifarResNet(depth=8, pretrained=str(path))
    with pytest.raises(ConfigError, match="plain tensors"):
        check_pretrained(model)
    assert not victim.exists()
    pickle.loads(pickle.dumps(Hostile(victim)))
    assert victim.exists()


def zipped(path: Path, change: Callable[[dict[str, bytes]], object]) -> None:
    """Write the members of a zip file again, with good checksums, after `change`."""
    with zipfile.ZipFile(path) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    change(members)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def named(members: dict[str, bytes], ending: str) -> str:
    return next(name for name in members if name.endswith(ending))


def swapped(one: str, other: str) -> Callable[[dict[str, bytes]], object]:
    def change(members: dict[str, bytes]) -> None:
        first, second = named(members, one), named(members, other)
        members[first], members[second] = members[second], members[first]

    return change


ARCHIVES: dict[str, Callable[[dict[str, bytes]], object]] = {
    "tensors swapped": swapped("/data/0", "/data/1"),
    "pickle and tensor swapped": swapped("/data.pkl", "/data/0"),
    "tensor gone": lambda members: members.pop(named(members, "/data/0")),
    "pickle gone": lambda members: members.pop(named(members, "/data.pkl")),
    "tensor cut": lambda members: members.update({named(members, "/data/0"): b"\0"}),
    "pickle cut": lambda members: members.update({named(members, "/data.pkl"): b"\x80\x02"}),
    "pickle of code": lambda members: members.update({named(members, "/data.pkl"): b"cos\nsystem\n(S'true'\ntR."}),
    "pickle of memory": lambda members: members.update(
        {named(members, "/data.pkl"): b"\x80\x02cbuiltins\nbytearray\n\x8a\x08" + b"\xff" * 7 + b"\x7f\x85R."}
    ),
    "pickle that is deep": lambda members: members.update({named(members, "/data.pkl"): b"(" * 10**5 + b"."}),
    "names that climb": lambda members: members.update({"../../evil": b"x", "/etc/evil": b"x"}),
}


@pytest.mark.parametrize("change", ARCHIVES.values(), ids=ARCHIVES.keys())
def test_members_that_were_changed(trial: Trial, tmp_path: Path, change: Callable[[dict[str, bytes]], object]) -> None:
    # What is swapped among tensors of one size is another checkpoint, which none of the trial's own rules can tell.
    path = tmp_path / "deep" / "deep" / "trial.pt"
    save_checkpoint(trial.midway, path)
    zipped(path, change)
    read_or_refused(lambda: trial.fresh().load_state_dict(load_checkpoint(path, trial.config)))
    assert [item.name for item in tmp_path.rglob("*")] == ["deep", "deep", "trial.pt"]


class Shadowed:
    """Comes back as an OrderedDict with attributes in the place of its methods."""

    def __init__(self, mapping: dict[str, Any]) -> None:
        self.mapping = mapping

    def __reduce__(self) -> tuple[Any, ...]:
        hostile = dict.fromkeys(("keys", "items", "values", "get", "copy", "pop"), "no method")
        return OrderedDict, (list(self.mapping.items()),), hostile


@pytest.mark.parametrize("place", [None, "config", "model", "optimizer", "partial_epoch"])
def test_mappings_whose_methods_are_none_are_refused(trial: Trial, tmp_path: Path, place: str | None) -> None:
    state = {**trial.midway} if place is None else {**trial.midway, place: Shadowed(trial.midway[place])}
    torch.save(Shadowed(state) if place is None else state, tmp_path / "trial.pt")
    with pytest.raises(ConfigError, match="plain tensors") as caught:
        load_checkpoint(tmp_path / "trial.pt", trial.config)
    check_clear(caught.value)
    with pytest.raises(ConfigError, match="plain tensors"):
        check_pretrained(CifarResNet(depth=8, pretrained=str(tmp_path / "trial.pt")))


def pickled(key: str, value: bytes) -> bytes:
    return b"X" + len(key).to_bytes(4, "little") + key.encode() + value + b"s"


def test_a_config_nested_without_end_is_refused(trial: Trial, tmp_path: Path) -> None:
    path, levels = tmp_path / "trial.pt", 100_000
    deep = b"]" * levels + b"a" * (levels - 1)
    rest = pickled("epoch", b"K\0") + pickled("step", b"K\0") + b"."
    for config in (deep, b"}" + pickled("model", deep), b"}" + pickled("epochs", deep)):
        save_checkpoint({}, path)
        content = b"\x80\x02}" + pickled("config", config) + rest
        zipped(path, lambda members, content=content: members.update({named(members, "/data.pkl"): content}))
        with pytest.raises(ConfigError, match="must hold a valid TrialConfig") as caught:
            load_checkpoint(path, trial.config)
        check_clear(caught.value)


class TestEvaluate:
    @pytest.mark.parametrize(
        ("change", "rule"),
        [
            (without("class_names"), "class_names: is required"),
            (into("class_names", value=3), "class_names: must be a list"),
            (into("ema", value=[1]), "ema: must be a mapping"),
            (into("normalization", value={"mean": "x"}), "mean"),
            (into("ema", "fc.bias", value=torch.zeros(2)), "ema.fc.bias: must be a dense tensor"),
        ],
    )
    def test_a_checkpoint_that_does_not_fit_is_refused(
        self, trial: Trial, change: Callable[[dict[str, Any]], object], rule: str
    ) -> None:
        state = copy.deepcopy(trial.after)
        change(state)
        with pytest.raises(ConfigError, match=rule) as caught:
            score_images(trial.config, state, trial.splits.val, trial.splits.store)
        check_clear(caught.value)


@pytest.fixture(scope="module")
def weights() -> dict[str, Any]:
    return dict(build_model(CifarResNet(depth=8), 10).state_dict())


class TestPretrained:
    @COSTLY
    @given(data=st.data())
    def test_edited_weights_fit_or_are_refused(
        self, tmp_path_factory: pytest.TempPathFactory, weights: dict[str, Any], data: st.DataObject
    ) -> None:
        tree = {"normalization": {"mean": [0.5] * 3, "std": [0.2] * 3}, "epoch": 3, "state_dict": weights}
        path = tmp_path_factory.mktemp("weights") / "weights.pt"
        torch.save(data.draw(mutated(tree, ODD | TENSORS, most=3)), path)
        config = CifarResNet(depth=8, pretrained=str(path))
        read_or_refused(lambda: check_pretrained(config))
        read_or_refused(lambda: pretrained_normalization(config))

    @COSTLY
    @given(data=st.data())
    def test_damaged_weights_are_read_or_refused(
        self, tmp_path_factory: pytest.TempPathFactory, weights: dict[str, Any], data: st.DataObject
    ) -> None:
        # Without checksums, which files of others may lack: a flipped bit may be another weight.
        path = tmp_path_factory.mktemp("weights") / "weights.pt"
        torch.save({key: weights[key] for key in list(weights)[:3]}, path, _use_new_zipfile_serialization=False)
        path.write_bytes(data.draw(damaged(path.read_bytes())))
        read_or_refused(lambda: check_pretrained(CifarResNet(depth=8, pretrained=str(path))))

    def test_what_would_take_for_ever_or_all_memory_is_refused(self, weights: dict[str, Any], tmp_path: Path) -> None:
        path = tmp_path / "weights.pt"
        circle: dict[str, Any] = {"epoch": 1}
        circle["model"] = circle
        endless = {**weights, "fc.weight": torch.zeros(1).expand(10**13), "conv1.weight": torch.zeros(1).expand(10**13)}
        for content in (circle, endless, {"model": torch.zeros(2), "epoch": 1}, {"state_dict": {}}, [], None):
            torch.save(content, path)
            with pytest.raises(ConfigError, match=r"model\.pretrained: must hold") as caught:
                check_pretrained(CifarResNet(depth=8, pretrained=str(path)))
            check_clear(caught.value)
