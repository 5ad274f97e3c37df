"""Which row goes to which split, and in which order it is stored.

Rows are ranked by a keyed hash of their content, so that the split depends on the images and the seed alone: not on a
library's random stream, the number of threads, or the place of a file. Rows of one group (near-identical images, or
those of a patient) stay together; the splits are as stratified as their groups allow.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence

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
    groups: Sequence[Hashable] | None = None,
) -> dict[Split, NDArray[np.int64]]:
    """Row numbers of each split in stored order.

    Splits that the source has stay as they are (`own` per row; `declared`: all it has). A missing test split, then a
    missing validation split, takes its fraction of each class of train, at least one row and never the last one. With
    `data.folds`, one fold of all that is not test becomes the validation split, and the others train.

    The rows of a group (`groups` names that of each row) are not divided: they go to the first split that is nearer to
    its share of each class with them than without. Those of which the source has a part in another split stay in train,
    if enough are left. Without groups, folds keep identical images of a class together.

    Raises:
        ConfigError: naming the classes with too few images, or too few groups.
    """
    ranks = _ranks(str(data.split_seed), digests)
    ranked = sorted(range(len(labels)), key=lambda row: (ranks[row], row))
    wanted: list[tuple[Split, float]] = [("test", data.test_fraction), ("val", data.val_fraction)]
    wanted = [(split, fraction) for split, fraction in wanted if split not in declared]
    train = [row for row in ranked if own[row] == "train"]
    _check_enough(Counter(labels[row] for row in train), {own[row] for row in ranked}, declared, class_names, data)

    named = groups or range(len(labels))
    elsewhere = {named[row] for row in ranked if own[row] != "train"}
    free = [row for row in train if named[row] not in elsewhere]
    enough = Counter(labels[unit[0]] for unit in _units(free, named))
    units = _units(free if all(enough[c] > len(wanted) for c in range(len(class_names))) else train, named)
    home = _shared_out([Counter(labels[row] for row in unit) for unit in units], wanted, len(class_names))
    splits = list(own)
    for unit, split in zip(units, home, strict=True):
        for row in unit:
            splits[row] = split
    members: dict[Split, list[list[int]]] = {split: [[] for _ in class_names] for split in SPLITS}
    for row in ranked:
        members[splits[row]][labels[row]].append(row)
    if groups is not None:
        _check_groups(units, labels, members, [split for split, _ in wanted], class_names, data)
    if data.folds is not None:
        pooled = [row for split in ("train", "val") for rows in members[split] for row in rows]
        keys = groups or list(zip(labels, digests, strict=True))
        members["train"], members["val"] = _fold(pooled, labels, digests, keys, class_names, data, data.folds)
    return {split: _interleave(members[split]) for split in SPLITS}


def _check_enough(
    free: Mapping[int, int], splits: Collection[Split], declared: Collection[Split], class_names: Sequence[str],
    data: Data,
) -> None:  # fmt: skip
    """Refuse classes too small to be split; `free` holds the images of each class that may go anywhere."""
    wanted = [split for split in ("val", "test") if split not in declared]
    few = [f"{name} ({free[c]})" for c, name in enumerate(class_names) if free[c] <= len(wanted)]
    problems = [
        Problem("data.source", data.source, f"must have readable images in its {split} split")
        for split in SPLITS
        if split in declared and split not in splits
    ]
    if few:
        rule = (
            f"must have at least {1 + len(wanted)} readable images a class for {' and '.join(['train', *wanted])}, too "
            f"few have {listed(few)}: add some or remove the class"
        )
        problems.append(Problem("data.source", data.source, rule))
    if problems:
        raise ConfigError(problems)


def _units(ranked: Iterable[int], groups: Sequence[Hashable]) -> list[list[int]]:
    """The rows of each group, in the order of the groups' first rows."""
    units: dict[Hashable, list[int]] = {}
    for row in ranked:
        units.setdefault(groups[row], []).append(row)
    return list(units.values())


