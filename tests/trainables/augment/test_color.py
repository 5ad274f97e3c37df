"""Color changes against torchvision's, one factor per image."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from trainables.augment import color as augment_color

pytestmark = pytest.mark.numeric


def _images() -> Tensor:
    """uint8 [12, 3, 9, 11]: noise, grays, single colors, black and white."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (12, 3, 9, 11), dtype=torch.uint8, generator=generator)
    images[1] = images[1, :1]
    images[2], images[3], images[4] = 0, 255, 77
    for channel in range(3):
        images[5 + channel, channel] = 0
        images[8 + channel, :channel] = 255
    return images


FACTORS = torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0, 1.1, 1.3, 1.5, 1.8, 2.0, 0.7, 1.0])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (augment_color.adjust_brightness_, reference.adjust_brightness),
        (augment_color.adjust_contrast_, reference.adjust_contrast),
        (augment_color.adjust_saturation_, reference.adjust_saturation),
    ],
    ids=["brightness", "contrast", "saturation"],
)
def test_blends_are_torchvisions(
    ours: Callable[[Tensor, Tensor], Tensor], theirs: Callable[[Tensor, float], Tensor]
) -> None:
    images = _images().float()
    result = ours(images, FACTORS)
    assert result is images
    expected = torch.stack([theirs(i, float(f)) for i, f in zip(_images(), FACTORS, strict=True)]).int()
    # uint8 levels are cut off, so a sum just below a level may come out one lower.
    assert int((augment_color.whole_levels(result) - expected).abs().max()) <= 1
    assert ((result - expected) > -1e-3).all()
    assert ((result - expected) < 1.001).all()


def test_hue_is_torchvisions() -> None:
    images = _images().float()
    shifts = torch.tensor([-0.5, -0.3, 0.1, 0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.25, 0.4, 0.5])
    result = augment_color.shift_hue(images, shifts)
    expected = [255 * reference.adjust_hue(i / 255, float(s)) for i, s in zip(images, shifts, strict=True)]
    torch.testing.assert_close(result, torch.stack(expected), rtol=0, atol=0.01)
    assert torch.equal(images, _images().float())


def test_whole_levels_cuts_fractions_off() -> None:
    levels = torch.tensor([0.0, 0.99, 1.0, 254.9, 255.0])
    assert augment_color.whole_levels(levels).to(torch.uint8).tolist() == [0, 0, 1, 254, 255]
    pixels = _images()
    assert augment_color.whole_levels(pixels) is pixels
