"""Crops, warps and erased squares with given parameters, against slicing and against torchvision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from trainables.augment.geometry import crop_and_flip, rescale_matrices, resized_crop_windows, warp

pytestmark = pytest.mark.numeric


def _noise(batch: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(batch + height * width)
    return torch.randint(256, (batch, 3, height, width), dtype=torch.uint8, generator=generator)


@given(
    batch=st.integers(1, 6), height=st.integers(1, 12), width=st.integers(1, 12), down=st.integers(0, 6),
    right=st.integers(0, 6), flip=st.booleans(), reflect=st.booleans(), channels_last=st.booleans(), data=st.data(),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_crop_and_flip_is_slicing(
    batch: int, height: int, width: int, down: int, right: int, flip: bool, reflect: bool, channels_last: bool,
    data: st.DataObject,
) -> None:  # fmt: skip
    if reflect:
        down, right = min(down, height - 1), min(right, width - 1)

    def draws(limit: int) -> Tensor:
        return torch.tensor(data.draw(st.lists(st.integers(0, limit), min_size=batch, max_size=batch)))

    pixels = _noise(batch, height, width)
    top, left, mirrored = draws(2 * down), draws(2 * right), draws(1).bool()
    given_pixels = pixels.contiguous(memory_format=torch.channels_last) if channels_last else pixels
    result = crop_and_flip(given_pixels, (down, right), top, left, mirrored if flip else None, reflect=reflect)
    sides = ((0, 0), (0, 0), (down, down), (right, right))
    padded = torch.from_numpy(np.pad(pixels.numpy(), sides, mode="reflect" if reflect else "constant"))
    for index in range(batch):
        row, column = int(top[index]), int(left[index])
        expected = padded[index, :, row : row + height, column : column + width]
        assert torch.equal(result[index], expected.flip(2) if flip and mirrored[index] else expected)
    assert result.is_contiguous()


@pytest.mark.parametrize("size", [(32, 32), (24, 40), (8, 8), (33, 17)])
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_warp_rotates_like_torchvision(size: tuple[int, int], mode: str) -> None:
    height, width = size
    degrees = torch.tensor([-170.0, -33.0, -90.0, 0.0, 5.0, 45.0, 121.0])
    images = _noise(len(degrees), height, width).float()
    cos, sin, none = torch.deg2rad(degrees).cos(), torch.deg2rad(degrees).sin(), torch.zeros_like(degrees)
    matrices = rescale_matrices(torch.stack([cos, -sin, none, sin, cos, none], 1), height, width)
    result = warp(images, matrices, "nearest" if mode == "nearest" else "bilinear", "zeros")
    interpolation = reference.InterpolationMode(mode)
    expected = [reference.rotate(i, float(d), interpolation) for i, d in zip(images, degrees, strict=True)]
    differing = (result - torch.stack(expected)).abs() > 0.05
    assert differing.float().mean().item() < 0.002  # pixels that lie half-way between two


@given(smallest=st.floats(0.01, 1), widest=st.floats(1, 2))
@settings(max_examples=50, deadline=None)
def test_windows_fit_and_keep_their_limits(smallest: float, widest: float) -> None:
    draws = torch.rand(4, 500, generator=torch.Generator().manual_seed(0))
    width, height, right, down = resized_crop_windows(draws, smallest, widest)
    for side, offset in ((width, right), (height, down)):
        assert bool((side > 0).all())
        assert bool((offset.abs() + side / 2 <= 0.5 + 1e-6).all())
    area, ratio = width * height, (width / height).log().abs()
    torch.testing.assert_close(area, smallest + (1 - smallest) * draws[0], rtol=1e-4, atol=1e-5)
    assert ratio.max().item() <= math.log(widest) + 1e-4
