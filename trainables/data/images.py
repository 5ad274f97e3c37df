"""What a trial reads: the training and validation images of a prepared store. The test split is out of its reach."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainables.config import ConfigError, Data
from trainables.cpu import available_cpus
from trainables.data.arrow import EncodedRows, read_labels, read_pixels
from trainables.data.decode import Size, Square
from trainables.data.decoded import decode_rows, materialize
from trainables.data.store import PreparedData, default_cache, prepare

__all__ = [
    "DEFAULT_RESOLUTION",
    "Images",
    "Splits",
    "PreparedData",
    "default_cache",
    "load_splits",
    "open_images",
    "prepare",
    "size_of",
]

DEFAULT_RESOLUTION = 224


class Images:
    """Labelled images of one size, in a fixed order; made by `open_images`.

    Attributes:
        labels: int64 [n] on the CPU.
        pixels: uint8 [n, 3, h, w], mapped from disk and shared between processes (what one writes into it stays with
            it), or None if the images are decoded batch by batch.
        size: (h, w) of what `batch` returns.

    Args:
        labels: as above.
        images: the pixels themselves, or the file that holds the images encoded.
        size: how large they are, or are cut.
    """

    def __init__(self, labels: Tensor, images: Tensor | Path, size: Size) -> None:
        self.labels = labels
        self.size = (size.side, size.side) if isinstance(size, Square) else size
        self._encoded = EncodedRows(images) if isinstance(images, Path) else None
        self._target = size
        self._pool: ThreadPoolExecutor | None = None
        self.pixels = images if isinstance(images, Tensor) else None
        if isinstance(images, Path) and (ready := materialize(images, len(labels), size)) is not None:
            self.pixels = torch.from_numpy(ready)[: len(labels)]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def has_originals(self) -> bool:
        """Whether the images were cut and resized to their size, so that `crops` finds more in their files."""
        return self._encoded is not None and isinstance(self._target, Square)

    def crops(self, indices: Tensor, windows: Tensor) -> Tensor:
        """A window of each of the images at `indices`, int64 [b], from its file, as uint8 [b, 3, h, w] on the CPU.

        Args:
            indices: as in `batch`.
            windows: float [4, b] on the CPU, as `decode_crop` takes them.
        """
        square = self._target
        if not isinstance(square, Square):
            raise ValueError("the images are of their own size: there is nothing more in their files")
        # Large JPEGs may be decoded smaller here: of no two crops the pixels are alike anyway, and it is every epoch's.
        sizes = [replace(square, reduced=True, window=tuple(window)) for window in windows.T.tolist()]
        return self._decoded(indices, sizes)

    def batch(self, indices: Tensor) -> Tensor:
        """The images at `indices`, int64 [b] from 0 to `len(self)` - 1, as uint8 [b, 3, h, w] on the CPU."""
        return self._decoded(indices, [self._target] * len(indices)) if self.pixels is None else self.pixels[indices]

    def _decoded(self, indices: Tensor, sizes: Sequence[Size]) -> Tensor:
        if self._encoded is None:
            raise ValueError("the images came as pixels: there are no files to be decoded")
        rows = indices.tolist()
        if rows and not 0 <= min(rows) <= max(rows) < len(self):
            raise IndexError(f"indices {min(rows)} to {max(rows)} of {len(self)} images")
        self._pool = self._pool or ThreadPoolExecutor(available_cpus())
        out = np.empty((len(rows), 3, *self.size), dtype=np.uint8)
        for i, image in enumerate(decode_rows(self._pool, self._encoded, rows, sizes)):
            out[i] = image
        return torch.from_numpy(out)


@dataclass(frozen=True)
class Splits:
    """What the search may see."""

    train: Images
    val: Images
    store: PreparedData


def open_images(store: PreparedData, path: Path, data: Data, cap: int | None = None) -> Images:
    """The images of one file of a store: the first `cap`, which are stratified, or all.

    Pixels come as they are stored: `data.resolution` is left to the device. Encoded images come as squares of
    `data.resolution`; without one, as they are if all are alike (`PreparedData.image_size`), else as squares of 224.

    Raises:
        ConfigError: if the file is damaged.
    """
    labels = torch.from_numpy(read_labels(path))
    known = (labels >= 0) & (labels < store.num_classes)
    if len(labels) != store.counts[path.stem] or not known.all():
        rule = "must hold each image's label, one of the classes: remove its folder, and they are prepared again"
        raise ConfigError.single(str(path), f"{len(labels)} labels", rule)
    labels = labels[:cap]
    pixels = read_pixels(path)
    if pixels is not None:
        _, _, height, width = pixels.shape
        return Images(labels, torch.from_numpy(pixels)[: len(labels)], (height, width))
    return Images(labels, path, size_of(store, data))


def size_of(store: PreparedData, data: Data) -> Size:
    """What the images of a store are cut to; those that are stored as pixels keep their size."""
    if store.image_size is not None and (data.resolution is None or not store.encoded):
        return store.image_size
    return Square(data.resolution or DEFAULT_RESOLUTION, data.decoding == "reduced")


def load_splits(data: Data, cache: Path, store: PreparedData | None = None) -> Splits:
    """Training and validation images of `data`, from `store` or prepared in the folder `cache` if they are not yet.

    `data.train_samples` and `data.val_samples` keep the first rows of an order in which every prefix is stratified: a
    smaller cap is a subset of a larger one, and a cap beyond what there is means all.

    Raises:
        ConfigError: as `prepare`.
    """
    store = store or prepare(data, cache)
    train = open_images(store, store.directory / "train.arrow", data, data.train_samples)
    val = open_images(store, store.directory / "val.arrow", data, data.val_samples)
    return Splits(train, val, store)
