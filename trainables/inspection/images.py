"""The images of a source as the doctor sees them: every one read once, those that can't be read named, none stored.

Unlike `trainables.data.survey` it refuses nothing that is wrong with an image, which is what is looked for, and leaves
files where they are: only what comes as bytes or pixels goes into a temporary file. Splits are the source's own.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainables.data.decode import upright
from trainables.data.image_file import UnreadableImage, opened, quiet, read_encoded
from trainables.data.likeness import DIMENSIONS, SMALLEST, descriptors
from trainables.data.plain import Levels, levels_of, plain
from trainables.data.source import Contents, Row, Split

__all__ = ["SIDE", "Scanned", "Unreadable", "scanned"]

SIDE = 32  # of the squares to which images are squeezed for what compares whole splits
_FINE_SIDE = 64  # of those from which near-identical images are found
_ORIENTATION = 0x0112

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Unreadable:
    """An image that can't be read, where it belongs, why, and what to do about all like it."""

    name: str
    split: Split
    label: int
    reason: str
    cure: str


@dataclass(frozen=True)
class _Stored:
    """Where an image is: a file, or so many bytes of the scratch file, an image file or pixels [3, h, w]."""

    place: Path | tuple[int, int]
    shape: tuple[int, int, int] | None = None


@dataclass
class Scanned:
    """What was read; image number i is at place i of every list.

    Attributes:
        class_names: of the labels.
        names: what the source calls each image, `Row.name`.
        labels: int64 [n].
        splits: the source's own; "train" where it has none.
        digests: SHA-256 of each file, or of its pixels.
        sizes: int64 [n, 2], height and width, upright.
        turned: of each, whether EXIF data say that it is not stored upright.
        squeezed: uint8 [n, 3, SIDE, SIDE], the whole image, RGB.
        likeness: float32 [n, DIMENSIONS], as `trainables.data.likeness.descriptors`.
        unreadable: what could not be read, and has no number.
    """

    class_names: tuple[str, ...]
    names: list[str] = field(default_factory=list)
    labels: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    splits: NDArray[np.str_] = field(default_factory=lambda: np.empty(0, np.str_))
    digests: list[bytes] = field(default_factory=list)
    sizes: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), np.int64))
    turned: list[bool] = field(default_factory=list)
    squeezed: Pixels = field(default_factory=lambda: np.empty((0, 3, SIDE, SIDE), np.uint8))
    likeness: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, DIMENSIONS), np.float32))
    unreadable: list[Unreadable] = field(default_factory=list)
    _stored: list[_Stored] = field(default_factory=list)
    _levels: Levels | None = None
    _scratch: IO[bytes] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def of(self, split: str) -> NDArray[np.int64]:
        """The numbers of the images of one split."""
        return np.flatnonzero(self.splits == split)

    def encoded(self, number: int) -> bytes | Pixels:
        """An image as it was stored: the bytes of a JPEG, PNG, BMP or WEBP file, or uint8 [3, h, w]."""
        stored = self._stored[number]
        if isinstance(stored.place, Path):
            return self._plain(read_encoded(stored.place))
        start, stop = stored.place
        scratch = self._scratch
        if scratch is None:
            raise ValueError("the images are read within `scanned` only")
        scratch.seek(start)
        content = scratch.read(stop - start)
        if stored.shape is not None:
            return np.frombuffer(content, np.uint8).reshape(stored.shape)
        return self._plain(content)

    def _plain(self, encoded: bytes) -> bytes:
        with quiet():
            return plain(encoded, self._levels, SIDE)[0].encoded

    def image(self, number: int) -> Image.Image:
        """An image as 8-bit RGB, upright, of its own size."""
        found = self.encoded(number)
        if isinstance(found, np.ndarray):
            return Image.fromarray(np.ascontiguousarray(found.transpose(1, 2, 0)))
        with quiet(), opened(found) as image:
            return upright(image)[0]


