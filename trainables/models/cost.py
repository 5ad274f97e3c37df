"""What a network costs and where it cannot train, found by letting one image through it."""

from __future__ import annotations

from bisect import bisect_left
from functools import cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from trainables.config import Model, PluginModel, Problem, TrialConfig
from trainables.config.model import architecture
from trainables.models.networks import REFUSALS, build_network
from trainables.models.protocol import freeze, train_mode

__all__ = ["batch_norm_problem", "forward_gflops"]

CLASSES = 10
LARGEST_SIDE = 1024  # that `data.resolution` may have
ONE_VALUE = "more than 1 value per channel"  # torch's words


def forward_gflops(config: Model, side: int) -> float | None:
    """10⁹ multiply-adds that convolutions and matrix products take in a forward pass of an image of `side` x `side`.

    None for a network of others that takes no such image.
    """
    if not config.is_network:
        return 0.0
    return _gflops(architecture(config), side)


@cache
def _gflops(config: Model, side: int) -> float | None:
    model = _shell(config).eval()
    counter = FlopCounterMode(display=False)
    try:
        with counter, torch.no_grad():
            model(_image(model, side, side))
    except REFUSALS:  # a fixed size of input, say; a trial that meets it says so in full
        return None
    return counter.get_total_flops() / 2e9


def batch_norm_problem(config: TrialConfig, images: int, size: tuple[int, int]) -> Problem | None:
    """What is wrong where batch norm would see one value a channel, of which there is no variance.

    Args:
        config: the trial's.
        images: of the training split.
        size: their height and width in pixels, unless `data.resolution` says another.
    """
    if min(config.batch_size, images) > 1 or not config.model.is_network:
        return None
    side = config.data.resolution
    height, width = (side, side) if side else size
    model = _shell(config.model.model_copy(update={"pretrained": "none"}))
    freeze(model, config.model.frozen_stages)
    train_mode(model)
    if _trains_on_one(model, height, width):
        return None
    few, side = config.batch_size > 1, max(height, width)
    keys = type(config.model).model_fields
    ways = ["model.norm: group"] if "norm" in keys else []
    if "small_images" in keys and not getattr(config.model, "small_images", True) and side > 8:
        ways.append("model.small_images: true")
    sides = range(side, LARGEST_SIDE + 1)
    too_small = bisect_left(sides, True, key=lambda n: _trains_on_one(model, n, n))
    ways += [f"data.resolution above {sides[too_small - 1]}"] if too_small < len(sides) else []
    rule = (
        f"must be at least 2{' (the batch_size is cut to it)' if few else ''}"
        f"{', or use ' if ways else ''}{', or '.join(ways)}: batch norm cannot train on one image at a time where maps "
        f"are 1 x 1, as those of images of {side} pixels are"
    )
    return Problem("data.train_samples" if few else "batch_size", 1, rule)


def _trains_on_one(model: nn.Module, height: int, width: int) -> bool:
    try:
        with torch.no_grad():
            model(_image(model, height, width))
    except REFUSALS as error:  # others say that it takes no such image, which is not asked here
        return ONE_VALUE not in str(error)
    return True


def _shell(config: Model) -> nn.Module:
    """The network without the memory of its weights; a plug-in's as it comes, which may not allow that."""
    with torch.device("cpu" if isinstance(config, PluginModel) else "meta"):
        return build_network(config, CLASSES)


def _image(model: nn.Module, height: int, width: int) -> torch.Tensor:
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    return torch.zeros(1, 3, height, width, device=device)
