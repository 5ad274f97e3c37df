"""Images that are the same picture: re-encoded, resized, mirrored or a little brighter, found among very many.

An image becomes a short row of numbers, its `descriptors`: the lowest frequencies of its brightness and colors (a
discrete cosine transform), in gray levels. Two images are near-identical (`near_pairs`) if, upright or mirrored, these
agree in shape (correlation, where high frequencies weigh more: what all photographs have in common counts little) and
if, beside that, one of two things holds:

- what is left between them, once their contrast is made equal, is no more than a JPEG or a resizing leaves; or
- they agree in finer detail, far beyond what two images of this data set have in common. This finds other crops and
  exposures of one picture among photographs, and keeps apart digits or X-rays, which are all alike.

Of a mirrored image only every second coefficient changes, and those change their sign only. So the rows with these
made positive are as near to each other as the images are in the better of both orientations, and one matrix product of
all rows with all finds both: 60,000 images take seconds. What it finds is compared sign by sign then.

Images below `SMALLEST` pixels a side, or with hardly any contrast, have a row of zeros, which is near to nothing:
they are too small, or too blank, to tell. There only equal bytes say that two are the same.

Perceptual hashes (the package imagehash, which CleanVision uses too) were weighed: 64 bits of gray tell photographs
apart, but images of 32 pixels collide by the hundred, colors and contrast do not count, and mirrored copies are not
found. A pretrained network's features find the same objects, not the same pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["DIMENSIONS", "SMALLEST", "Pair", "descriptors", "groups", "near_pairs"]

SMALLEST = 16  # pixels of the shorter side

_COARSE, _FINE, _COLOR = 8, 12, 3  # highest frequency, in half cycles an image: of both comparisons, of the colors
_SCALE = 1024
# Brightness, and blue and red against it (ITU-R BT.601), in 256ths.
_OPPONENT = np.array([[77, 150, 29], [-43, -85, 128], [128, -107, -21]], np.float64)

# Set on CIFAR-10, ants and bees, digits and generated shapes, of which copies were made by JPEG of quality 50 and more,
# resizing by .5 to 2, mirroring, and changes of brightness.
_ALIKE = 0.94  # least correlation up to the coarse frequencies
_LEFT = 6.0  # gray levels: the most that may be left of the difference of a copy
_SIGNIFICANT = 13.0  # or how far the correlation up to the fine ones is beyond the usual, in standard deviations
_BRIGHTNESS, _CONTRAST = 64.0, 2.0  # the most by which copies differ: in gray levels, and as a ratio
_ALL_BUT_ONE = 1 - 1e-12  # a correlation whose Fisher transformation is finite
_BLANK = 2.0  # gray levels: the least contrast at which images can be told apart

_AT_ONCE = 64  # images
_ROWS, _COLUMNS = 512, 4096  # of the products; they fit into a processor's cache
_SHORT = 24  # entries that most pairs are told apart by
_PAIRS = 2**15  # compared at once
_CROWD = 100  # among so many near-identical images not every pair is looked for


class Pair(NamedTuple):
    """Two near-identical images, by their numbers, the lower one first.

    `similarity` is their correlation, at most 1, of an exact copy. `mirrored`: one is the other's mirror image.
    """

    first: int
    second: int
    similarity: float
    mirrored: bool


class _Layout(NamedTuple):
    """What the entries of a descriptor are; the first is the mean brightness."""

    channel: NDArray[np.int64]
    vertical: NDArray[np.int64]
    horizontal: NDArray[np.int64]
    weight: NDArray[np.float64]
    coarse: NDArray[np.bool_]


def _layout() -> _Layout:
    brightness = [(np.hypot(u, v), 0, u, v) for u in range(_FINE + 1) for v in range(_FINE + 1)]
    colors = [(np.hypot(u, v), c, u, v) for c in (1, 2) for u in range(_COLOR + 1) for v in range(_COLOR + 1)]
    entries = [entry for entry in sorted(brightness) if entry[0] <= _FINE] + colors
    radius, channel, vertical, horizontal = map(np.array, zip(*entries, strict=True))
    weight = np.maximum(radius, 0.7)
    weight[0] = 0  # brightness itself is compared apart
    return _Layout(channel, vertical, horizontal, weight, radius <= _COARSE)


_ENTRIES = _layout()
_COARSE_SHAPE = _ENTRIES.coarse & (_ENTRIES.weight > 0)  # colors included
_CONTRASTS = _ENTRIES.coarse & (_ENTRIES.vertical + _ENTRIES.horizontal > 0)  # without
DIMENSIONS = len(_ENTRIES.weight)
_MIRROR = np.where(_ENTRIES.horizontal % 2, -1.0, 1.0)


@cache
def _basis(length: int) -> NDArray[np.float64]:
    """The first cosines over `length` pixels, as whole numbers: float64 adds them exactly, on every processor."""
    places = (np.arange(length) + 0.5) / length
    cosines = np.cos(np.pi * places * np.arange(_FINE + 1)[:, None]) * np.sqrt(2)
    cosines[0] = 1
    return np.asarray(np.rint(_SCALE * cosines), np.float64)


def descriptors(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What is compared of images: float32 [n, DIMENSIONS], in gray levels; zeros where nothing can be told.

    Args:
        pixels: uint8 [n, 3, h, w], of whole images. They may have been squeezed to any size of 16 pixels or more;
            whoever squeezed images that were below `SMALLEST` sets their rows to zero.
    """
    if min(pixels.shape[2:]) < SMALLEST:
        return np.zeros((len(pixels), DIMENSIONS), np.float32)
    parts = [_transformed(pixels[start : start + _AT_ONCE]) for start in range(0, len(pixels), _AT_ONCE)]
    return np.concatenate([*parts, np.empty((0, DIMENSIONS), np.float32)])


