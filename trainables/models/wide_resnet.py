"""The wide, pre-activation ResNets of Zagoruyko and Komodakis 2016 as one module with stages; torchvision has none."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 (the name PyTorch's own documentation gives it)
from torch import Tensor, nn

from trainables.config import WideResNet
from trainables.models.protocol import describe
from trainables.models.resnet import NormLayer, norm_layer

__all__ = ["PreActivationBlock", "StagedWideResNet", "wide_resnet"]


class PreActivationBlock(nn.Module):
    """Norm, ReLU and 3x3 convolution, twice, added to its input (He et al. 2016, "Identity Mappings", figure 4e).

    Where the block changes shape, its input is normalized and rectified before it is projected by a 1x1 convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, norm: NormLayer, dropout: float) -> None:
        super().__init__()
        self.bn1 = norm(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = norm(outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs or stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, inputs, h, w]` to `[b, outputs, ceil(h / stride), ceil(w / stride)]`."""
        out = F.relu(self.bn1(x))
        carried = x if self.shortcut is None else self.shortcut(out)
        out = F.relu(self.bn2(self.conv1(out)))
        changed: Tensor = self.conv2(self.dropout(out))
        return changed + carried


class StagedWideResNet(nn.Module):
    """A stem `conv1`, stages `layer1` to `layer3`, the last norm `bn` and a linear head `fc`.

    Takes `[b, 3, h, w]` floats from 8 x 8 upwards, contiguous or channels_last, and returns logits `[b, num_classes]`.
    """

    def __init__(self, blocks: int, width: int, num_classes: int, norm: NormLayer, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        stages: list[nn.Module] = []
        inputs = 16
        for outputs, stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
            first = PreActivationBlock(inputs, outputs, stride, norm, dropout)
            others = (PreActivationBlock(outputs, outputs, 1, norm, dropout) for _ in range(blocks - 1))
            stages.append(nn.Sequential(first, *others))
            inputs = outputs
        self.layer1, self.layer2, self.layer3 = stages
        self.bn = norm(inputs)
        self.fc = nn.Linear(inputs, num_classes)
        staged: list[list[nn.Module]] = [[self.conv1], [self.layer1], [self.layer2], [self.layer3, self.bn]]
        describe(self, staged, self.fc, fusible=dropout == 0)  # dropout draws from a stream of each network's own

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[b, num_classes]` of images `[b, 3, h, w]`."""
        x = F.relu(self.bn(self.layer3(self.layer2(self.layer1(self.conv1(images))))))
        # As in StagedResNet: so the gradient has the layout of the others.
        logits: Tensor = self.fc(x.permute(0, 2, 3, 1).mean((1, 2)))
        return logits


def wide_resnet(config: WideResNet, num_classes: int) -> StagedWideResNet:
    """The architecture of a `WideResNet`, freshly initialized: as the authors', by fan out."""
    blocks = (config.depth - 4) // 6
    model = StagedWideResNet(blocks, config.width, num_classes, norm_layer(config), config.dropout)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if config.zero_init_residual:
        for module in model.modules():
            if isinstance(module, PreActivationBlock):
                nn.init.zeros_(module.conv2.weight)
    nn.init.zeros_(model.fc.bias)
    return model
