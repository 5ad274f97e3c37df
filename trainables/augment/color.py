"""Changing colors: in place on float images whose levels run from 0 to 255, one factor per image.

The formulas are Pillow's, as torchvision.transforms.v2 has them; grays are rounded down to whole levels as there.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["adjust_brightness_", "adjust_contrast_", "adjust_saturation_", "shift_hue", "whole_levels"]


def whole_levels(images: Tensor) -> Tensor:
    """Levels 0..255 of any type as integers, fractions cut off: uint8 as it is, floats as int16 or uint8."""
    if images.dtype == torch.uint8:
        return images
    # On the CPU a copy from float to uint8 goes pixel by pixel; both of these steps are vectorized.
    return images.to(torch.int16 if images.device.type == "cpu" else torch.uint8)


def _gray(images: Tensor) -> Tensor:
    return (images[:, 0:1] * 0.2989).add_(images[:, 1:2], alpha=0.587).add_(images[:, 2:3], alpha=0.114).floor_()


def _per_image(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def adjust_brightness_(images: Tensor, factors: Tensor) -> Tensor:
    """Images float [b, 3, h, w] blended with black in place; factors float [b]: 0 is black, 1 no change."""
    return images.mul_(_per_image(factors)).clamp_(0, 255)


def adjust_contrast_(images: Tensor, factors: Tensor) -> Tensor:
    """Images float [b, 3, h, w] blended with their mean gray in place; factors float [b]: 0 is gray, 1 no change."""
    factors = _per_image(factors)
    mean = _gray(images).mean(dim=(1, 2, 3), keepdim=True)
    return images.mul_(factors).add_(mean.mul_(1 - factors)).clamp_(0, 255)


def adjust_saturation_(images: Tensor, factors: Tensor) -> Tensor:
    """Images float [b, 3, h, w] blended with their gray version in place; factors float [b]: 0 is gray, 1 no change."""
    factors = _per_image(factors)
    gray = _gray(images)
    return images.mul_(factors).add_(gray.mul_(1 - factors)).clamp_(0, 255)


def shift_hue(images: Tensor, shifts: Tensor) -> Tensor:
    """Turn every pixel's hue in the HSV hexagon, keeping saturation and value.

    Args:
        images: float [b, 3, h, w], levels 0..255; not changed.
        shifts: float [b], fractions of the color circle.

    Returns:
        float [b, 3, h, w].
    """
    red, green, blue = images.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    per_side = chroma.clamp(min=1e-6).reciprocal_()  # a gray pixel may get any hue: its chroma is 0
    hue = (red - green).mul_(per_side).add_(4)
    # Selecting by lerp with weights 0 and 1 is exact and, on the CPU, faster than torch.where.
    hue.lerp_((blue - red).mul_(per_side).add_(2), (value == green).to(images.dtype))
    hue.lerp_((green - blue).mul_(per_side), (value == red).to(images.dtype))
    hue.add_(shifts.view(-1, 1, 1), alpha=6)
    hue.sub_((hue / 6).floor_().mul_(6))  # sides of the hexagon, 0..6 from red
    # A channel is darkest within a side of the corner opposite its own and rises to `value` over the next side.
    opposite = torch.arange(3, 9, 2, device=images.device, dtype=images.dtype).view(3, 1, 1)
    dark = (hue.unsqueeze(1) - opposite).abs_().sub_(3).abs_().sub_(1).clamp_(0, 1)
    return dark.mul_(chroma.unsqueeze(1)).neg_().add_(value.unsqueeze(1))
