"""The levels of the three channels, and whether they stand in the order red, green, blue."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trainables.check import Check
from trainables.inspection.finding import Finding, percent
from trainables.inspection.images import Pixels, Scanned

__all__ = ["bluish", "channels"]

# Photographs are warm: skin, wood, earth and lamps are red before green before blue. Of CIFAR-10's images 69 % are
# redder than blue, of ants and bees 91 %; of their colored pixels twice and fifteen times as many are ordered R > G > B
# as are B > G > R. With red and blue swapped these numbers turn around.
_BLUE_IMAGES, _BLUE_PIXELS = 0.65, 1.6
_COLORED = 0.15  # least difference of a pixel's channels, of 1, to count
_FEWEST, _ENOUGH = 20, 5000  # images

Swapped = Callable[[], tuple[float, float, float]]


def bluish(pixels: Pixels) -> tuple[float, float] | None:
    """How far images are bluer than photographs are: the share that is bluer than red, and how many times as many
    colored pixels are B > G > R as are R > G > B. None if they are gray, or few.

    Args:
        pixels: uint8 [n, 3, h, w].
    """
    if len(pixels) < _FEWEST or (pixels[:, 0] == pixels[:, 2]).all():
        return None
    pixels = pixels[np.random.default_rng(0).permutation(len(pixels))[:_ENOUGH]]
    means = pixels.mean(axis=(2, 3))
    red, green, blue = (pixels[:, channel].astype(np.int16) for channel in range(3))
    colored = np.abs(red - blue) > 255 * _COLORED
    warm = (colored & (red > green) & (green > blue)).sum()
    cold = (colored & (blue > green) & (green > red)).sum()
    return float((means[:, 2] > means[:, 0]).mean()), float(cold / max(warm, 1))


def channels(images: Scanned, by_features: Swapped | None = None) -> Finding:
    """The channels' means and deviations in each split, and whether all of the source may be BGR.

    Whether one split alone is, `domain` tells much better, by the others.

    Args:
        images: what was read.
        by_features: the cross-validated accuracies from a pretrained network's features, as the images are and with red
            and blue swapped, and the standard error of their difference; asked only where the colors are unusual.
    """
    details = {split: _moments(images.squeezed[images.of(split)]) for split in np.unique(images.splits).tolist()}
    mean = images.squeezed.mean(axis=(0, 2, 3)) / 255
    said = "mean levels: red {:.3f}, green {:.3f}, blue {:.3f}".format(*mean)
    name, found = "channels", bluish(images.squeezed)
    if found is None:
        gray = len(images) and (images.squeezed[:, 0] == images.squeezed[:, 2]).all()
        return Finding(Check(name, "ok", f"{said}{'; all images are gray' if gray else ''}"), (), details)
    share, ratio = found
    if share < _BLUE_IMAGES or ratio < _BLUE_PIXELS:
        return Finding(Check(name, "ok", said), (), details)
    said += f"; {percent(share)} of the images are bluer than red, and photographs are not"
    step = "unless these are pictures of sky, sea or screens, turn them around: cv2.cvtColor(image, cv2.COLOR_BGR2RGB)"
    if by_features is not None:
        straight, swapped, error = by_features()
        said += (
            f"; the pretrained features classify {swapped:.3f} with red and blue swapped, {straight:.3f} as they are"
        )
        if swapped - straight < 2 * error:
            return Finding(Check(name, "ok", said), (), details)
    return Finding(Check(name, "warning", f"{said}: they may be BGR", step), (), details)


def _moments(pixels: Pixels) -> dict[str, list[float]]:
    levels = [np.bincount(pixels[:, channel].ravel(), minlength=256) / pixels[:, channel].size for channel in range(3)]
    values = np.arange(256) / 255
    means = [float(share @ values) for share in levels]
    stds = [float(share @ (values - mean) ** 2) ** 0.5 for share, mean in zip(levels, means, strict=True)]
    return {"mean": [round(mean, 4) for mean in means], "std": [round(std, 4) for std in stds]}
