"""What a network has and costs and where it cannot train, found by building it and letting one image through."""

from __future__ import annotations

from bisect import bisect_left
from functools import cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from trainables.config import CifarResNet, Model, PluginModel, Problem, TrialConfig
from trainables.config.model import architecture
from trainables.models.networks import REFUSALS, build_network
from trainables.models.protocol import freeze, stages, train_mode

__all__ = ["batch_norm_problem", "coarse_stem", "final_map", "forward_gflops", "stage_count"]

CLASSES = 10
LARGEST_SIDE = 1024  # that `data.resolution` may have
ONE_VALUE = "more than 1 value per channel"  # torch's words


def stage_count(config: Model) -> int:
    """How many stages of a network can be frozen; 0 where it does not say."""
    return len(stages(_shell(config))) if config.stage_count is None else config.stage_count


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


def coarse_stem(config: TrialConfig, size: tuple[int, int]) -> str | None:
    """What is said where nothing but one pixel of an image is left before the classifier; None where more is.

    Args:
        config: the trial's.
        size: height and width of the images in pixels, unless `data.resolution` says another.
    """
    if not config.model.is_network:
        return None
    side = config.data.resolution or max(size)
    model = _shell(config.model.model_copy(update={"pretrained": "none", "frozen_stages": 0}))

    def leaves_more(side: int) -> bool:
        return final_map(model, _image(model, side, side)) != (1, 1)

    try:
        if leaves_more(side):
            return None
        sides = range(side, LARGEST_SIDE + 1)
        larger = bisect_left(sides, True, key=leaves_more)
    except REFUSALS:  # it takes no such image, which is said elsewhere
        return None
    ways = ["model.small_images: true"] if getattr(config.model, "small_images", None) is False else []
    ways += [f"data.resolution above {sides[larger - 1]} keeps more"] if larger < len(sides) else []
    return (
        f"the {config.model.label} downsamples images of {side} pixels to 1 x 1, so that spatial detail is lost early "
        f"({', or '.join(ways)})"
    )


def final_map(model: nn.Module, images: torch.Tensor) -> tuple[int, int] | None:
    """Height and width of what the last stage makes of images [b, 3, h, w]; None if the network does not say."""
    staged = stages(model)
    if not staged or not staged[-1]:
        return None
    seen: list[torch.Size] = []
    handle = staged[-1][-1].register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape))
    try:
        with torch.no_grad():
            model.eval()(images)
    finally:
        handle.remove()
    return (seen[0][-2], seen[0][-1]) if seen and len(seen[0]) == 4 else None


def _trains_on_one(model: nn.Module, height: int, width: int) -> bool:
    try:
        with torch.no_grad():
            model(_image(model, height, width))
    except REFUSALS as error:  # others say that it takes no such image, which is not asked here
        return ONE_VALUE not in str(error)
    return True


def _shell(config: Model) -> nn.Module:
    """The network without the memory of its weights; a plug-in's as it comes, which may not allow that.

    A small one as well: for the meta device torch loads its compiler, for a second or two.
    """
    with torch.device("cpu" if isinstance(config, PluginModel | CifarResNet) else "meta"):
        return build_network(config, CLASSES)


def _image(model: nn.Module, height: int, width: int) -> torch.Tensor:
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    return torch.zeros(1, 3, height, width, device=device)
