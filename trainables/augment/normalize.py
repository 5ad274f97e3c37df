"""Pixels as a network takes them: each channel with the mean and the deviation that it is to have."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.augment.to_device import send
from trainables.config import ConfigError, Problem

__all__ = ["Normalize"]


class Normalize:
    """Maps levels 0..255 [b, 3, h, w] to `(levels / 255 - mean) / std`, contiguous float32.

    Args:
        mean: of each channel, pixels scaled to 0..1.
        std: likewise.

    Raises:
        ConfigError: if `mean` and `std` are not three numbers each, `std` above 0.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        problems = [
            Problem(f"data.normalize.{name}", tuple(values), f"must be three finite numbers {bound}".rstrip())
            for name, values, bound in (("mean", mean, ""), ("std", std, "above 0"))
            if len(values) != 3 or not all(math.isfinite(value) and (value > 0 or not bound) for value in values)
        ]
        if problems:
            raise ConfigError(problems)
        scale = [1 / (255 * value) for value in std]
        shift = [-m / s for m, s in zip(mean, std, strict=True)]
        self._scale_and_shift = torch.tensor([scale, shift], dtype=torch.float32).view(2, 3, 1, 1)
        self._on_device: dict[torch.device, Tensor] = {}

    def __call__(self, levels: Tensor) -> Tensor:
        """The levels normalized: in place if they are contiguous float32, in a new tensor otherwise."""
        if levels.device not in self._on_device:
            self._on_device[levels.device] = send(self._scale_and_shift, levels.device)
        scale, shift = self._on_device[levels.device]
        return levels.to(torch.float32, memory_format=torch.contiguous_format).mul_(scale).add_(shift)