def _shared_out(units: Sequence[Mapping[int, int]], wanted: Sequence[tuple[Split, float]], classes: int) -> list[Split]:
    """The split of each unit, which holds so many images of some classes: first come, first served.

    A unit is not taken from where it is the last that a class could have there.
    """
    total, left = Counter[int](), Counter[int]()
    for unit in units:
        total.update(unit)
        left.update(unit.keys())
    shares = {split: [0] * classes for split, _ in wanted}
    for label in range(classes):
        rest, spare = total[label], total[label] - 1 - len(wanted)
        for split, fraction in wanted:
            shares[split][label] = min(max(1, round(rest * fraction)), spare + 1)
            rest, spare = rest - shares[split][label], spare - (shares[split][label] - 1)
    have: dict[Split, list[int]] = {split: [0] * classes for split in (*shares, "train")}
    home = []
    for unit in units:
        left.subtract(unit.keys())
        spared = [s for s in have if all(left[c] >= sum(not have[o][c] for o in have if o != s) for c in unit)]
        nearer = [
            s for s in shares
            if sum(abs(have[s][c] + n - shares[s][c]) - abs(have[s][c] - shares[s][c]) for c, n in unit.items()) < 0
        ]  # fmt: skip
        split = next((s for s in nearer if s in spared), "train" if "train" in spared or not spared else spared[0])
        home.append(split)
        for label, count in unit.items():
            have[split][label] += count
    return home


def _check_groups(
    units: Sequence[Sequence[int]], labels: Sequence[int], members: Mapping[Split, Sequence[Sequence[int]]],
    wanted: Sequence[Split], class_names: Sequence[str], data: Data,
) -> None:  # fmt: skip
    lacking = [c for c in range(len(class_names)) if not all(members[split][c] for split in ("train", *wanted))]
    if lacking:
        counts = Counter(c for unit in units for c in {labels[row] for row in unit})
        few = [f"{class_names[c]} ({counts[c]})" for c in lacking]
        rule = (
            f"must give at least {1 + len(wanted)} groups a class for {' and '.join(['train', *reversed(wanted)])}, "
            f"too few have {listed(few)}: group by something finer, add images, or remove the class"
        )
        raise ConfigError.single("data.group_by", data.group_by, rule)


def _fold(
    pooled: Iterable[int], labels: Sequence[int], digests: Sequence[bytes], groups: Sequence[Hashable],
    class_names: Sequence[str], data: Data, folds: int,
) -> tuple[list[list[int]], list[list[int]]]:  # fmt: skip
    """The rows outside and inside fold number `data.fold`, by class.

    Large groups are given out first, class by class. Each goes where its classes have the fewest images so far, then
    where the fewest are: what scikit-learn's StratifiedGroupKFold does, without its random stream.
    """
    ranks = _ranks(f"{data.split_seed}:repeat:{data.repeat}", digests)
    units = _units(sorted(pooled, key=lambda row: (ranks[row], row)), groups)
    contents = [Counter(labels[row] for row in unit) for unit in units]
    _check_folds(contents, class_names, data, folds)
    count = [Counter[int]() for _ in range(folds)]
    order = sorted(range(len(units)), key=lambda number: (min(contents[number]), -len(units[number])))
    home = [0] * len(units)
    for number in order:
        unit = contents[number]
        fewest = [(sum(count[fold][c] for c in unit), count[fold].total(), fold) for fold in range(folds)]
        home[number] = min(fewest)[2]
        count[home[number]].update(unit)
    outside: list[list[int]] = [[] for _ in class_names]
    inside: list[list[int]] = [[] for _ in class_names]
    for rows, fold in zip(units, home, strict=True):
        for row in rows:
            (inside if fold == data.fold else outside)[labels[row]].append(row)
    if alone := [name for c, name in enumerate(class_names) if sum(fold[c] > 0 for fold in count) < 2]:
        rule = f"must leave images of every class to train on, and one fold has all of {listed(alone)}"
        raise ConfigError.single("data.group_by", data.group_by, rule)
    return outside, inside


def _check_folds(units: Sequence[Mapping[int, int]], class_names: Sequence[str], data: Data, folds: int) -> None:
    counts = Counter(c for unit in units for c in unit)
    few = [f"{name} ({counts[c]})" for c, name in enumerate(class_names) if counts[c] < 2]
    what = "different images" if data.group_by is None else "groups (data.group_by)"
    if few:  # such a class would be missing where its only image validates
        rule = (
            f"must have at least 2 {what} a class that are not test for cross-validation, too few have "
            f"{listed(few)}: add some or remove the class"
        )
        raise ConfigError.single("data.source", data.source, rule)
    if len(units) < folds:
        rule = f"must be at most the {len(units)} {what} that are not test"
        raise ConfigError.single("data.folds", str(folds), rule)
