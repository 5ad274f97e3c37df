"""Building a store: every image is read once, checked, hashed and measured; then the splits are written.

Images that are all of one size of at most 64 pixels a side are stored as pixels. Others stay encoded, as they are in
the source, or as what `trainables.data.plain` makes of them; their channel statistics are those of the training images
squeezed to 64 x 64, which smooths them a little: the standard deviation comes out slightly smaller than at full size.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.check import Check
from trainables.config import ConfigError, Data
from trainables.data.arrow import write_encoded, write_pixels
from trainables.data.checks import Twins, check_data, refuse_copies, twins_of
from trainables.data.description import describe, sizes_and_modes
from trainables.data.likeness import groups
from trainables.data.plain import CONVERSION, Levels
from trainables.data.selection import selected
from trainables.data.source import SPLITS, Contents, Split, listed
from trainables.data.splitting import split_rows
from trainables.data.survey import LARGEST_PIXELS, Survey, survey

__all__ = ["FORMAT", "LARGEST_NATIVE", "Built", "build"]

FORMAT = 1  # raise it when the files of a store change their meaning
LARGEST_NATIVE = 224  # side up to which alike images keep their size when no resolution is asked for


@dataclass(frozen=True)
class Built:
    """What `build` wrote, for the store's record. Means and deviations are of train's pixels scaled to 0..1."""

    fingerprint: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    encoded: bool
    image_size: tuple[int, int] | None
    counts: dict[str, int]
    skipped: tuple[str, ...]
    description: tuple[str, str, str]
    checks: tuple[Check, ...]


def build(contents: Contents, data: Data, directory: Path) -> Built:
    """Write train.arrow, val.arrow and test.arrow of a source into an empty `directory`.

    Raises:
        ConfigError: unreadable images (all named, unless `data.on_corrupt` is "skip"), classes too small to be split, a
            split that is a copy of train, a `data.exclude` or `data.group_by` that does not fit, or too little disk.
        OSError: if `directory` can't be written.
    """
    contents, scratch = selected(contents, data), directory / "scratch"
    found, levels = survey(contents, data, scratch)
    twins = None if contents.repeated else twins_of(found)
    if twins is not None:
        refuse_copies(found, twins, contents, data)
    splits = _split(found, twins, contents.class_names, data)
    labels = np.array(found.labels, dtype=np.int64)
    size = next(iter(found.sizes))
    for split in SPLITS:
        path, rows = directory / f"{split}.arrow", splits[split]
        if found.as_pixels:
            write_pixels(path, labels[rows], size, found.stored(rows))
        else:
            write_encoded(path, labels[rows], found.stored(rows))
    scratch.unlink()

    moments = np.sum([found.moments[row] for row in splits["train"].tolist()], axis=0)
    values = len(splits["train"]) * (size[0] * size[1] if found.as_pixels else LARGEST_PIXELS**2)
    mean = moments[:3] / values / 255
    # A constant channel has no deviation; one gray level keeps the division by it finite.
    std = np.maximum(np.sqrt(np.maximum(moments[3:] / values / 255**2 - mean**2, 0)), 1 / 255)
    alike = len(found.sizes) == 1 and max(size) <= LARGEST_NATIVE
    skipped = tuple(image.name for image in found.unreadable)
    images = sizes_and_modes(found.sizes, found.kinds, found.notes, levels)
    if data.group_by is not None:
        images.append(f"{len(set(found.groups)):,} groups by {data.group_by}")
    if skipped:
        images.append(f"unreadable and left out: {len(skipped)} ({listed(skipped, 3)})")
    return Built(
        fingerprint=_fingerprint(contents, found, splits, skipped, levels),
        mean=(float(mean[0]), float(mean[1]), float(mean[2])),
        std=(float(std[0]), float(std[1]), float(std[2])),
        encoded=not found.as_pixels,
        image_size=size if alike else None,
        counts={split: len(rows) for split, rows in splits.items()},
        skipped=skipped,
        description=describe(contents, data, labels, splits, found.declared, images),
        checks=() if twins is None else check_data(found, twins, contents, splits, data),
    )


def _split(
    found: Survey, twins: Twins | None, class_names: Sequence[str], data: Data
) -> dict[Split, NDArray[np.int64]]:
    """The rows of each split. Near-identical images are kept together, unless so many are alike that none could be."""

    def split(together: Sequence[Hashable] | None) -> dict[Split, NDArray[np.int64]]:
        return split_rows(found.labels, found.digests, found.own, found.declared, class_names, data, together)

    named = found.groups if data.group_by is not None else None
    if twins is None or not len(twins.pairs):
        return split(named)
    pairs = twins.pairs.tolist()
    if named is not None:
        first = {name: row for row, name in reversed([*enumerate(named)])}
        pairs += [(first[name], row) for row, name in enumerate(named)]
    try:
        return split(groups(len(found.labels), pairs).tolist())
    except ConfigError:  # then the checks say what leaks
        return split(named)


def _fingerprint(
    contents: Contents, found: Survey, splits: dict[Split, NDArray[np.int64]], skipped: tuple[str, ...],
    levels: Levels | None,
) -> str:  # fmt: skip
    named: list[object] = [FORMAT, contents.class_names, skipped]
    if found.converted:  # the digests are of the files as they came
        named.append(["converted", CONVERSION, levels])
    content = hashlib.sha256(json.dumps(named).encode())
    for split, rows in splits.items():
        content.update(f"{split} {len(rows)}\n".encode())
        for row in rows.tolist():
            content.update(f"{found.labels[row]} ".encode() + found.digests[row])
    return content.hexdigest()[:32]
