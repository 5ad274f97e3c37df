"""An exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

__all__ = ["averaged_model"]


def averaged_model(model: nn.Module, decay: float, steps: Callable[[], int]) -> AveragedModel:
    """torch's average of weights and buffers, updated by its `update_parameters`.

    It is corrected for its start as Adam's moments are (Kingma and Ba 2014, section 3): the initial weights have no
    part in it, and until its window of 1 / (1 - decay) steps has passed it is nearly the mean of all steps. The usual
    warm-up, a decay of (1 + n) / (10 + n) until that exceeds `decay`, makes all decays the same in short runs.

    Args:
        model: whose parameters are averaged.
        decay: the share of the average that a step leaves unchanged, 0..1.
        steps: gives the number of updates so far. torch's own count is on the device: reading it would synchronize.
    """

    def update(averaged: list[Tensor], current: list[Tensor], _: Tensor) -> None:
        weight = (1 - decay) / (1 - decay ** (steps() + 1))
        if averaged[0].is_floating_point():  # lists come grouped by dtype
            torch._foreach_lerp_(averaged, current, weight)
        else:
            torch._foreach_copy_(averaged, current)

    multi_avg_fn: Any = update  # torch's annotation takes tuples for lists
    return AveragedModel(model, multi_avg_fn=multi_avg_fn, use_buffers=True)
