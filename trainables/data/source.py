"""What every source of images yields, and the checks that hold for all of them. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from trainables.config import ConfigError, Problem

__all__ = ["SPLITS", "Contents", "Row", "Source", "Split", "check_classes", "listed"]

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Row:
    """One image: an encoded file (its bytes, or where they are) or uint8 pixels [3, h, w].

    `split` is the source's own; a source without splits calls everything `train`. `name` is what messages and
    `data.exclude` call the image. Images of one `group` must not be split: those of a patient, a camera, a video.
    """

    split: Split
    label: int
    name: str
    image: bytes | Path | NDArray[np.uint8]
    group: str | None = None


@dataclass(frozen=True)
class Contents:
    """A source whose labels have been checked; `rows` reads the images anew, in the same order, at each call.

    `count` is the number of rows, `nbytes` roughly the bytes of the encoded images. A reader is told `origins`, where
    each split of the source comes from; `notes`, how it was understood; and `left_out`, what was not read. `grouped`
    says that each row has its group; `repeated`, that rows stand in several splits on purpose, which are not compared.
    """

    class_names: tuple[str, ...]
    rows: Callable[[], Iterator[Row]]
    count: int
    nbytes: int
    origins: Mapping[Split, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    grouped: bool = False
    repeated: bool = False


class Source(Protocol):
    """A place images come from; making one checks that the place exists, cheaply."""

    def signature(self) -> Any:
        """JSON data that changes when the content does: paths, sizes and times of modification. Reads no image."""
        ...

    def contents(self, downloads: Path) -> Contents:
        """Read and check classes and labels; what has to be fetched is stored in `downloads`.

        Raises:
            ConfigError: if labels or classes can't be used, or a download fails.
        """
        ...


def listed(items: Sequence[str], most: int = 5) -> str:
    """The first few items, and how many more there are."""
    more = len(items) - most
    return ", ".join(items[:most]) + (f" and {more} more" if more > 0 else "")


def check_classes(source: str, class_names: Sequence[str], counts: Mapping[Split, Sequence[int]]) -> None:
    """Refuse class sets that can't be learned; `counts` holds the images of each class in each split there is.

    Raises:
        ConfigError: one class only, no training images at all, or classes without any.
    """
    train = counts.get("train", [0] * len(class_names))
    if not sum(train):
        raise ConfigError.single("data.source", source, "must hold training images, and has none")
    problems = []
    if len(class_names) < 2:
        problems.append(
            Problem("data.source", source, f"must hold at least 2 classes, and has only {listed(class_names)!r}")
        )
    for split in ("val", "test"):
        unseen = [
            name for name, n, known in zip(class_names, counts.get(split, ()), train, strict=False) if n and not known
        ]
        if unseen:
            rule = f"must have training images of every class in its {split} split, and has none of {listed(unseen)}"
            problems.append(Problem("data.source", source, rule))
    if not problems:
        empty = [name for name, n in zip(class_names, train, strict=True) if not n]
        if empty:
            rule = f"must have training images of every class: add some of {listed(empty)}, or remove the class"
            problems.append(Problem("data.source", source, rule))
    if problems:
        raise ConfigError(problems)