@contextmanager
def scanned(contents: Contents, tell: Callable[[str], None] = lambda _: None) -> Iterator[Scanned]:
    """Read all images of a source; as long as the context is open they can be read again by number.

    Args:
        contents: of the source.
        tell: is called with a line about every 10,000 images.
    """
    with tempfile.TemporaryFile() as scratch, quiet():
        levels: Levels | None = None
        while True:  # deep gray is made 8 bits by levels that all images decide
            found, values = _scan(contents, scratch, levels, tell)
            if (decided := levels_of(values)) == levels:
                break
            levels = decided
            scratch.seek(0)
        yield found


def _scan(
    contents: Contents, scratch: IO[bytes], levels: Levels | None, tell: Callable[[str], None]
) -> tuple[Scanned, list[Levels]]:
    found = Scanned(contents.class_names, _levels=levels, _scratch=scratch)
    labels, splits, sizes, squeezed, likeness, values = [], [], [], [], [], []
    for count, row in enumerate(contents.rows(), start=1):
        if count % 10_000 == 0:
            tell(f"read {count:,} of {contents.count:,} images")
        try:
            seen = _look(row, levels)
        except UnreadableImage as error:
            found.unreadable.append(Unreadable(row.name, row.split, row.label, str(error), error.cure))
            continue
        except OSError as error:
            reason = error.strerror or type(error).__name__
            found.unreadable.append(Unreadable(row.name, row.split, row.label, reason, "repair or remove them"))
            continue
        found.names.append(row.name)
        found.digests.append(seen.digest)
        found.turned.append(seen.turned)
        found._stored.append(_store(row, scratch))
        labels.append(row.label)
        splits.append(row.split)
        sizes.append(seen.size)
        squeezed.append(seen.squeezed)
        likeness.append(seen.likeness)
        values += seen.values
    if labels:
        found.labels, found.splits = np.array(labels, np.int64), np.array(splits)
        found.sizes, found.squeezed = np.array(sizes, np.int64), np.stack(squeezed)
        found.likeness = np.stack(likeness)
    return found, values


def _store(row: Row, scratch: IO[bytes]) -> _Stored:
    if isinstance(row.image, Path):
        return _Stored(row.image)
    start = scratch.tell()
    if isinstance(row.image, bytes):
        scratch.write(row.image)
        return _Stored((start, scratch.tell()))
    scratch.write(row.image.tobytes())
    _, height, width = row.image.shape
    return _Stored((start, scratch.tell()), (3, height, width))


@dataclass(frozen=True)
class _Seen:
    digest: bytes
    size: tuple[int, int]
    turned: bool
    squeezed: Pixels
    likeness: NDArray[np.float32]
    values: list[Levels]


def _look(row: Row, levels: Levels | None) -> _Seen:
    if isinstance(row.image, np.ndarray):
        pixels, digest, turned, values = row.image, hashlib.sha256(row.image.tobytes()).digest(), False, []
        size = (pixels.shape[1], pixels.shape[2])
        if max(size) > _FINE_SIDE:
            pixels = _resized(pixels, _FINE_SIDE)
    else:
        encoded = read_encoded(row.image) if isinstance(row.image, Path) else row.image
        file, pixels, size = plain(encoded, levels, _FINE_SIDE)
        digest, values = hashlib.sha256(encoded).digest(), [] if file.values is None else [file.values]
        with opened(file.encoded) as image:
            turned = _is_turned(image)
    likeness = descriptors(pixels[None])[0]
    if min(size) < SMALLEST:
        likeness = np.zeros_like(likeness)
    return _Seen(digest, size, turned, _resized(pixels, SIDE), likeness, values)


def _is_turned(image: Image.Image) -> bool:
    try:
        return image.getexif().get(_ORIENTATION, 1) not in (0, 1)
    except (OSError, SyntaxError, ValueError, TypeError):  # broken EXIF data turn nothing
        return False


def _resized(pixels: Pixels, side: int) -> Pixels:
    if pixels.shape[1:] == (side, side):
        return pixels
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    squeezed = image.resize((side, side), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(squeezed).transpose(2, 0, 1))
