"""Moving, warping and erasing pixels: batched, one set of parameters per image, nothing waits for the device."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

__all__ = ["Outside", "crop_and_flip", "erase_squares", "rescale_matrices", "resized_crop_windows", "warp"]

Outside = Literal["zeros", "border", "reflection"]


def crop_and_flip(
    pixels: Tensor, padding: tuple[int, int], top: Tensor, left: Tensor, flip: Tensor | None, *, reflect: bool = False
) -> Tensor:
    """Pad, crop back to the original size at integer offsets, then mirror some of the images left to right.

    Bitwise what slicing `pad(image)[top : top + h, left : left + w]` gives: He et al. 2015, section 4.2.

    Args:
        pixels: uint8 [b, c, h, w], any memory format; not changed.
        padding: rows and columns added on each side, fewer than the image has.
        top: int64 [b] in 0..2 * padding[0], on the pixels' device.
        left: int64 [b] in 0..2 * padding[1], likewise.
        flip: bool [b], likewise: which crops to mirror; None mirrors none.
        reflect: whether the padding is the image reflected at its edge, as numpy's mode "reflect"; else it is black.

    Returns:
        uint8 [b, c, h, w], contiguous.
    """
    batch, channels, height, width = pixels.shape
    rows, columns = height + 2 * padding[0], width + 2 * padding[1]
    padded = pixels.new_zeros(1 if flip is None else 2, batch, channels, rows, columns)
    inside = padded[..., padding[0] : padding[0] + height, padding[1] : padding[1] + width]
    if reflect:
        for axis, side in ((2, padding[0]), (3, padding[1])):
            pixels = pixels.index_select(axis, _reflected(pixels.shape[axis], side).to(pixels.device))
        inside = padded
    inside[0] = pixels
    start = top * columns + left
    if flip is not None:
        inside[1] = pixels.flip(3)
        mirrored = padded[0].numel() + top * columns + (2 * padding[1] - left)
        start = torch.where(flip, mirrored, start)
    # A crop is a set of whole rows, so every possible row is seen as a slice of the flat buffer and the rows wanted are
    # copied by their first element: three times as fast on the CPU as a gather with an index per pixel.
    plane = torch.arange(batch * channels, device=pixels.device).view(batch, channels, 1) * (rows * columns)
    row = torch.arange(height, device=pixels.device) * columns
    starts = (plane + row) + start.view(batch, 1, 1)
    every_row = padded.view(-1).as_strided((padded.numel() - width + 1, width), (1, 1))
    return every_row.index_select(0, starts.view(-1)).view(batch, channels, height, width)


def _reflected(length: int, padding: int) -> Tensor:
    """The index of each row of a padded image in the image: int64 [length + 2 * padding]."""
    away = torch.arange(-padding, length + padding).abs()
    return length - 1 - (length - 1 - away).abs()


def resized_crop_windows(draws: Tensor, smallest: float, widest: float) -> Tensor:
    """Windows of random resized crops (Szegedy et al. 2015), from uniform draws and without rejection.

    The area is uniform in `smallest`..1, the logarithm of the aspect ratio uniform among those, `widest` at most, for
    which the window fits in the image. (Retrying until a window fits, the usual way, would favour small areas.)

    Args:
        draws: float [4, b], uniform in 0..1.
        smallest: smallest area, as a fraction of the image's.
        widest: largest ratio of width to height (and of height to width) relative to the image's, at least 1.

    Returns:
        float [4, b]: width and height as fractions of the image's, and the center's offset from the image's center,
        right and down, likewise.
    """
    area = smallest + (1 - smallest) * draws[0]
    bound = (-area.log()).clamp(max=math.log(widest))
    half_ratio = ((2 * draws[1] - 1) * bound / 2).exp()
    width, height = (area.sqrt() * half_ratio).clamp(max=1), (area.sqrt() / half_ratio).clamp(max=1)
    return torch.stack([width, height, (draws[2] - 0.5) * (1 - width), (draws[3] - 0.5) * (1 - height)])


def rescale_matrices(matrices: Tensor, height: int, width: int) -> Tensor:
    """Matrices in pixels from the image's center, float [..., 6], in the units that `warp` takes."""
    return matrices / matrices.new_tensor([width / 2] * 3 + [height / 2] * 3)


def warp(images: Tensor, matrices: Tensor, mode: Literal["nearest", "bilinear"], outside: Outside) -> Tensor:
    """Sample each image where its affine matrix says.

    Args:
        images: float [b, c, h, w].
        matrices: float [b, 6], from `rescale_matrices`: (x, y, 1) of an output pixel, in pixels from the center, to the
            place in the input it shows, first x, then y.
        mode: interpolation.
        outside: what lies beyond the edge: black, the edge's own pixels, or the image reflected.

    Returns:
        float [b, c, h, w], contiguous.
    """
    batch, _, height, width = images.shape
    x = torch.arange(width, device=images.device, dtype=images.dtype) - (width - 1) / 2
    y = (torch.arange(height, device=images.device, dtype=images.dtype) - (height - 1) / 2).view(-1, 1)
    to_x, to_y = matrices.view(batch, 2, 3, 1, 1).unbind(1)
    grid = images.new_empty(batch, height, width, 2)  # affine_grid builds the same one ten times slower on the CPU
    for axis, row in enumerate((to_x, to_y)):
        torch.add(row[:, 0] * x, row[:, 1] * y + row[:, 2], out=grid[..., axis])
    return grid_sample(images, grid, mode=mode, padding_mode=outside, align_corners=False)


def erase_squares(images: Tensor, side: int, corners: Tensor) -> Tensor:
    """Set a square of each image to zero, in place: cutout (DeVries and Taylor 2017).

    Args:
        images: float [b, c, h, w], normalized, so that zero is the mean.
        side: of the square, pixels.
        corners: int64 [b, 2], first row and column of each square; parts beyond the image erase nothing.

    Returns:
        `images`.
    """
    height, width = images.shape[2:]
    row = torch.arange(height, device=images.device) - corners[:, :1]
    column = torch.arange(width, device=images.device) - corners[:, 1:]
    above_or_below, beside = (((axis < 0) | (axis >= side)).to(images.dtype) for axis in (row, column))
    keep = torch.maximum(
        above_or_below.unsqueeze(2), beside.unsqueeze(1)
    )  # on the CPU faster than bool and masked_fill_
    return images.mul_(keep.unsqueeze(1))
