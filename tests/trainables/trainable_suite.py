"""What every trainable must do; a test class inherits `TrainableSuite` and gives its two fixtures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainables.checkpoints.checkpoint import config_of, load_checkpoint, save_checkpoint
from trainables.config import TrialConfig, parse_config
from trainables.result import METRICS, EpochResult, Trainable, final_result

# What a clock measured may differ; nothing else.
MEASURED = {"seconds", "images_per_second"}

Build = Callable[[TrialConfig], Trainable]


def numbers(result: EpochResult) -> dict[str, Any]:
    metrics = {name: value for name, value in result.metrics().items() if name not in MEASURED}
    return metrics | {
        "epoch": result.epoch,
        "last": result.last,
        "stop_reason": result.stop_reason,
        "best_epoch": result.best_epoch,
    }


def same(one: Any, other: Any) -> bool:
    """Whether two states are equal: tensors bit for bit, and no clock read."""
    match one, other:
        case torch.Tensor(), torch.Tensor():
            return one.dtype == other.dtype and torch.equal(one, other)
        case dict(), dict():
            return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one.keys() - MEASURED)
        case ((list() | tuple()), (list() | tuple())):
            return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def outcome(point: EpochResult | None) -> dict[str, Any] | None:
    return None if point is None else numbers(point)


def train_in_legs(
    build: Build, config: TrialConfig, stops: Sequence[int], folder: Path
) -> tuple[list[EpochResult | None], Trainable]:
    """All that the steps yielded, and the last leg's trial; each leg continues from the last one's checkpoint.

    `stops` are the points where a leg ends, counted over all legs; every None and every result is one.
    """
    trial, points = build(config), list[EpochResult | None]()
    for stop in [*stops, None]:
        for point in trial.steps():
            points.append(point)
            torch.rand(1)  # the trial's own stream must not run on by this
            if len(points) == stop:
                path = folder / f"point-{stop}.pt"
                save_checkpoint(trial.state_dict(), path)
                state = load_checkpoint(path, config)
                trial = build(config_of(state))
                trial.load_state_dict(state)
                break
    return points, trial


class TrainableSuite:
    """Subclasses give `tree` (a valid config of 4 epochs of several steps that does not diverge) and `build`."""

    @pytest.fixture
    def tree(self) -> dict[str, Any]:
        raise NotImplementedError

    @pytest.fixture
    def build(self) -> Build:
        raise NotImplementedError

    def test_reports_every_epoch_once_and_marks_the_last(self, build: Build, tree: dict[str, Any]) -> None:
        results = list(build(parse_config(tree)).epochs())
        assert [r.epoch for r in results] == [1, 2, 3, 4]
        assert [r.last for r in results] == [False, False, False, True]
        assert [r.stop_reason for r in results] == [None, None, None, "epochs"]
        assert [r.best_epoch for r in results] == [None, None, None, 4]
        for result in results:
            assert tuple(result.metrics()) == METRICS
            assert all(math.isfinite(value) for value in result.metrics().values())
            assert 0 <= result.val_accuracy <= 1

    def test_the_same_config_gives_the_same_numbers(self, build: Build, tree: dict[str, Any]) -> None:
        config = parse_config(tree)
        first = [numbers(r) for r in build(config).epochs()]
        assert [numbers(r) for r in build(config).epochs()] == first
        other = parse_config({**tree, "seed": 12345})
        assert [numbers(r) for r in build(other).epochs()] != first

    @pytest.mark.parametrize("seed", [0, 1])
    def test_interrupted_at_any_step_equals_straight_through(
        self, build: Build, tree: dict[str, Any], seed: int, tmp_path: Path
    ) -> None:
        config = parse_config(tree)
        straight = build(config)
        points = list(straight.steps())
        ends = [number for number, point in enumerate(points, start=1) if point is not None]
        inside = [number for number in range(1, ends[-1]) if number not in ends]
        assert len(inside) > len(ends), "a trial must be interruptible more than once an epoch"
        # Twice in one epoch, before an epoch's evaluation and after it, whatever the seed.
        stops = {*inside[:2], ends[1] - 1, *ends[1:3], *np.random.default_rng(seed).choice(inside, 3).tolist()}
        again, resumed = train_in_legs(build, config, sorted(stops), tmp_path)
        assert list(map(outcome, again)) == list(map(outcome, points))
        assert same(resumed.state_dict(), straight.state_dict())
        finished = build(config)
        finished.load_state_dict(resumed.state_dict())
        assert list(finished.steps()) == []

    def test_looking_at_the_state_changes_nothing(self, build: Build, tree: dict[str, Any]) -> None:
        config = parse_config(tree)
        watched, results = build(config), list[EpochResult]()
        for result in watched.steps():
            state = watched.state_dict()
            assert state["epoch"] == len(results) + (result is not None)
            assert (state["step"] == 0) == (result is not None)
            if result is not None:
                results.append(result)
        assert [numbers(r) for r in results] == [numbers(r) for r in build(config).epochs()]

    def test_an_abandoned_iterator_is_taken_up_by_the_next(self, build: Build, tree: dict[str, Any]) -> None:
        config = parse_config(tree)
        trial = build(config)
        assert next(trial.steps()) is None
        assert [numbers(r) for r in trial.epochs()] == [numbers(r) for r in build(config).epochs()]

    def test_patience_ends_a_run_that_no_longer_improves(
        self, build: Build, tree: dict[str, Any], tmp_path: Path
    ) -> None:
        # A learning rate this small leaves val_loss to noise: it cannot improve for long.
        tree = {**tree, "epochs": 60, "regularization": {**tree.get("regularization", {}), "patience": 1}}
        config = parse_config(tree)
        points = list(build(config).steps())
        results = [point for point in points if point is not None]
        assert results[-1].stop_reason == "patience"
        losses = [r.val_loss for r in results]
        assert losses[-1] >= min(losses[:-1])
        assert all(later < earlier for earlier, later in pairwise(losses[:-1]))
        assert [r.best_epoch for r in results[:-1]] == [None] * (len(results) - 1)
        assert final_result(results) is results[-2]
        again, finished = train_in_legs(build, config, [len(points) - 1], tmp_path)
        assert list(map(outcome, again)) == list(map(outcome, points))
        state, resumed = finished.state_dict(), build(config)
        resumed.load_state_dict(state)
        assert list(resumed.steps()) == []
