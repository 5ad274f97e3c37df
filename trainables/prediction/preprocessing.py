"""What a trained network needs beside its weights, and the program that holds both."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from trainables.config import Execution, Normalization
from trainables.config.part import Count, Part
from trainables.data.decode import Size, Square
from trainables.training.inference import Inference, at_least_float32

__all__ = ["Preprocessing", "Program"]


class Preprocessing(Part):
    """How an image file becomes what a network was trained on.

    Attributes:
        size: (height, width) in pixels of what a decoded image is cut to; see `trainables.data.decode.decode_as`.
        decoding: `data.decoding` of the config that was trained.
        normalization: channel statistics.
        resolution: side, in pixels, to which the pixels are then resized inside the program; None leaves them.
    """

    size: Annotated[tuple[Count, Count], Field(strict=False)]
    decoding: Literal["exact", "reduced"] = "exact"
    normalization: Normalization
    resolution: Count | None = None

    @property
    def target(self) -> Size:
        """The size as `decode_as` takes it."""
        height, width = self.size
        return Square(height, self.decoding == "reduced") if height == width else self.size

    @property
    def network_size(self) -> tuple[int, int]:
        """(height, width) of what the network itself sees."""
        return (self.resolution, self.resolution) if self.resolution else self.size


class Program(nn.Module):
    """A network with its preprocessing: pixels uint8 [n, 3, h, w] in, logits float32 [n, classes] out.

    Normalization and resolution are inside, the same code that validation runs; the caller can't get them wrong.

    Args:
        network: put into eval mode; it stays on its device.
        preprocessing: what it was trained with. Pixels given are of its `size`.
        execution: layout and precision; exported programs are of float32.
        device: the network's.
    """

    def __init__(
        self, network: nn.Module, preprocessing: Preprocessing, execution: Execution, device: torch.device
    ) -> None:
        super().__init__()
        self.network = network.eval()
        self.preprocessing = preprocessing
        self._inference = Inference(preprocessing.normalization, preprocessing.resolution, execution, device)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits of pixels on the network's device."""
        return at_least_float32(self.network(self._inference.inputs(pixels)))
