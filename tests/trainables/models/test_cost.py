"""What a forward pass costs, against published numbers; and where batch norm cannot train on one image."""

from __future__ import annotations

from typing import Any

import pytest

from trainables.config import CifarResNet, Model, SyntheticCurve, TorchvisionResNet, WideResNet, parse_config
from trainables.models.cost import batch_norm_problem, forward_gflops


@pytest.mark.parametrize(
    ("config", "side", "gflops"),
    [
        (TorchvisionResNet(depth=18, dropout=0.1), 224, 1.8),  # He et al. 2015, table 1
        (TorchvisionResNet(depth=50, pretrained="w", frozen_stages=3), 224, 4.1),  # as torchvision counts it
        (TorchvisionResNet(depth=50, variant="wide"), 224, 11.4),
        (WideResNet(depth=28, width=10), 32, 5.2),
        (CifarResNet(depth=20), 32, 0.04),
        (CifarResNet(depth=20), 64, 0.16),
        (SyntheticCurve(), 32, 0),
    ],
    ids=lambda value: getattr(value, "label", None),
)
def test_cost_is_counted(config: Model, side: int, gflops: float) -> None:
    assert forward_gflops(config, side) == pytest.approx(gflops, rel=0.02)


@pytest.mark.parametrize(
    ("model", "side", "above"),
    [
        ({"kind": "cifar_resnet", "depth": 8}, 8, None),
        ({"kind": "cifar_resnet", "depth": 8}, 4, 4),
        ({"kind": "wide_resnet", "depth": 10, "width": 1}, 4, 4),
        ({"kind": "wide_resnet", "depth": 10, "width": 1, "norm": "group"}, 4, None),
        ({"kind": "torchvision_resnet", "depth": 18}, 32, 32),
        ({"kind": "torchvision_resnet", "depth": 18}, 33, None),
        ({"kind": "torchvision_resnet", "depth": 18, "pretrained": "w", "frozen_stages": 4}, 32, 32),
        ({"kind": "torchvision_resnet", "depth": 18, "pretrained": "w", "frozen_stages": 5}, 32, None),
        ({"kind": "synthetic"}, 4, None),
    ],
)
def test_batch_norm_needs_two_values(model: dict[str, Any], side: int, above: int | None) -> None:
    config = parse_config({"model": model, "batch_size": 1})
    problem = batch_norm_problem(config, 100, (side, side))
    assert (problem is None) is (above is None)
    if problem is not None:
        assert f"data.resolution above {above}:" in problem.rule
        assert ("model.small_images: true" in problem.rule) is (model["kind"] == "torchvision_resnet")
    assert batch_norm_problem(config.model_copy(update={"batch_size": 2}), 100, (side, side)) is None
    few = batch_norm_problem(config.model_copy(update={"batch_size": 2}), 1, (side, side))
    assert few is None or few.path == "data.train_samples"