def _transformed(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    n, _, height, width = pixels.shape
    across = pixels.reshape(-1, width).astype(np.float64) @ _basis(width).T
    down = across.reshape(3 * n, height, -1).transpose(0, 2, 1).reshape(-1, height) @ _basis(height).T
    opponent = (_OPPONENT @ down.reshape(n, 3, -1)).reshape(n, 3, _FINE + 1, _FINE + 1)
    found = opponent[:, _ENTRIES.channel, _ENTRIES.horizontal, _ENTRIES.vertical]
    found /= 256 * _SCALE**2 * height * width
    found[np.linalg.norm(found[:, _CONTRASTS], axis=1) < _BLANK] = 0
    return found.astype(np.float32)


def near_pairs(first: NDArray[np.float32], second: NDArray[np.float32] | None = None) -> list[Pair]:
    """All pairs of near-identical images within a set, or with `second` between two sets, by number.

    Takes n * n / 2 steps: about 3 s of one core for 60,000 images. Where hundreds of images are all alike (a camera
    that does not move), some of the pairs among them are left out, but never so many that a group of `groups` falls
    apart.

    Args:
        first: float32 [n, DIMENSIONS], as from `descriptors`.
        second: of another set; the pairs' second numbers count its rows then.
    """
    found = first if second is None else np.concatenate([first, second])
    border = 0 if second is None else len(first)
    blocks = [*_blocks(found, None if second is None else border)]
    return [
        Pair(i, j - border, similarity, mirrored)
        for block in blocks
        for i, j, similarity, mirrored in zip(*(column.tolist() for column in block), strict=True)
    ]


def groups(count: int, pairs: Sequence[tuple[int, int]] | Sequence[Pair]) -> NDArray[np.int64]:
    """The group of each of `count` images, named by its lowest number: those that `pairs` join, directly or not."""
    ends = np.array([pair[:2] for pair in pairs], np.int64).reshape(-1, 2)
    return _joined(np.arange(count), ends[:, 0], ends[:, 1])


def _joined(group: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """The groups after those of `first` and `second` are joined."""
    from scipy.sparse import coo_array  # here, since whatever reads images loads this module, and few look for pairs
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(first), np.int8), (group[first], group[second])), shape=(len(group), len(group)))
    _, number = connected_components(edges, directed=False)
    number = number[group]
    lowest = np.full(len(group), len(group))
    np.minimum.at(lowest, number, np.arange(len(group)))
    return lowest[number]


class _Found(NamedTuple):
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    similarity: NDArray[np.float64]
    mirrored: NDArray[np.bool_]


def _blocks(found: NDArray[np.float32], border: int | None) -> Iterator[_Found]:
    """The near pairs, some at a time; with a `border` those across it, of a row before it and one from there on."""
    told = np.flatnonzero(found.any(axis=1))
    keys, common = _Keys(found[told]), _in_common(found[told])
    group, crowded, unjoined = np.arange(len(told)), np.zeros(len(told), np.bool_), [np.empty((2, 0), np.int64)]
    end = len(told) if border is None else int(np.searchsorted(told, border))
    for start in range(0, end, _ROWS):
        for pair in keys.candidates(start, min(start + _ROWS, end), start if border is None else end):
            pair = pair[:, ~crowded[pair[0]] | (group[pair[0]] != group[pair[1]])]
            near, similarity, mirrored = _verified(found[told[pair[0]]], found[told[pair[1]]], common)
            yield _Found(told[pair[0, near]], told[pair[1, near]], similarity[near], mirrored[near])
            unjoined.append(pair[:, near])
            if sum(map(np.size, unjoined)) > _CROWD**2:  # fewer make no crowd
                group = _joined(group, *np.concatenate(unjoined, axis=1))
                crowded, unjoined = np.bincount(group, minlength=len(group))[group] > _CROWD, unjoined[:1]


