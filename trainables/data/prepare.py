"""Building a store: every image is read once, checked, hashed and measured; then the splits are written.

Images that are all of one size of at most 64 pixels a side are stored as pixels. Others stay encoded, as they are in
the source, or as what `trainables.data.plain` makes of them; their channel statistics are those of the training images
squeezed to 64 x 64, which smooths them a little: the standard deviation comes out slightly smaller than at full size.
"""

from __future__ import annotations

import hashlib
import json
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
from trainables.data.arrow import write_encoded, write_pixels
from trainables.data.decode import UnreadableImage, quiet, read_encoded
from trainables.data.description import describe, sizes_and_modes
from trainables.data.plain import CONVERSION, Levels, Plain, levels_of, plain
from trainables.data.source import SPLITS, Contents, Row, Split, listed
from trainables.data.splitting import split_rows

__all__ = ["FORMAT", "LARGEST_NATIVE", "Built", "build"]

FORMAT = 1  # raise it when the files of a store change their meaning
LARGEST_PIXELS = 64  # side up to which alike images are stored as pixels
LARGEST_NATIVE = 224  # side up to which alike images keep their size when no resolution is asked for
_SPARE_BYTES = 16 * 2**20
_DARKEST = 64  # of 255: where the high bytes of all 16-bit color images end below it, they were made of fewer bits


class _NotPixels(Exception):  # noqa: N818 (a turn taken, no error)
    """An image was met that keeps this source from being stored as pixels."""


@dataclass(frozen=True)
class _Seen:
    """One readable image: its content hash, what is stored of it, and per channel the sums of pixels and squares.

    `file` is what was found about an encoded image.
    """

    digest: bytes
    stored: bytes
    size: tuple[int, int]
    moments: NDArray[np.int64]
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
        return _Seen(hashlib.sha256(stored).digest(), stored, (height, width), _moments(row.image))
    try:
        encoded = read_encoded(row.image) if isinstance(row.image, Path) else row.image
        file, pixels, size = plain(encoded, levels, None if as_pixels else LARGEST_PIXELS)
        stored = pixels.tobytes() if as_pixels else file.encoded
    except UnreadableImage as unreadable:
        return _Unreadable(row.name, str(unreadable), unreadable.cure)
    except OSError as error:
        return _Unreadable(row.name, error.strerror or type(error).__name__, "repair or remove them")
    return _Seen(hashlib.sha256(encoded).digest(), stored, size, _moments(pixels), replace(file, encoded=b""))


@dataclass
class _Survey:
    """What a pass over a source found; `stored` images lie in a scratch file, in the order of the source."""

    scratch: Path
    as_pixels: bool
    total: int = 0
    labels: list[int] = field(default_factory=list)
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
        self.own.append(row.split)
        self.digests.append(seen.digest)
        self.moments.append(seen.moments)
        self.ends.append(self.ends[-1] + len(seen.stored))
        self._note(seen.file)

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


def _survey(contents: Contents, scratch: Path, as_pixels: bool, levels: Levels | None) -> _Survey:
    survey = _Survey(scratch, as_pixels)

    def look(row: Row) -> _Seen | _Unreadable:
        return _look(row, as_pixels, levels)

    # Small images take longer to hand to a thread than to decode.
    looked = ((row, look(row)) for row in contents.rows()) if as_pixels else _in_threads(look, contents.rows())
    with quiet(), scratch.open("wb") as file:
        for row, seen in looked:
            survey.add(row, seen)
            if isinstance(seen, _Seen):
                if len(survey.labels) == 1:
                    size = contents.count * len(seen.stored) if as_pixels else contents.nbytes
                    _require_space(scratch.parent, 2 * size + _SPARE_BYTES)  # the scratch file and the splits
                file.write(seen.stored)
    return survey


def _survey_pixels(contents: Contents, scratch: Path, levels: Levels | None) -> _Survey | None:
    try:
        return _survey(contents, scratch, as_pixels=True, levels=levels)
    except (
        _NotPixels
    ):  # caught here: in the caller it would keep the source open, and its buffers, during the second pass
        return None


