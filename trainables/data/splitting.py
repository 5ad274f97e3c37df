"""Which row goes to which split, and in which order it is stored.

Rows are ranked by a keyed hash of their content, so that the split depends on the images and the seed alone: not on a
library's random stream, the number of threads, or the place of a file. Identical images of a class rank side by side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from itertools import groupby

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


def _ranks(key: str, digests: Sequence[bytes]) -> list[bytes]:
    return [hashlib.blake2b(f"{key}:".encode() + digest, digest_size=16).digest() for digest in digests]


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
    missing validation split, takes its fraction of each class of train, at least one row and never the last one. With
    `data.folds`, one fold of all that is not test becomes the validation split, and the others train.

    Raises:
        ConfigError: naming the classes with too few images.
    """
    ranks = _ranks(str(data.split_seed), digests)
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
    if data.folds is not None:
        pooled = [train + val for train, val in zip(members["train"], members["val"], strict=True)]
        members["train"], members["val"] = _fold(pooled, digests, class_names, data, data.folds)
    return {split: _interleave(members[split]) for split in SPLITS}


def _fold(
    pooled: Iterable[Sequence[int]], digests: Sequence[bytes], class_names: Sequence[str], data: Data, folds: int
) -> tuple[list[list[int]], list[list[int]]]:
    """The rows outside and inside fold number `data.fold`, by class.

    Identical images of a class are in one fold, and each goes where the class has the fewest so far, then where the
    fewest images are: what scikit-learn's StratifiedGroupKFold does, without its random stream.
    """
    ranks = _ranks(f"{data.split_seed}:repeat:{data.repeat}", digests)
    classes = [
        [list(same) for _, same in groupby(sorted(rows, key=lambda row: (ranks[row], row)), key=digests.__getitem__)]
        for rows in pooled
    ]
    _check_folds(classes, class_names, data, folds)
    outside: list[list[int]] = [[] for _ in classes]
    inside: list[list[int]] = [[] for _ in classes]
    total = [0] * folds
    for label, images in enumerate(classes):
        count = [0] * folds
        for rows in images:
            fold = min(range(folds), key=lambda fold: (count[fold], total[fold], fold))
            count[fold] += len(rows)
            total[fold] += len(rows)
            (inside if fold == data.fold else outside)[label] += rows
    return outside, inside


def _check_folds(
    classes: Sequence[Sequence[Sequence[int]]], class_names: Sequence[str], data: Data, folds: int
) -> None:
    few = [f"{n} ({len(images)})" for n, images in zip(class_names, classes, strict=True) if len(images) < 2]
    if few:  # such a class would be missing where its only image validates
        rule = (
            "must have at least 2 different images a class that are not test for cross-validation, too few have "
            f"{listed(few)}: add some or remove the class"
        )
        raise ConfigError.single("data.source", data.source, rule)
    if (images := sum(map(len, classes))) < folds:
        rule = f"must be at most the {images} different images that are not test"
        raise ConfigError.single("data.folds", str(folds), rule)
