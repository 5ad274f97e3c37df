"""Wide ResNets against the numbers of their paper, and torchvision's variants against torchvision."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
import torchvision
from torch import Tensor, nn

from trainables.config import ConfigError, TorchvisionResNet, WideResNet, parse_config
from trainables.models.networks import build_network
from trainables.models.wide_resnet import PreActivationBlock


def _weights(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# Zagoruyko and Komodakis 2016, table 4, in millions.
@pytest.mark.parametrize(("depth", "width", "millions"), [(40, 1, 0.6), (40, 4, 8.9), (16, 8, 11.0), (28, 10, 36.5)])
def test_a_wide_resnet_has_as_many_weights_as_in_its_paper(depth: int, width: int, millions: float) -> None:
    with torch.device("meta"):
        model = build_network(WideResNet(depth=depth, width=width), 10)
    assert _weights(model) / 1e6 == pytest.approx(millions, abs=0.05)
    convolutions = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    assert convolutions == (depth if width > 1 else depth - 1)  # 16 channels go into the first stage, and 16 come out


@pytest.mark.numeric
def test_a_block_adds_to_its_input_or_projects_what_is_rectified() -> None:
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    same, other = PreActivationBlock(4, 4, 1, nn.BatchNorm2d, 0.0), PreActivationBlock(4, 8, 2, nn.BatchNorm2d, 0.0)
    for block in (same, other):
        nn.init.zeros_(block.conv2.weight)
        block.eval()
    torch.testing.assert_close(same(x), x)
    projected: Tensor = other.get_submodule("shortcut")(torch.relu(other.bn1(x)))
    torch.testing.assert_close(other(x), projected)
    assert projected.shape == (2, 8, 4, 4)


@pytest.mark.numeric
def test_zero_init_residual_and_dropout_are_inside_the_blocks() -> None:
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    model = build_network(WideResNet(depth=10, width=1, zero_init_residual=True), 3)
    layer1 = model.get_submodule("layer1")
    x = model.get_submodule("conv1")(images)
    torch.testing.assert_close(layer1(x), x)
    model = build_network(WideResNet(depth=10, width=1, dropout=0.5), 3)
    assert not torch.equal(model(images), model(images))
    assert torch.equal(model.eval()(images), model(images))


@pytest.mark.parametrize(
    ("depth", "variant", "name"),
    [
        (50, "wide", "wide_resnet50_2"), (101, "wide", "wide_resnet101_2"), (50, "resnext_32x4d", "resnext50_32x4d"),
        (101, "resnext_32x8d", "resnext101_32x8d"), (101, "resnext_64x4d", "resnext101_64x4d"),
    ],
)  # fmt: skip
def test_variants_are_torchvisions(
    depth: Literal[50, 101], variant: Literal["wide", "resnext_32x4d", "resnext_32x8d", "resnext_64x4d"], name: str
) -> None:
    config = TorchvisionResNet(depth=depth, variant=variant, pretrained="torchvision:DEFAULT")
    with torch.device("meta"):
        ours, theirs = build_network(config, 1000), torchvision.models.get_model(name)
    shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in (ours, theirs)]
    assert shapes[0] == shapes[1]
    assert config.torchvision_name == name


@pytest.mark.parametrize(
    ("model", "path", "rule"),
    [
        ({"kind": "wide_resnet", "depth": 20}, "model.depth", "must be 6n+4, for example 16 or 22"),
        ({"kind": "wide_resnet", "frozen_stages": 5, "pretrained": "w"}, "model.frozen_stages", "must be at most 4"),
        ({"kind": "wide_resnet", "pretrained": "torchvision:DEFAULT"}, "model.pretrained", "torchvision publishes no"),
        ({"kind": "wide_resnet", "pretrained": "timm"}, "model.pretrained", "timm publishes no weights"),
        ({"kind": "cifar_resnet", "width": 4}, "model.width", "wide_resnet has it"),
        (
            {"kind": "torchvision_resnet", "depth": 18, "variant": "wide"}, "model.variant",
            "must be standard, or go with model.depth 50 or 101",
        ),
    ],
)  # fmt: skip
def test_what_there_is_not_is_refused(model: dict[str, object], path: str, rule: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"model": model})
    assert [problem.path for problem in caught.value.problems] == [path]
    assert rule in str(caught.value)


def test_a_standard_resnet_is_recorded_as_before() -> None:
    assert "variant" not in TorchvisionResNet(depth=50).model_dump(mode="json")
    assert TorchvisionResNet(depth=50, variant="wide").model_dump(mode="json")["variant"] == "wide"