def _survey_all(contents: Contents, scratch: Path) -> tuple[_Survey, Levels | None]:
    """What is stored of every image; where deep gray needs levels, which all images decide, they are read again."""
    levels: Levels | None = None
    while True:
        survey = _survey_pixels(contents, scratch, levels) or _survey(contents, scratch, False, levels)
        if (found := levels_of(survey.values)) == levels:
            return survey, levels
        levels = found


def _check_readable(survey: _Survey, data: Data) -> None:
    if survey.unreadable and data.on_corrupt == "error":
        named = listed([f"{image.name} ({image.reason})" for image in survey.unreadable])
        cures = "; ".join(dict.fromkeys(image.cure for image in survey.unreadable))
        rule = (
            f"must hold readable images only, and {len(survey.unreadable)} of {survey.total} are not: {named}; "
            f"{cures}, or set data.on_corrupt=skip to leave them out"
        )
        raise ConfigError.single("data.source", data.source, rule)
    if survey.deep_color and max(survey.deep_color) < _DARKEST:
        rule = (
            f"has color images of 16 bits whose values end at {256 * max(survey.deep_color) + 255:,} of 65,535: they "
            "would be nearly black; convert them (`magick mogrify -normalize -depth 8 -format png FILE`)"
        )
        raise ConfigError.single("data.source", data.source, rule)


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


def build(contents: Contents, data: Data, directory: Path) -> Built:
    """Write train.arrow, val.arrow and test.arrow of a source into an empty `directory`.

    Raises:
        ConfigError: unreadable images (all named, unless `data.on_corrupt` is "skip"), classes too small to be split,
            or too little disk space.
        OSError: if `directory` can't be written.
    """
    scratch = directory / "scratch"
    survey, levels = _survey_all(contents, scratch)
    _check_readable(survey, data)
    splits = split_rows(survey.labels, survey.digests, survey.own, survey.declared, contents.class_names, data)
    labels = np.array(survey.labels, dtype=np.int64)
    size = next(iter(survey.sizes))
    for split in SPLITS:
        path, rows = directory / f"{split}.arrow", splits[split]
        if survey.as_pixels:
            write_pixels(path, labels[rows], size, survey.stored(rows))
        else:
            write_encoded(path, labels[rows], survey.stored(rows))
    scratch.unlink()

    moments = np.sum([survey.moments[row] for row in splits["train"].tolist()], axis=0)
    values = len(splits["train"]) * (size[0] * size[1] if survey.as_pixels else LARGEST_PIXELS**2)
    mean = moments[:3] / values / 255
    # A constant channel has no deviation; one gray level keeps the division by it finite.
    std = np.maximum(np.sqrt(np.maximum(moments[3:] / values / 255**2 - mean**2, 0)), 1 / 255)
    alike = len(survey.sizes) == 1 and max(size) <= LARGEST_NATIVE
    skipped = tuple(image.name for image in survey.unreadable)
    images = sizes_and_modes(survey.sizes, survey.kinds, survey.notes, levels)
    if skipped:
        images.append(f"unreadable and left out: {len(skipped)} ({listed(skipped, 3)})")
    return Built(
        fingerprint=_fingerprint(contents, survey, splits, skipped, levels),
        mean=(float(mean[0]), float(mean[1]), float(mean[2])),
        std=(float(std[0]), float(std[1]), float(std[2])),
        encoded=not survey.as_pixels,
        image_size=size if alike else None,
        counts={split: len(rows) for split, rows in splits.items()},
        skipped=skipped,
        description=describe(contents, data, labels, splits, survey.declared, images),
    )


def _fingerprint(
    contents: Contents, survey: _Survey, splits: dict[Split, NDArray[np.int64]], skipped: tuple[str, ...],
    levels: Levels | None,
) -> str:  # fmt: skip
    named: list[object] = [FORMAT, contents.class_names, skipped]
    if survey.converted:  # the digests are of the files as they came
        named.append(["converted", CONVERSION, levels])
    content = hashlib.sha256(json.dumps(named).encode())
    for split, rows in splits.items():
        content.update(f"{split} {len(rows)}\n".encode())
        for row in rows.tolist():
            content.update(f"{survey.labels[row]} ".encode() + survey.digests[row])
    return content.hexdigest()[:32]
