"""The CIFAR ResNets of He et al. 2015, section 4.2: 6n+2 layers, 16-32-64 channels, shortcuts without parameters."""

import torch.nn.functional as F  # noqa: N812 (the name PyTorch's own documentation gives it)
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3 convolutions; where the shape changes, the shortcut drops every second pixel and pads channels."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: str, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = norm_of(outputs, norm, groups)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = norm_of(outputs, norm, groups)
        self.stride, self.pad = stride, (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad)))


class Network(nn.Module):
    """Images float32 [n, 3, h, w] to logits [n, classes]."""

    def __init__(self, classes: int, blocks: int, norm: str, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = norm_of(16, norm, groups)

        def stage(inputs: int, outputs: int) -> nn.Sequential:
            first = Block(inputs, outputs, 1 if inputs == outputs else 2, norm, groups)
            return nn.Sequential(first, *(Block(outputs, outputs, 1, norm, groups) for _ in range(blocks - 1)))

        self.layer1, self.layer2, self.layer3 = stage(16, 16), stage(16, 32), stage(32, 64)
        self.fc = nn.Linear(64, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(images)))
        for stage in (self.layer1, self.layer2, self.layer3):
            x = stage(x)
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def norm_of(channels: int, norm: str, groups: int) -> nn.Module:
    """A batch norm, or a group norm of the most groups that divide the channels."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(max(g for g in range(1, min(groups, channels) + 1) if channels % g == 0), channels)


def network(classes: int, depth: int, norm: str = "batch", norm_groups: int = 8, **_: object) -> nn.Module:
    """The network, its weights still random."""
    return Network(classes, (depth - 2) // 6, norm, norm_groups)
