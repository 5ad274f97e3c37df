"""States that were saved for something else: each is refused in one line that says what does not fit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.config import ConfigError, TrialConfig, parse_config
from trainables.data.images import Splits, load_splits
from trainables.prediction.scoring import outputs
from trainables.synthetic import SyntheticRun
from trainables.training.evaluation import score
from trainables.training.loop import Run

DATA = {"source": "digits", "train_samples": 48, "val_samples": 16, "train_eval_samples": 16}
TREE: dict[str, Any] = {
    "model": {"kind": "cifar_resnet", "depth": 8}, "data": DATA, "batch_size": 16, "epochs": 3,
    "optimizer": {"kind": "adamw"}, "regularization": {"ema_decay": 0.9},
}  # fmt: skip


@pytest.fixture(scope="module")
def config() -> TrialConfig:
    return parse_config(TREE)


@pytest.fixture(scope="module")
def splits(config: TrialConfig, tmp_path_factory: pytest.TempPathFactory) -> Splits:
    return load_splits(config.data, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def midway(config: TrialConfig, splits: Splits) -> dict[str, Any]:
    """The state in the middle of the first epoch."""
    run = Run(config, splits)
    next(run.steps())
    return copy.deepcopy(run.state_dict())


def into(*path: Any, value: object) -> Callable[[dict[str, Any]], object]:
    def change(state: Any) -> None:
        *parents, last = path
        for key in parents:
            state = state[key]
        state[last] = value(state[last]) if callable(value) else value

    return change


WRONG: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no weights": (lambda state: state.pop("model"), "'model'"),
    "no average": (into("ema", value=None), "None"),
    "another shape": (into("model", "fc.weight", value=torch.zeros(3, 64)), r"size mismatch for fc\.weight"),
    "a name too many": (into("model", value=lambda model: {**model, "more": torch.zeros(1)}), "Unexpected key.*more"),
    "momentum of another shape": (into("optimizer", "state", 0, "exp_avg", value=torch.zeros(1)), "exp_avg of shape"),
    "a group too few": (into("optimizer", "param_groups", value=[]), "parameter group"),
    "no random stream": (into("partial_epoch", "augment_stream", value=torch.zeros(3, dtype=torch.uint8)), "RNG state"),
    "no list of losses": (into("val_history", value=None), "iterable"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_named(
    config: TrialConfig, splits: Splits, midway: dict[str, Any], change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    state = copy.deepcopy(midway)
    change(state)
    with pytest.raises(ConfigError, match=rf"checkpoint: must hold the state of this trial.*{reason}") as caught:
        Run(config, splits).load_state_dict(state)
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


def test_running_out_of_memory_is_no_fault_of_the_checkpoint(
    config: TrialConfig, splits: Splits, midway: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(state: dict[str, Any]) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    run = Run(config, splits)
    monkeypatch.setattr(run.network, "load_state_dict", full)
    with pytest.raises(torch.OutOfMemoryError):
        run.load_state_dict(midway)


@pytest.mark.parametrize("change", [{"epoch": None}, {"best_loss": None}])
def test_a_synthetic_state_with_a_key_missing(change: dict[str, Any]) -> None:
    run = SyntheticRun(parse_config({"model": {"kind": "synthetic"}}))
    state = {key: value for key, value in run.state_dict().items() if key not in change}
    with pytest.raises(ConfigError, match="checkpoint: must hold the state"):
        run.load_state_dict(state)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda state: state.pop("class_names"), "class_names"),
        (into("class_names", value=["one"]), "classes: must be classes of the checkpoint, which knows 'one'"),
        (into("normalization", value={"mean": "x"}), "mean"),
        (into("ema", "fc.bias", value=torch.zeros(2)), "fc.bias"),
    ],
)
def test_a_checkpoint_that_cannot_be_evaluated(
    config: TrialConfig,
    splits: Splits,
    midway: dict[str, Any],
    change: Callable[[dict[str, Any]], object],
    rule: str,
) -> None:
    state = copy.deepcopy(midway)
    change(state)
    with pytest.raises(ConfigError, match=rule):
        outputs(config, state, splits.val, splits.store)


def test_evaluation_gives_what_validation_gave(tmp_path: Path) -> None:
    config = parse_config({**TREE, "data": {**DATA, "resolution": 12, "val_samples": 100}, "epochs": 1})
    splits = load_splits(config.data, tmp_path)
    run = Run(config, splits)
    (result,) = run.epochs()
    found = outputs(config, run.state_dict(), splits.val, splits.store)
    scores = score(found.logits, found.labels)
    assert not found.notes
    assert (scores.loss, scores.accuracy, scores.f1) == (result.val_loss, result.val_accuracy, result.val_f1)
