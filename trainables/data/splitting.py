"""Which row goes to which split, and in which order it is stored.

Rows are ranked by a keyed hash of their content, so that the split depends on the images and the seed alone: not on a
library's random stream, the number of threads, or the place of a file. Identical images of a class rank side by side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from trainables.config import ConfigError, Data, Problem
from trainables.data.source import SPLITS, Split, listed

__all__ = ["split_rows"]


def _interleave(classes: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """All rows in an order whose every prefix is stratified, so that capping a split is cutting it short.

    Each class holds its share of a prefix to within as many rows as there are classes, and a prefix at least that long
    holds every class.
    """
    places = [(i / len(rows), c, row) for c, rows in enumerate(classes) for i, row in enumerate(rows)]
    return np.array([row for _, _, row in sorted(places)], dtype=np.int64)


def split_rows(
    labels: Sequence[int],
    digests: Sequence[bytes],
    own: Sequence[Split],
    declared: Collection[Split],
    class_names: Sequence[str],
    data: Data,
) -> dict[Split, NDArray[np.int64]]:
    """Row numbers of each split in stored order.

    Splits that the source has stay as they are (`own` per row; `declared`: all it has). A missing test split, then a
    missing validation split, takes its fraction of each class of train, at least one row and never the last one.

    Raises:
        ConfigError: naming the classes with too few images.
    """
    ranks = [hashlib.blake2b(f"{data.split_seed}:".encode() + d, digest_size=16).digest() for d in digests]
    members: dict[Split, list[list[int]]] = {split: [[] for _ in class_names] for split in SPLITS}
    for row in sorted(range(len(labels)), key=lambda row: (ranks[row], row)):
        members[own[row]][labels[row]].append(row)
    wanted: list[tuple[Split, float]] = [("test", data.test_fraction), ("val", data.val_fraction)]
    wanted = [(split, fraction) for split, fraction in wanted if split not in declared]

    needed = 1 + len(wanted)
    few = [f"{n} ({len(rows)})" for n, rows in zip(class_names, members["train"], strict=True) if len(rows) < needed]
    problems = [
        Problem("data.source", data.source, f"must have readable images in its {split} split")
        for split in SPLITS
        if split in declared and not any(members[split])
    ]
    if few:
        splits = " and ".join(["train", *(split for split, _ in reversed(wanted))])
        rule = (
            f"must have at least {needed} readable images a class for {splits}, too few have {listed(few)}: "
            "add some or remove the class"
        )
        problems.append(Problem("data.source", data.source, rule))
    if problems:
        raise ConfigError(problems)

    for label, rows in enumerate(members["train"]):
        rest, spare = rows, len(rows) - needed
        for split, fraction in wanted:
            take = min(max(1, round(len(rest) * fraction)), spare + 1)
            members[split][label], rest, spare = rest[:take], rest[take:], spare - (take - 1)
        members["train"][label] = rest
    return {split: _interleave(members[split]) for split in SPLITS}