class _Keys:
    """Rows of length 1, the same for mirror images, whose products are at least the correlations of the images.

    Most pairs are told apart by `_SHORT` entries: rows that are near are near in these as well. The product of two
    `short` rows, of which each side holds half its square, is minus half the square of their distance.
    """

    def __init__(self, found: NDArray[np.float32]) -> None:
        keys = found[:, _COARSE_SHAPE] * _ENTRIES.weight[_COARSE_SHAPE].astype(np.float32)
        keys = np.where(_MIRROR[_COARSE_SHAPE] < 0, np.abs(keys), keys)
        self.whole = keys / np.linalg.norm(keys, axis=1, keepdims=True)
        short = self.whole[:, np.argsort(-self.whole.var(axis=0))[:_SHORT]] if len(found) else self.whole
        half, one = (short**2).sum(axis=1, keepdims=True) / 2, np.ones((len(short), 1), np.float32)
        self.short = np.hstack([short, -half, one]), np.hstack([short, one, -half])

    def candidates(self, start: int, stop: int, begin: int) -> Iterator[NDArray[np.int64]]:
        """Pairs [2, n] of a row from `start` to `stop` and a later one from `begin` on that may be near."""
        least = _ALIKE - 1e-3  # in float32; it is decided later
        for left in range(begin, len(self.whole), _COLUMNS):
            near = self.short[0][start:stop] @ self.short[1][left : left + _COLUMNS].T > least - 1
            rows = np.flatnonzero(near.any(axis=1))
            i, j = np.nonzero(near[rows])
            pairs = np.stack([rows[i] + start, j + left])
            pairs = pairs[:, pairs[0] < pairs[1]]
            for first in range(0, pairs.shape[1], _PAIRS):
                some = pairs[:, first : first + _PAIRS]
                yield some[:, np.einsum("ij,ij->i", self.whole[some[0]], self.whole[some[1]]) > least]


def _in_common(found: NDArray[np.float32]) -> tuple[float, float]:
    """Mean and standard deviation of the correlation of two images of this set, over all pairs at once."""
    n = len(found)
    if n < 2:
        return 0.0, 1.0
    shapes = found.astype(np.float64) * _ENTRIES.weight
    shapes /= np.linalg.norm(shapes, axis=1, keepdims=True)
    mean = (np.sum(shapes.sum(axis=0) ** 2) - n) / (n * (n - 1))
    square = (np.sum((shapes.T @ shapes) ** 2) - n) / (n * (n - 1))
    return float(mean), float(np.sqrt(max(square - mean**2, 1 / DIMENSIONS)))


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray(np.einsum("ij,ij->i", a, b) / lengths, np.float64)


def _verified(
    first: NDArray[np.float32], second: NDArray[np.float32], common: tuple[float, float]
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.bool_]]:
    """Which of these candidates are near-identical, how similar all are, and which are mirrored; by their rows."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    fine = [_correlation(a * _ENTRIES.weight, b * turn * _ENTRIES.weight) for turn in (np.ones(1), _MIRROR)]
    mirrored, alike = fine[1] > fine[0], np.maximum(*fine)
    brighter = np.abs(a[:, 0] - b[:, 0])
    a, b = a[:, _COARSE_SHAPE], np.where(mirrored[:, None], b * _MIRROR, b)[:, _COARSE_SHAPE]
    weight = _ENTRIES.weight[_COARSE_SHAPE]
    similarity = _correlation(a * weight, b * weight)
    contrast = np.linalg.norm(b, axis=1) / np.linalg.norm(a, axis=1)
    half = np.sqrt(contrast)[:, None]
    left = np.linalg.norm(b / half - a * half, axis=1)

    mean, deviation = common
    # Fisher's transformation makes the deviation of a correlation the same wherever it lies.
    alike, mean = np.minimum(alike, _ALL_BUT_ONE), min(mean, _ALL_BUT_ONE)
    beyond = (np.arctanh(alike) - np.arctanh(mean)) * (1 - mean**2) / deviation
    near = (similarity >= _ALIKE) & (brighter <= _BRIGHTNESS) & (np.maximum(contrast, 1 / contrast) <= _CONTRAST)
    near &= (left <= _LEFT) | (beyond >= _SIGNIFICANT)
    return near, similarity, mirrored
