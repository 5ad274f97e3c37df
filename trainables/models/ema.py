"""An exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

__all__ = ["WeightAverage"]


class WeightAverage:
    """The average of a network's weights and buffers over its last steps, by torch's `AveragedModel`.

    It is corrected for its start as Adam's moments are (Kingma and Ba 2014, section 3): the initial weights have no
    part in it, and until its window of 1 / (1 - decay) steps has passed it is nearly the mean of all steps. The usual
    warm-up, a decay of (1 + n) / (10 + n) until that exceeds `decay`, makes all decays the same in short runs.

    Args:
        model: whose parameters are averaged; it is copied.
        decay: the share of the average that a step leaves unchanged, 0..1.

    Attributes:
        steps: how many were taken in.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model = model
        self.steps = 0  # torch's own count is on the device: reading it would synchronize

        def update(averaged: list[Tensor], current: list[Tensor], _: Tensor) -> None:
            weight = (1 - decay) / (1 - decay ** (self.steps + 1))
            if averaged[0].is_floating_point():  # lists come grouped by dtype
                torch._foreach_lerp_(averaged, current, weight)
            else:
                torch._foreach_copy_(averaged, current)

        multi_avg_fn: Any = update  # torch's annotation takes tuples for lists
        self._average = AveragedModel(model, multi_avg_fn=multi_avg_fn, use_buffers=True)

    @property
    def module(self) -> nn.Module:
        """The network with averaged weights."""
        return self._average.module

    def update(self) -> None:
        """Take in the weights as a step has left them."""
        self._average.update_parameters(self._model)
        self.steps += 1

    def load(self, weights: Mapping[str, Any], steps: int) -> None:
        """Continue from the `module`'s state after so many steps, with the same decay."""
        self.module.load_state_dict(weights)
        self.steps = steps
        self._average.n_averaged.fill_(steps)  # at 0 it copies instead of averaging
