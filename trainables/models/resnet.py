"""CIFAR ResNets of He et al. 2015 and torchvision's, as one module with stages.

torchvision has the ImageNet networks but neither the CIFAR ones (option A shortcuts) nor a 3x3 stem or dropout; its
blocks and their initialization are used as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the name PyTorch's own documentation gives it)
from torch import Tensor, nn

from trainables.config import CifarResNet, TorchvisionResNet, WideResNet
from trainables.models.protocol import describe

__all__ = ["BasicBlockA", "NormLayer", "StagedResNet", "cifar_resnet", "norm_layer", "torchvision_resnet"]

NormLayer = Callable[[int], nn.Module]


class _Shortcut(torch.autograd.Function):
    """Every `stride`-th pixel, and so many channels of zeros before the old ones and behind.

    The gradient has the input's layout. That of slicing and padding would be contiguous beside channels_last ones, and
    what is done with both took a tenth of a step.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, stride: int, before: int, behind: int) -> Tensor:
        return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, before, behind))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.step, ctx.before, _ = inputs
        ctx.size, ctx.channels_last = x.shape, x.stride(1) == 1

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (grad,), (count, channels, height, width) = grads, ctx.size
        if ctx.channels_last:
            back = grad.new_zeros(count, height, width, channels).permute(0, 3, 1, 2)
        else:
            back = grad.new_zeros(count, channels, height, width)
        back[:, :, :: ctx.step, :: ctx.step] = grad[:, ctx.before : ctx.before + channels]
        return back, None, None, None


class BasicBlockA(nn.Module):
    """Two 3x3 convolutions with a parameter-free shortcut (He et al. 2015, option A).

    Where the block changes shape, the shortcut takes every second pixel and pads the new channels with zeros, half of
    them before the old ones and half behind: the order that published CIFAR weights expect.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, norm: NormLayer) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = norm(outputs)
        self.stride, self.new_channels = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, inputs, h, w]` to `[b, outputs, ceil(h / stride), ceil(w / stride)]`."""
        # Nothing is done in place: on a CPU that takes two to three times as long where a tensor is not in its caches.
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.new_channels:
            before = self.new_channels // 2
            x = _Shortcut.apply(x, self.stride, before, self.new_channels - before)
        return F.relu(out + x)


class StagedResNet(nn.Module):
    """A ResNet as a stem (`conv1`, `bn1`, `pool`), stages `layer1`, `layer2`, … and a linear head `fc`.

    Takes `[b, 3, h, w]` floats from 8 x 8 upwards, contiguous or channels_last, and returns logits `[b, num_classes]`.
    State-dict names are torchvision's.
    """

    def __init__(
        self,
        conv1: nn.Module,
        bn1: nn.Module,
        pool: nn.Module,
        layers: Sequence[nn.Module],
        fc: nn.Linear,
        dropout: float,
    ) -> None:
        super().__init__()
        self.conv1, self.bn1, self.pool = conv1, bn1, pool
        self.layer_names = tuple(f"layer{number}" for number in range(1, len(layers) + 1))
        for name, layer in zip(self.layer_names, layers, strict=True):
            self.add_module(name, layer)
        self.dropout = nn.Dropout(dropout)
        self.fc = fc
        staged = [[conv1, bn1, pool], *([layer] for layer in layers)]
        describe(self, staged, fc, fusible=dropout == 0)  # dropout draws from a stream of each network's own

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[b, num_classes]` of images `[b, 3, h, w]`."""
        x = self.pool(F.relu(self.bn1(self.conv1(images))))
        for name in self.layer_names:
            x = getattr(self, name)(x)
        # Over the last dimensions of this view: so the gradient has the layout of the others, as in _Shortcut.
        logits: Tensor = self.fc(self.dropout(x.permute(0, 2, 3, 1).mean((1, 2))))
        return logits


def norm_layer(config: CifarResNet | TorchvisionResNet | WideResNet) -> NormLayer:
    """What makes a norm for so many channels."""
    if config.norm == "batch":
        return nn.BatchNorm2d

    def group_norm(channels: int) -> nn.GroupNorm:
        groups = max(g for g in range(1, min(config.norm_groups, channels) + 1) if channels % g == 0)
        return nn.GroupNorm(groups, channels)

    return group_norm


def cifar_resnet(config: CifarResNet, num_classes: int) -> StagedResNet:
    """The architecture of a `CifarResNet`, freshly initialized."""
    norm, blocks = norm_layer(config), (config.depth - 2) // 6
    layers, inputs = [], 16
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        first = BasicBlockA(inputs, width, stride, norm)
        layers.append(nn.Sequential(first, *(BasicBlockA(width, width, 1, norm) for _ in range(blocks - 1))))
        inputs = width
    stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
    model = StagedResNet(stem, norm(16), nn.Identity(), layers, nn.Linear(64, num_classes), config.dropout)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):  # He et al. 2015, "Delving Deep into Rectifiers", eq. 10
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    nn.init.zeros_(model.fc.bias)
    if config.zero_init_residual:
        for module in model.modules():
            if isinstance(module, BasicBlockA):
                nn.init.zeros_(module.bn2.get_parameter("weight"))
    return model


def torchvision_resnet(config: TorchvisionResNet, num_classes: int) -> StagedResNet:
    """The architecture of a `TorchvisionResNet`, freshly initialized."""
    from torchvision.models import get_model  # takes longer to import than a CIFAR ResNet to build

    net = get_model(
        config.torchvision_name,
        num_classes=num_classes,
        norm_layer=norm_layer(config),
        zero_init_residual=config.zero_init_residual,
    )
    stem, pool = net.conv1, net.maxpool
    if config.small_images:
        stem, pool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    layers = [net.layer1, net.layer2, net.layer3, net.layer4]
    return StagedResNet(stem, net.bn1, pool, layers, net.fc, config.dropout)
