"""One pass over a source: every image is read once, checked, hashed, measured and described.

What is stored of the images goes into a scratch file meanwhile, in the order of the source.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.config import ConfigError, Data
from trainables.cpu import available_cpus
from trainables.data.image_file import UnreadableImage, quiet, read_encoded
from trainables.data.likeness import DIMENSIONS, SMALLEST, descriptors
from trainables.data.plain import Levels, Plain, levels_of, plain
from trainables.data.source import Contents, Row, Split, listed

__all__ = ["LARGEST_PIXELS", "Survey", "survey"]

LARGEST_PIXELS = 64  # side up to which alike images are stored as pixels
_AT_ONCE = 64  # images whose descriptors are made together
_SPARE_BYTES = 16 * 2**20
_DARKEST = 64  # of 255: where the high bytes of all 16-bit color images end below it, they were made of fewer bits


class _NotPixels(Exception):  # noqa: N818 (a turn taken, no error)
    """An image was met that keeps this source from being stored as pixels."""


@dataclass(frozen=True)
class _Seen:
    """One readable image: its content hash, what is stored of it, and per channel the sums of pixels and squares.

    `pixels` are those that are measured; `file` is what was found about an encoded image.
    """

    digest: bytes
    stored: bytes
    size: tuple[int, int]
    moments: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    file: Plain | None = None


def _moments(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    flat = pixels.reshape(3, -1).astype(np.int64)  # integers: exact, whatever the order of summation
    return np.concatenate([flat.sum(axis=1), np.einsum("cp,cp->c", flat, flat)])


@dataclass(frozen=True)
class _Unreadable:
    """An image that can't be read, why, and what to do about all like it."""

    name: str
    reason: str
    cure: str


def _look(row: Row, as_pixels: bool, levels: Levels | None) -> _Seen | _Unreadable:
    """Read and check one image."""
    if isinstance(row.image, np.ndarray):
        stored = row.image.tobytes()
        height, width = row.image.shape[1:]
        return _Seen(hashlib.sha256(stored).digest(), stored, (height, width), _moments(row.image), row.image)
    try:
        encoded = read_encoded(row.image) if isinstance(row.image, Path) else row.image
        file, pixels, size = plain(encoded, levels, None if as_pixels else LARGEST_PIXELS)
        stored = pixels.tobytes() if as_pixels else file.encoded
    except UnreadableImage as unreadable:
        return _Unreadable(row.name, str(unreadable), unreadable.cure)
    except OSError as error:
        return _Unreadable(row.name, error.strerror or type(error).__name__, "repair or remove them")
    digest = hashlib.sha256(encoded).digest()
    return _Seen(digest, stored, size, _moments(pixels), pixels, replace(file, encoded=b""))


@dataclass
class Survey:
    """What a pass over a source found, a row for each readable image; `stored` ones lie in a scratch file, in order."""

    scratch: Path
    as_pixels: bool
    total: int = 0
    labels: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    groups: list[str | None] = field(default_factory=list)
    thumbnails: list[NDArray[np.uint8]] = field(default_factory=list)
    parts: list[NDArray[np.float32]] = field(default_factory=list)
    own: list[Split] = field(default_factory=list)
    declared: set[Split] = field(default_factory=set)
    digests: list[bytes] = field(default_factory=list)
    moments: list[NDArray[np.int64]] = field(default_factory=list)
    ends: list[int] = field(default_factory=lambda: [0])
    sizes: set[tuple[int, int]] = field(default_factory=set)
    unreadable: list[_Unreadable] = field(default_factory=list)
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    values: list[Levels] = field(default_factory=list)
    deep_color: list[int] = field(default_factory=list)
    converted: bool = False

    def add(self, row: Row, seen: _Seen | _Unreadable) -> None:
        self.total += 1
        self.declared |= {row.split} - {"train"}
        if isinstance(seen, _Unreadable):
            self.unreadable.append(seen)
            return
        self.sizes.add(seen.size)
        if self.as_pixels and (len(self.sizes) > 1 or max(seen.size) > LARGEST_PIXELS):
            raise _NotPixels
        self.labels.append(row.label)
        self.names.append(row.name)
        self.groups.append(row.group)
        self._compare_later(seen)
        self.own.append(row.split)
        self.digests.append(seen.digest)
        self.moments.append(seen.moments)
        self.ends.append(self.ends[-1] + len(seen.stored))
        self._note(seen.file)

    def _compare_later(self, seen: _Seen) -> None:
        if len(self.thumbnails) == _AT_ONCE or (self.thumbnails and self.thumbnails[0].shape != seen.pixels.shape):
            self._describe()
        # Of a blank image nothing can be told, like of one that was too small before it was squeezed.
        self.thumbnails.append(seen.pixels if min(seen.size) >= SMALLEST else np.zeros_like(seen.pixels))

    def _describe(self) -> None:
        if self.thumbnails:
            self.parts.append(descriptors(np.stack(self.thumbnails)))
            self.thumbnails.clear()

    @property
    def likeness(self) -> NDArray[np.float32]:
        """The descriptor of each row, by which near-identical images are found."""
        self._describe()
        return np.concatenate([np.empty((0, DIMENSIONS), np.float32), *self.parts])

    def _note(self, file: Plain | None) -> None:
        if file is None:
            self.kinds["RGB", ""] += 1
            return
        self.kinds[file.kind] += 1
        self.notes.update(file.notes)
        self.values += [file.values] if file.values is not None else []
        self.deep_color += [file.deep_color] if file.deep_color is not None else []
        self.converted |= file.converted

    def stored(self, rows: NDArray[np.int64]) -> Iterator[bytes]:
        """The stored form of `rows`, in that order."""
        with self.scratch.open("rb", buffering=0) as file:
            for row in rows.tolist():
                yield os.pread(file.fileno(), self.ends[row + 1] - self.ends[row], self.ends[row])


