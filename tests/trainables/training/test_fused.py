from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainables.training.test_loop import DIGITS, run
from trainables.augment.batch import Batch
from trainables.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from trainables.config import merge
from trainables.result import EpochResult
from trainables.training import fused
from trainables.training.fused import FusedSteps
from trainables.training.loop import Run

pytestmark = pytest.mark.numeric

SMALL = merge(DIGITS, {"epochs": 2, "data": {"train_samples": 128}, "execution": {"precision": "fp32"}})
SEEDS: list[dict[str, Any]] = [{"seed": 1}, {"seed": 2}]
RECIPES: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "sgd": ({}, [{"optimizer": {"lr": 0.02, "momentum": 0.8}}, {"optimizer": {"lr": 0.1}}, {"seed": 3}]),
    "all that may differ differs": (
        {},
        [
            {
                "augment": {"strength": 0.5, "policy": "trivialaugment"},
                "schedule": {"kind": "one_cycle", "cycle_momentum": True},
            },
            {"regularization": {"ema_decay": 0.9, "clip_norm": 0.5}, "augment": {"mixup": 0.0, "cutmix": 1.0}},
            {"regularization": {"label_smoothing": 0.1, "imbalance": "class_weights"}, "epochs": 1},
        ],
    ),
    "channels last, group norm": ({"model": {"norm": "group"}, "execution": {"memory_format": "channels_last"}}, SEEDS),
    "torchvision's blocks, which change tensors in place": (
        {
            "model": {"kind": "torchvision_resnet", "depth": 18, "small_images": True, "zero_init_residual": True},
            "batch_size": 16,
        },
        SEEDS,
    ),
    "timm's blocks": (
        {"model": {"kind": "timm", "name": "test_resnet", "small_images": True}, "batch_size": 16},
        SEEDS,
    ),
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def together(runs: list[Run]) -> list[list[EpochResult]]:
    """The results of each run, all of them trained at once to their ends."""
    results: list[list[EpochResult]] = [[] for _ in runs]
    left, steps = list(range(len(runs))), FusedSteps()
    while left:
        for number, result in zip(left, steps.advance([runs[number] for number in left]), strict=True):
            assert not isinstance(result, Exception)
            if result is not None:
                results[number].append(result)
        left = [number for number in left if not (results[number] and results[number][-1].last)]
    return results


def in_double(tree: dict[str, Any], cache: Path) -> Run:
    """A run whose network computes in float64, where another order of sums shows in the fifteenth digit.

    In float32 a change of the weights' last digit alone moves the validation loss of an epoch at a learning rate of 0.1
    by a tenth: how two ways of the same arithmetic compare there is for the processor's kernels to say.
    """
    trial = run(tree, cache)
    for network in (trial.network, trial.model):
        network.double()
        network.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))
    if trial._class_weights is not None:
        trial._class_weights = trial._class_weights.double()
    return trial


def alone(tree: dict[str, Any], cache: Path) -> list[EpochResult]:
    return list(in_double(tree, cache).epochs())


def assert_close(one: list[EpochResult], other: list[EpochResult]) -> None:
    """Equal but for what a few steps make of the fifteenth digit, and for the clock."""
    assert [(result.epoch, result.last, result.lr) for result in one] == [(r.epoch, r.last, r.lr) for r in other]
    for a, b in zip(one, other, strict=True):
        for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "grad_norm"):
            assert math.isclose(getattr(a, name), getattr(b, name), rel_tol=1e-5), name


@pytest.mark.parametrize(("shared", "own"), RECIPES.values(), ids=RECIPES)
def test_steps_are_those_of_the_same_trial_alone(
    shared: dict[str, Any], own: list[dict[str, Any]], cache: Path
) -> None:
    trees = [merge(merge(SMALL, shared), one) for one in own]
    runs, others = ([in_double(tree, cache) for tree in trees] for _ in range(2))
    assert len({one.fusion for one in runs}) == 1
    steps = FusedSteps()
    for _ in range(3):
        assert steps.advance(runs) == [next(other.steps()) for other in others]
        for fused_run, other in zip(runs, others, strict=True):
            same_numbers = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-12)
            for ours, theirs in zip(fused_run.network.parameters(), other.network.parameters(), strict=True):
                same_numbers(ours.grad, theirs.grad)
            mine, its = fused_run.state_dict(), other.state_dict()
            same_numbers(mine["model"], its["model"])  # weights, and the statistics of batch norms
            if mine["ema"] is not None:
                same_numbers(mine["ema"], its["ema"])
            for key in ("loss_sum", "norm_sum", "augment_stream", "global_streams"):
                same_numbers(mine["partial_epoch"][key], its["partial_epoch"][key])


@pytest.mark.parametrize("recipe", ["sgd", "all that may differ differs"])
def test_epochs_are_those_of_the_same_trial_alone(recipe: str, cache: Path) -> None:
    trees = [merge(SMALL, one) for one in RECIPES[recipe][1]]
    for results, tree in zip(together([in_double(tree, cache) for tree in trees]), trees, strict=True):
        assert_close(results, alone(tree, cache))


def test_a_trial_comes_and_goes_between_two_steps(cache: Path, tmp_path: Path) -> None:
    stays, leaves = in_double(SMALL, cache), in_double(merge(SMALL, {"seed": 5}), cache)
    for _ in range(3):
        assert FusedSteps().advance([stays, leaves]) == [None, None]
    save_checkpoint(leaves.state_dict(), tmp_path / "left.pt")
    assert FusedSteps().advance([stays]) == [None]
    resumed = in_double(merge(SMALL, {"seed": 5}), cache)
    resumed.load_state_dict(load_checkpoint(tmp_path / "left.pt"))
    one, other = together([resumed, stays])
    assert_close(one, alone(merge(SMALL, {"seed": 5}), cache))
    assert_close(other, alone(SMALL, cache))


def test_what_cannot_be_one_network_takes_its_steps_alone(cache: Path) -> None:
    others = [{"model": {"dropout": 0.2}}, {"batch_size": 64}, {"model": {"depth": 14}}, {}]
    trees = [merge(SMALL, other) for other in others]
    for results, tree in zip(together([run(tree, cache) for tree in trees]), trees, strict=True):
        assert [result.val_loss for result in results] == [result.val_loss for result in run(tree, cache).epochs()]


def test_what_does_not_fit_as_one_network_is_trained_in_smaller_ones(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    gradients = fused._gradients

    def little_memory(runs: list[Run], batches: list[Batch]) -> list[Tensor]:
        sizes.append(len(runs))
        if len(runs) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return gradients(runs, batches)

    monkeypatch.setattr(fused, "_gradients", little_memory)
    trees = [merge(SMALL, {"seed": seed}) for seed in range(4)]
    results = together([in_double(tree, cache) for tree in trees])
    assert sizes[:3] == [4, 2, 2]
    assert sizes.count(4) == 1
    for found, tree in zip(results, trees, strict=True):
        assert_close(found, alone(tree, cache))


def test_a_trial_that_fails_does_not_take_the_others_with_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged() -> Batch:
        raise OSError("a damaged image")

    bad, good, other = (in_double(merge(SMALL, {"seed": seed}), cache) for seed in (0, 5, 6))
    monkeypatch.setattr(bad, "next_batch", damaged)
    error, *nothing = FusedSteps().advance([bad, good, other])
    assert isinstance(error, OSError)
    assert nothing == [None, None]
    assert_close(list(good.epochs()), alone(merge(SMALL, {"seed": 5}), cache))
