"""Sources that need no path: CIFAR-10 and CIFAR-100 (downloaded), scikit-learn's digits, generated patterns."""

from __future__ import annotations

import http.client
import socket
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from trainables.config import ConfigError
from trainables.data.source import SPLITS, Contents, Row, Split

__all__ = ["Cifar", "Digits", "Synthetic"]

SYNTHETIC_IMAGES = 2000
_DOWNLOAD_TIMEOUT_SECONDS = 30

_Arrays = dict[Split, tuple[NDArray[np.uint8], Sequence[int]]]


def _contents(class_names: Sequence[str], arrays: _Arrays) -> Contents:
    """`arrays`: per split, uint8 pixels [n, 3, h, w] and their labels."""

    def rows() -> Iterator[Row]:
        for split in SPLITS:
            pixels, labels = arrays.get(split, ((), ()))
            for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
                yield Row(split, int(label), f"{split} image {i}", image)

    stacks = [pixels for pixels, _ in arrays.values()]
    return Contents(tuple(class_names), rows, sum(map(len, stacks)), sum(stack.nbytes for stack in stacks))


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)  # torchvision's download sets none and would hang where packets are dropped
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@dataclass(frozen=True)
class Cifar:
    """CIFAR-10 or CIFAR-100 (Krizhevsky 2009), fetched once by torchvision, which verifies its MD5 sums at each use."""

    classes: Literal[10, 100]

    def signature(self) -> Any:
        return [f"cifar{self.classes}"]

    def contents(self, downloads: Path) -> Contents:
        from torchvision.datasets import CIFAR10, CIFAR100

        dataset = CIFAR10 if self.classes == 10 else CIFAR100
        try:
            with FileLock(downloads / f"cifar{self.classes}.lock"), _socket_timeout(_DOWNLOAD_TIMEOUT_SECONDS):
                parts = {
                    "train": dataset(str(downloads), train=True, download=True),
                    "test": dataset(str(downloads), train=False, download=True),
                }
        except (OSError, RuntimeError, EOFError, tarfile.TarError, http.client.HTTPException) as error:
            rule = (
                f"could not be downloaded ({str(error) or type(error).__name__}): put {dataset.filename} from "
                f"{dataset.url} into {downloads}, or use parquet:PATH or imagefolder:PATH with files you have"
            )
            raise ConfigError.single("data.source", f"cifar{self.classes}", rule) from error
        arrays: _Arrays = {
            split: (np.ascontiguousarray(parts[split].data.transpose(0, 3, 1, 2)), parts[split].targets)
            for split in SPLITS
            if split in parts
        }
        return _contents(parts["train"].classes, arrays)


@dataclass(frozen=True)
class Digits:
    """The 1,797 handwritten digits of 8 x 8 pixels that scikit-learn ships; gray, repeated to three channels."""

    def signature(self) -> Any:
        return ["digits"]

    def contents(self, downloads: Path) -> Contents:
        from sklearn.datasets import load_digits

        digits = load_digits()
        gray = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # 0..16 as they come
        pixels = np.ascontiguousarray(np.broadcast_to(gray[:, None], (len(gray), 3, 8, 8)))
        return _contents([str(name) for name in digits.target_names], {"train": (pixels, digits.target.tolist())})


# A class is a direction (x, y) and a period of stripes; phase and both colors are random, so that no pixel tells it.
_STRIPES = (
    (1, 0, 6),
    (1, 0, 9),
    (0, 1, 6),
    (0, 1, 9),
    (1, 1, 8),
    (1, 1, 13),
    (1, -1, 8),
    (1, -1, 13),
    (2, 1, 14),
    (1, 2, 14),
)
_NOISE = 200


@dataclass(frozen=True)
class Synthetic:
    """2,000 generated images of 32 x 32 pixels in 10 classes of noisy stripes, the same on every machine.

    A linear model of the pixels stays near chance; a small convolutional network learns them in a few epochs.
    """

    def signature(self) -> Any:
        return ["synthetic", 1]

    def contents(self, downloads: Path) -> Contents:
        # RandomState's stream is frozen and integer arithmetic rounds nowhere: the fingerprint is the same everywhere.
        random = np.random.RandomState(0)
        n = SYNTHETIC_IMAGES
        labels = np.arange(n) % len(_STRIPES)
        dx, dy, period = np.array(_STRIPES)[labels].T[:, :, None, None]
        y, x = np.mgrid[0:32, 0:32]
        phase = random.randint(0, 64, (n, 1, 1), dtype=np.int64)
        bright = ((dx * x + dy * y + phase) % period * 2 < period)[:, None]
        colors = random.randint(0, 256, (2, n, 3, 1, 1), dtype=np.int64)
        noise = random.randint(-_NOISE, _NOISE + 1, (n, 3, 32, 32), dtype=np.int64)
        pixels = np.clip(np.where(bright, colors[0], colors[1]) + noise, 0, 255).astype(np.uint8)
        names = [f"stripes {x},{y} every {period}" for x, y, period in _STRIPES]
        return _contents(names, {"train": (pixels, labels.tolist())})
