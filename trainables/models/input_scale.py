"""How pretrained weights want their input scaled, from what they remember of it.

The first batch norm of a network keeps mean and variance of what its first convolution made of the training images. The
same convolution over other photographs gives about the same, if they are scaled as those were: a mean that is not taken
off, or levels of 0..255, are off by far.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.config import Normalization

__all__ = ["CLEARLY", "HALF", "IMAGENET", "LEVELS", "UNIT", "InputScale", "measured_scale"]

IMAGENET = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
HALF = Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
UNIT = Normalization(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))  # levels scaled to 0..1 alone
LEVELS = Normalization(mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))  # 0..255
# Statistics of one collection of photographs or another differ less from each other than what one can tell by: of these
# ImageNet's stand for all, unless they are off so many times as far as another scale is.
CLEARLY = 4.0
_USUAL = {
    "ImageNet's mean and std": IMAGENET,
    "mean .5, std .5": HALF,
    "levels 0..1": UNIT,
    "levels 0..255": LEVELS,
}
_OWN = "these images' own mean and std"


@dataclass(frozen=True, slots=True)
class InputScale:
    """A normalization, and in words which one it is and how that is known."""

    normalization: Normalization
    words: str


def measured_scale(
    model: nn.Module, weights: Mapping[str, Tensor], pixels: Tensor, own: Normalization, side: int
) -> InputScale | None:
    """The scale under which the first layer makes of `pixels` what its batch norm remembers; None if it has none.

    How far a scale is off is the mean over channels of the Kullback-Leibler divergence between two normal
    distributions: that of the convolution's output on these images, and the one that batch norm remembers.

    Args:
        model: the network; may be on the meta device.
        weights: its tensors by its own names.
        pixels: uint8 [n, 3, h, w], some dozens of images; larger ones than `side` are reduced to it.
        own: the statistics of the images at hand.
        side: of the images that the network is meant for, in pixels.
    """
    stem, norm = getattr(model, "conv1", None), getattr(model, "bn1", None)
    if not isinstance(stem, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
        return None
    kernel, mean, variance = (
        weights[name].double() for name in ("conv1.weight", "bn1.running_mean", "bn1.running_var")
    )
    levels = _reduced(pixels.double(), side)
    off = {}
    for name, scale in {**_USUAL, _OWN: own}.items():
        shift, spread = (torch.tensor(numbers, dtype=torch.double).view(3, 1, 1) for numbers in (scale.mean, scale.std))
        images = (levels / 255 - shift) / spread
        output = functional.conv2d(images, kernel, None, stem.stride, stem.padding)
        off[name] = _divergence(output.mean((0, 2, 3)), output.var((0, 2, 3)), mean, variance, norm.eps)
    usual, *others = _USUAL
    nearest = min(off, key=lambda name: off[name])
    if off[usual] <= CLEARLY * off[nearest]:
        nearest = usual
    scale = {**_USUAL, _OWN: own}[nearest]
    other = usual if nearest != usual else min(others, key=lambda name: off[name])
    return InputScale(
        scale, f"{nearest}, by its first layer: off by {off[nearest]:.2g}, with {other} by {off[other]:.2g}"
    )


def _reduced(levels: Tensor, side: int) -> Tensor:
    """Images no larger than `side`: enlarged ones lack the edges that a network knows, and reduced ones have them."""
    if max(levels.shape[-2:]) <= side:
        return levels
    return functional.interpolate(levels, size=(side, side), mode="bilinear", align_corners=False, antialias=True)


def _divergence(mean: Tensor, variance: Tensor, known_mean: Tensor, known_variance: Tensor, eps: float) -> float:
    ratio = (variance + eps) / (known_variance + eps)
    distances = (ratio + (mean - known_mean) ** 2 / (known_variance + eps) - 1 - ratio.log()) / 2
    return float(distances.mean())
