from __future__ import annotations

import math
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

# Sums in another order: after 16 steps losses are a tenth of this apart.
TOLERANCE = 1e-3
SMALL = merge(DIGITS, {"epochs": 2, "execution": {"precision": "fp32"}})
SEEDS: list[dict[str, Any]] = [{"seed": 1}, {"seed": 2}]
RECIPES: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "sgd": ({}, [{"optimizer": {"lr": 0.02, "momentum": 0.8}}, {"optimizer": {"lr": 0.1}}, {"seed": 3}]),
    "all that may differ differs": (
        {},
        [
            {"augment": {"strength": 0.5, "policy": "trivialaugment"}, "schedule": {"kind": "one_cycle"}},
            {"regularization": {"ema_decay": 0.9, "clip_norm": 0.5}, "augment": {"mixup": 0.0, "cutmix": 1.0}},
            {"regularization": {"label_smoothing": 0.1, "imbalance": "class_weights"}, "epochs": 1},
        ],
    ),
    "channels last, group norm": ({"model": {"norm": "group"}, "execution": {"memory_format": "channels_last"}}, SEEDS),
    "bottlenecks": (
        {
            "model": {"kind": "torchvision_resnet", "depth": 50, "small_images": True, "zero_init_residual": True},
            "optimizer": {"lr": 0.001},
            "epochs": 1,
        },
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


def assert_close(one: list[EpochResult], other: list[EpochResult]) -> None:
    assert [(result.epoch, result.last) for result in one] == [(result.epoch, result.last) for result in other]
    for a, b in zip(one, other, strict=True):
        for name in ("train_loss", "val_loss", "grad_norm", "lr"):
            assert math.isclose(getattr(a, name), getattr(b, name), rel_tol=TOLERANCE), name


@pytest.mark.parametrize(("shared", "own"), RECIPES.values(), ids=RECIPES)
def test_numbers_are_those_of_the_same_trial_alone(
    shared: dict[str, Any], own: list[dict[str, Any]], cache: Path
) -> None:
    trees = [merge(merge(SMALL, shared), one) for one in own]
    runs = [run(tree, cache) for tree in trees]
    assert len({one.fusion for one in runs}) == 1
    for results, tree in zip(together(runs), trees, strict=True):
        assert_close(results, list(run(tree, cache).epochs()))


def test_a_trial_comes_and_goes_between_two_steps(cache: Path, tmp_path: Path) -> None:
    stays, leaves = run(SMALL, cache), run(merge(SMALL, {"seed": 5}), cache)
    for _ in range(3):
        assert FusedSteps().advance([stays, leaves]) == [None, None]
    save_checkpoint(leaves.state_dict(), tmp_path / "left.pt")
    assert FusedSteps().advance([stays]) == [None]
    goes_on = run(merge(SMALL, {"seed": 5}), cache)
    goes_on.load_state_dict(load_checkpoint(tmp_path / "left.pt"))
    one, other = together([goes_on, stays])
    assert_close(one, list(run(merge(SMALL, {"seed": 5}), cache).epochs()))
    assert_close(other, list(run(SMALL, cache).epochs()))


def test_what_cannot_be_one_network_takes_its_steps_alone(cache: Path) -> None:
    others = [{"model": {"dropout": 0.2}}, {"batch_size": 64}, {"model": {"depth": 14}}, {}]
    trees = [merge(SMALL, other) for other in others]
    for results, tree in zip(together([run(tree, cache) for tree in trees]), trees, strict=True):
        alone = list(run(tree, cache).epochs())
        assert [result.val_loss for result in results] == [result.val_loss for result in alone]


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
    results = together([run(tree, cache) for tree in trees])
    assert sizes[:3] == [4, 2, 2]
    assert sizes.count(4) == 1
    for found, tree in zip(results, trees, strict=True):
        assert_close(found, list(run(tree, cache).epochs()))


def test_a_trial_that_fails_does_not_take_the_others_with_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged() -> Batch:
        raise OSError("a damaged image")

    bad, good, other = run(SMALL, cache), run(merge(SMALL, {"seed": 5}), cache), run(merge(SMALL, {"seed": 6}), cache)
    monkeypatch.setattr(bad, "next_batch", damaged)
    error, *nothing = FusedSteps().advance([bad, good, other])
    assert isinstance(error, OSError)
    assert nothing == [None, None]
    assert_close(list(good.epochs()), list(run(merge(SMALL, {"seed": 5}), cache).epochs()))
