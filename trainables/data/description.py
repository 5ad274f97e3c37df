"""What the data are, in three lines that a search prints, records and shows: classes, splits, images."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trainables.config import Data
from trainables.config.problems import printable
from trainables.data.source import SPLITS, Contents, Split, listed

__all__ = ["describe", "sizes_and_modes", "val_is_taken_from_train"]

_MOST_CLASSES = 8


def describe(
    contents: Contents, data: Data, labels: NDArray[np.int64], splits: Mapping[Split, NDArray[np.int64]],
    declared: Collection[Split], images: Sequence[str],
) -> tuple[str, str, str]:  # fmt: skip
    """The three lines; the first goes behind the source's name. `images` is what the third says of sizes and modes."""
    counts = {split: np.bincount(labels[rows], minlength=len(contents.class_names)) for split, rows in splits.items()}
    third = "; ".join([*images, *contents.notes, f"left out: {listed(contents.left_out, 8) or 'none'}"])
    own = [_split(split, contents, data, counts[split], declared) for split in SPLITS]
    first = _classes(contents.class_names, np.bincount(labels, minlength=len(contents.class_names)))
    return printable(first), printable(f"splits: {', '.join(own)}"), printable(f"images: {third}")


def val_is_taken_from_train(lines: Iterable[str]) -> bool:
    """Whether validation images are a fraction of the source's others, by what `describe` says of it."""
    return any(line.startswith("splits: ") and re.search(r"\bval [\d,]+ \(\S+ % of ", line) for line in lines)


def _classes(names: Sequence[str], total: NDArray[np.int64]) -> str:
    named = listed([f"{name} ({count:,})" for name, count in zip(names, total.tolist(), strict=True)], _MOST_CLASSES)
    if total.min() == total.max():
        return f"{len(names):,} classes of {total.min():,} images: {named}"
    rarest = int(total.argmin())
    return f"{len(names):,} classes: {named}; rarest: {names[rarest]} ({total[rarest]:,})"


def _split(split: Split, contents: Contents, data: Data, counts: NDArray[np.int64], declared: Collection[Split]) -> str:
    if split != "test" and data.folds is not None:
        origin = _fold(split, data, declared)
    elif split == "train" or split in declared:
        origin = contents.origins.get(
            split, "the rest" if split == "train" and not declared else "as the source has it"
        )
    else:
        fraction = data.val_fraction if split == "val" else data.test_fraction
        share = "the rest" if split == "val" and "test" not in declared else "all" if not declared else "train"
        origin = f"{100 * fraction:g} % of {share}"
        if split in contents.origins:
            origin += f", as {contents.origins[split]} holds no images"
    missing = [name for name, count in zip(contents.class_names, counts.tolist(), strict=True) if not count]
    lacking = f", none of {listed(missing, 3)}" if missing else ""
    return f"{split} {counts.sum():,} ({origin}{lacking})"


def _fold(split: Split, data: Data, declared: Collection[Split]) -> str:
    if split == "train":
        return "the other folds"
    pooled = " of train and val" if "val" in declared else ""
    repeat = f", repeat {data.repeat + 1}" if data.repeat else ""
    return f"fold {data.fold + 1} of {data.folds}{pooled}{repeat}"


def sizes_and_modes(
    sizes: Collection[tuple[int, int]],
    kinds: Counter[tuple[str, str]],
    notes: Counter[str],
    levels: Sequence[float] | None,
) -> list[str]:
    """Sizes as width x height, how many images of each format and mode, and what was done to some of them."""
    heights, widths = zip(*sizes, strict=True)
    small, large = (f"{f(widths)} x {f(heights)}" for f in (min, max))
    text = [f"{small} pixels" if len(sizes) == 1 else f"{small} to {large} pixels ({len(sizes):,} sizes)"]
    text.append(listed([f"{count:,} {' '.join(kind).strip()}" for kind, count in kinds.most_common()], 6))
    if levels is not None:
        black, white = levels
        text.append(f"gray from {black:,.6g} to {white:,.6g} scaled to 0..255, the same for all images")
    return text + [f"{count:,} {note}" for note, count in notes.most_common()]
