"""What every trainable must do; a new one inherits this suite and gives one fixture."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from trainables.checkpoint import config_of, load_checkpoint, save_checkpoint
from trainables.config import TrialConfig, parse_config
from trainables.result import METRICS, EpochResult, Trainable

# What a clock measured may differ; nothing else.
MEASURED = {"seconds", "images_per_second"}

Build = Callable[[TrialConfig], Trainable]


def numbers(result: EpochResult) -> dict[str, Any]:
    metrics = {name: value for name, value in result.metrics().items() if name not in MEASURED}
    return metrics | {"epoch": result.epoch, "last": result.last, "stop_reason": result.stop_reason}


class TrainableSuite:
    """Subclasses give `tree` (a valid config of 4 epochs that does not diverge) and `build`."""

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

    @pytest.mark.parametrize("stop", [1, 2, 3])
    def test_stopped_and_resumed_equals_straight_through(
        self, build: Build, tree: dict[str, Any], stop: int, tmp_path: Path
    ) -> None:
        config = parse_config(tree)
        straight = [numbers(r) for r in build(config).epochs()]
        interrupted, path = build(config), tmp_path / "trial.pt"
        for result in interrupted.epochs():
            if result.epoch == stop:
                break
        save_checkpoint(interrupted.state_dict(), path)
        state = load_checkpoint(path)
        resumed = build(config_of(state))
        resumed.load_state_dict(state)
        assert [numbers(r) for r in resumed.epochs()] == straight[stop:]

    def test_a_finished_run_resumes_to_nothing(self, build: Build, tree: dict[str, Any]) -> None:
        finished = build(parse_config(tree))
        list(finished.epochs())
        again = build(parse_config(tree))
        again.load_state_dict(finished.state_dict())
        assert list(again.epochs()) == []

    def test_patience_ends_a_run_that_no_longer_improves(self, build: Build, tree: dict[str, Any]) -> None:
        # A learning rate this small leaves val_loss to noise: it cannot improve for long.
        tree = {**tree, "epochs": 60, "regularization": {**tree.get("regularization", {}), "patience": 1}}
        results = list(build(parse_config(tree)).epochs())
        assert results[-1].stop_reason == "patience"
        losses = [r.val_loss for r in results]
        assert losses[-1] >= min(losses[:-1])
        assert all(later < earlier for earlier, later in pairwise(losses[:-1]))
