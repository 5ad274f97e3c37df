"""What is decided from numbers alone: where the loss falls, what comes first, which stem is too coarse."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch

from trainables.check import Check
from trainables.config import CifarResNet, Optimizer, TorchvisionResNet, TrialConfig
from trainables.config.plausibility import HIGHEST
from trainables.diagnosis.finding import Finding, Weight, ranked
from trainables.diagnosis.labels import parted
from trainables.diagnosis.learning_rate import DECADES, RangeTest, is_suspect, steepest
from trainables.models import build_model
from trainables.models.cost import coarse_stem, final_map


@pytest.mark.parametrize("best", [3e-4, 1e-2, 0.3])
def test_the_loss_falls_fastest_where_it_does(best: float) -> None:
    rates = np.logspace(-5, 1, 60)
    noise = 0.05 * np.random.default_rng(0).standard_normal(60)
    losses = 2.3 - 1.2 / (1 + (best / rates) ** 2) + np.where(rates > 30 * best, 5 * rates / best, 0) + noise
    found = steepest(rates.tolist(), losses.tolist())
    assert found is not None
    assert abs(math.log10(found / best)) < 0.7


def test_a_loss_that_never_falls_has_no_rate() -> None:
    rates = np.logspace(-5, 1, 60).tolist()
    assert steepest(rates, [2.3] * 60) is None
    assert steepest(rates, [2.3, math.nan]) is None


def test_every_optimizer_has_rates_that_are_tried_and_a_bound() -> None:
    kinds = {part.model_fields["kind"].default for part in get_args(get_args(Optimizer)[0])}
    assert set(DECADES) == set(HIGHEST) == kinds


def test_a_rate_is_suspect_far_off_only() -> None:
    assert [is_suspect(lr, RangeTest(0.03)) for lr in (1e-5, 0.005, 0.05, 1.0)] == [True, False, False, True]


def test_causes_come_by_what_they_explain_then_by_what_they_move() -> None:
    def finding(name: str, gain: float, weight: Weight, status: str = "problem") -> Finding:
        return Finding(Check(name, status, "", None), gain, weight)  # type: ignore[arg-type]

    found = [
        finding("fine", 0.9, Weight.DEFECT, "ok"), finding("overfitting", 0.5, Weight.FIT),
        finding("symptom", 0.9, Weight.SYMPTOM), finding("rate", 0.2, Weight.SETTING),
        finding("decay", 0.3, Weight.SETTING), finding("scale", 0.1, Weight.DEFECT),
        finding("unsure", 0.0, Weight.SYMPTOM, "unknown"),
    ]  # fmt: skip
    names = [check.name for check in ranked(found)]
    assert names == ["scale", "decay", "rate", "overfitting", "symptom", "unsure", "fine"]


def test_classes_that_alternate_are_in_every_part() -> None:
    part = parted(1000, 5)
    assert all(len(np.unique(np.arange(1000)[part == k] % 10)) == 10 for k in range(5))
    assert np.bincount(part).tolist() == [200] * 5


@pytest.mark.parametrize(
    ("model", "side", "last"),
    [
        (TorchvisionResNet(depth=18), 32, 1),
        (TorchvisionResNet(depth=18), 64, 2),
        (TorchvisionResNet(depth=18, small_images=True), 32, 4),
        (CifarResNet(depth=8), 32, 8),
        (CifarResNet(depth=8), 8, 2),
    ],
)
def test_a_stem_is_too_coarse_where_one_pixel_is_left(
    model: CifarResNet | TorchvisionResNet, side: int, last: int
) -> None:
    assert final_map(build_model(model, 10), torch.zeros(2, 3, side, side)) == (last, last)
    told = coarse_stem(TrialConfig(model=model), (side, side))
    assert (told is not None) == (last == 1)
    assert told is None or "model.small_images: true" in told