def _in_threads(
    look: Callable[[Row], _Seen | _Unreadable], rows: Iterable[Row]
) -> Iterator[tuple[Row, _Seen | _Unreadable]]:
    """`look` at each row, in order, a few rows ahead: the whole source is never in memory."""
    waiting: deque[tuple[Row, Future[_Seen | _Unreadable]]] = deque()
    with ThreadPoolExecutor(available_cpus()) as pool:
        for row in rows:
            waiting.append((row, pool.submit(look, row)))
            if len(waiting) > 4 * available_cpus():
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def _require_space(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed:
        rule = (
            f"needs {needed / 2**20:,.0f} MiB of free disk while the data is prepared, and has {free / 2**20:,.0f}: "
            "free some, or set RESNET_SEARCH_CACHE to another folder"
        )
        raise ConfigError.single("cache", str(directory.parent), rule)


def _pass(contents: Contents, scratch: Path, as_pixels: bool, levels: Levels | None) -> Survey:
    found = Survey(scratch, as_pixels)

    def look(row: Row) -> _Seen | _Unreadable:
        return _look(row, as_pixels, levels)

    # Small images take longer to hand to a thread than to decode.
    looked = ((row, look(row)) for row in contents.rows()) if as_pixels else _in_threads(look, contents.rows())
    with quiet(), scratch.open("wb") as file:
        for row, seen in looked:
            found.add(row, seen)
            if isinstance(seen, _Seen):
                if len(found.labels) == 1:
                    size = contents.count * len(seen.stored) if as_pixels else contents.nbytes
                    _require_space(scratch.parent, 2 * size + _SPARE_BYTES)  # the scratch file and the splits
                file.write(seen.stored)
    return found


def _pass_as_pixels(contents: Contents, scratch: Path, levels: Levels | None) -> Survey | None:
    try:
        return _pass(contents, scratch, as_pixels=True, levels=levels)
    except (
        _NotPixels
    ):  # caught here: in the caller it would keep the source open, and its buffers, during the second pass
        return None


def survey(contents: Contents, data: Data, scratch: Path) -> tuple[Survey, Levels | None]:
    """Read every image, and the levels of deep gray. Where there are any, which all images decide, they are read again.

    Raises:
        ConfigError: unreadable images (all named, unless `data.on_corrupt` is "skip"), or too little disk space.
        OSError: if the scratch file can't be written.
    """
    levels: Levels | None = None
    while True:
        found = _pass_as_pixels(contents, scratch, levels) or _pass(contents, scratch, False, levels)
        if (needed := levels_of(found.values)) == levels:
            _check_readable(found, data)
            return found, levels
        levels = needed


def _check_readable(found: Survey, data: Data) -> None:
    if found.unreadable and data.on_corrupt == "error":
        named = listed([f"{image.name} ({image.reason})" for image in found.unreadable])
        cures = "; ".join(dict.fromkeys(image.cure for image in found.unreadable))
        rule = (
            f"must hold readable images only, and {len(found.unreadable)} of {found.total} are not: {named}; "
            f"{cures}, or set data.on_corrupt=skip to leave them out"
        )
        raise ConfigError.single("data.source", data.source, rule)
    if found.deep_color and max(found.deep_color) < _DARKEST:
        rule = (
            f"has color images of 16 bits whose values end at {256 * max(found.deep_color) + 255:,} of 65,535: they "
            "would be nearly black; convert them (`magick mogrify -normalize -depth 8 -format png FILE`)"
        )
        raise ConfigError.single("data.source", data.source, rule)
