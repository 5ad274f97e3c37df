from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.trainables.trainable_suite import numbers
from trainables.config import ConfigError, merge, parse_config
from trainables.data.images import load_splits
from trainables.result import EpochResult
from trainables.training.evaluation import Scores, score
from trainables.training.loop import Run
from trainables.training.rung_average import RungAverage

DIGITS: dict[str, Any] = {
    "model": {"kind": "cifar_resnet", "depth": 8},
    "data": {"source": "digits", "train_samples": 256, "val_samples": 100, "train_eval_samples": 64},
    "optimizer": {"kind": "sgd", "lr": 0.2},
    "batch_size": 32,
    "epochs": 4,
    "execution": {"device": "cpu", "threads": 1, "precision": "fp32"},
}
NAMES = {"val_loss", "val_accuracy", "val_precision", "val_recall", "val_f1"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def run(tree: dict[str, Any], cache: Path, *rungs: int) -> Run:
    config = parse_config(tree)
    return Run(config, load_splits(config.data, cache), rungs)


def test_rungs_alone_are_averaged_and_nothing_else_changes(cache: Path) -> None:
    plain, watched = list(run(DIGITS, cache).epochs()), list(run(DIGITS, cache, 1, 3).epochs())
    assert [set(result.averaged) for result in watched] == [NAMES, set(), NAMES, set()]
    assert [_own(result) for result in watched] == [_own(result) for result in plain]
    for result in (watched[0], watched[2]):
        assert result.averaged["val_loss"] != result.val_loss
        assert result.metrics()["averaged_val_loss"] == result.averaged["val_loss"]
    assert "averaged_val_loss" not in watched[1].metrics()


def test_the_average_is_that_of_the_last_epochs_steps(cache: Path) -> None:
    trial, moment, steps, count = run(DIGITS, cache, 2), {}, 8, 0  # of an epoch, and so far
    for result in trial.steps():
        if result is None:
            count += 1
            for name, value in trial.network.state_dict().items():
                if value.is_floating_point():
                    moment[name] = moment.get(name, 0.0) * (1 - 1 / steps) + value.double() / steps
        elif result.epoch == 2:
            break
    expected = run(DIGITS, cache).network
    whole = {name: value for name, value in trial.network.state_dict().items() if not value.is_floating_point()}
    share = 1 - (1 - 1 / steps) ** count
    expected.load_state_dict(whole | {name: (value / share).float() for name, value in moment.items()})
    found = score(trial._inference.logits(expected, trial._val), trial._val.labels)
    assert result is not None
    assert result.averaged["val_loss"] == pytest.approx(found.loss, rel=1e-3)


def test_an_interrupted_trial_averages_as_if_it_had_not_been(cache: Path) -> None:
    whole = list(run(DIGITS, cache, 1, 3).epochs())
    begun = run(DIGITS, cache, 1, 3)
    for _, _ in zip(range(13), begun.steps(), strict=False):  # into the second epoch
        pass
    state = begun.state_dict()
    resumed = run(DIGITS, cache, 1, 3)
    resumed.load_state_dict(state)
    assert [dict(result.averaged) for result in resumed.epochs()] == [dict(result.averaged) for result in whole[1:]]


def test_after_the_last_rung_no_weights_are_kept(cache: Path) -> None:
    trial = run(DIGITS, cache, 1, 2)
    assert [trial.state_dict()["rung_average"] is not None for _ in trial.epochs()] == [True, False, False, False]


def test_with_ema_the_metrics_are_an_average_already(cache: Path) -> None:
    result = next(run(merge(DIGITS, {"regularization": {"ema_decay": 0.9}}), cache, 1).epochs())
    assert not result.averaged


def test_a_checkpoint_without_an_average_begins_one(cache: Path) -> None:
    begun = run(DIGITS, cache)
    next(begun.epochs())
    resumed = run(DIGITS, cache, 3)
    resumed.load_state_dict(begun.state_dict())
    assert [set(result.averaged) for result in resumed.epochs()] == [set(), NAMES, set()]


def test_a_network_that_cannot_be_copied_is_refused_by_name() -> None:
    with pytest.warns(FutureWarning):
        module = nn.utils.weight_norm(nn.Linear(2, 2))
    assert RungAverage(module, (), 5).metrics(1, _never) == {}
    with pytest.raises(ConfigError, match="must be current with a model that cannot be copied"):
        RungAverage(module, (1,), 5)


def test_a_step_an_epoch_is_its_own_average() -> None:
    model = nn.Linear(2, 2)
    average = RungAverage(model, (1,), 1)
    for _ in range(2):
        nn.init.normal_(model.weight)
        average.update()
    seen: list[torch.Tensor] = []

    def look(module: nn.Module) -> Scores:
        seen.append(module.weight)  # type: ignore[arg-type]
        return Scores(0.0, 0.0, 0.0, 0.0, 0.0, False)

    average.metrics(1, look)
    assert torch.equal(seen[0], model.weight)


def _own(result: EpochResult) -> dict[str, Any]:
    found: dict[str, Any] = numbers(result)
    return {name: value for name, value in found.items() if not name.startswith("averaged")}


def _never(model: nn.Module) -> Scores:
    raise AssertionError("nothing is scored")
