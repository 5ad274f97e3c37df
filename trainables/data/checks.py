"""What is wrong with data as they are split: leaks, conflicting labels, rare classes, few images to validate on.

Found whenever data are prepared, from what the one pass over the images has seen of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trainables.check import Check
from trainables.config import ConfigError, Data
from trainables.config.problems import printable
from trainables.data.likeness import groups, near_pairs
from trainables.data.source import Contents, Split, listed
from trainables.data.survey import Survey

__all__ = ["Twins", "check_data", "refuse_copies", "twins_of"]

_COPY = 0.9  # share of a split's images that training has, from which on the split is refused
_SERIOUS_LEAK, _SERIOUS_CONFLICT = 0.05, 0.01  # shares from which on a result means little
_IMBALANCE, _FEW = 3, 20
_SHOWN = 2

_Rows = Mapping[Split, NDArray[np.int64]]


@dataclass(frozen=True)
class Twins:
    """Identical and near-identical images: `pairs` of rows [n, 2], and the `group` of each row that these join."""

    pairs: NDArray[np.int64]
    group: NDArray[np.int64]


def twins_of(found: Survey) -> Twins:
    """The images that are the same: byte by byte, or as `trainables.data.likeness` sees it."""
    near = [(pair.first, pair.second) for pair in near_pairs(found.likeness)]
    order = sorted(range(len(found.digests)), key=lambda row: (found.digests[row], found.labels[row]))
    same = [(min(a, b), max(a, b)) for a, b in pairwise(order) if found.digests[a] == found.digests[b]]
    pairs = sorted({*same, *near})
    return Twins(np.array(pairs, np.int64).reshape(-1, 2), groups(len(found.labels), pairs))


def refuse_copies(found: Survey, twins: Twins, contents: Contents, data: Data) -> None:
    """Refuse a validation or test split of the source that is a copy of its training split, or of a part of it.

    Raises:
        ConfigError: naming the split and an example.
    """
    own = {split: np.flatnonzero([row == split for row in found.own]) for split in ("train", "val", "test")}
    for split in ("val", "test"):
        across = _across(twins, own[split], own["train"])
        copied = len(np.unique(across[:, 0]))  # not through others: generated images may form a chain
        if copied < _COPY * len(own[split]) or not copied or (split == "val" and data.folds is not None):
            continue
        where = {name: contents.origins.get(name, name) for name in (split, "train")}
        rule = (
            f"must have other images in its {split} split ({where[split]}) than in training ({where['train']}), and "
            f"{copied:,} of its {len(own[split]):,} images are (nearly) the same: {_examples(found, across)}; remove "
            f"{where[split]} (a part of train is then set aside), or replace its images"
        )
        raise ConfigError.single("data.source", data.source, rule)


def check_data(found: Survey, twins: Twins, contents: Contents, splits: _Rows, data: Data) -> tuple[Check, ...]:
    """All checks of the data as they are split."""
    return (
        *_leaks(found, twins, splits, data), *_shared_groups(found, splits, data),
        _conflict(found, twins, contents, data), _balance(found, contents, splits),
        _validation(found, contents, splits, data), _compared(found, twins),
    )  # fmt: skip


def _shared(held_out: NDArray[np.int64], train: NDArray[np.int64], twins: Twins) -> NDArray[np.int64]:
    """The held-out rows of which training has an (almost) identical one."""
    return held_out[np.isin(twins.group[held_out], twins.group[train])]


def _across(twins: Twins, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """The pairs between two splits, the row of the first one first."""
    pairs = np.concatenate([twins.pairs, twins.pairs[:, ::-1]])
    return pairs[np.isin(pairs[:, 0], one) & np.isin(pairs[:, 1], other)]


def _examples(found: Survey, pairs: NDArray[np.int64], classes: Sequence[str] = ()) -> str:
    def name(row: int) -> str:
        return found.names[row] + (f" [{classes[found.labels[row]]}]" if classes else "")

    shown = [f"{name(a)} = {name(b)}" for a, b in pairs[:_SHOWN].tolist()]
    return printable(", ".join(shown))


def _leaks(found: Survey, twins: Twins, splits: _Rows, data: Data) -> Iterator[Check]:
    clean = True
    for split in ("val", "test"):
        others = [other for other in splits if other != split and len(_shared(splits[split], splits[other], twins))]
        if not others:
            continue
        clean, rows = False, np.concatenate([splits[other] for other in others])
        shared, total = len(_shared(splits[split], rows, twins)), len(splits[split])
        evidence = (
            f"{shared:,} of {total:,} {split} images ({100 * shared / total:.2g} %) are (nearly) identical to images "
            f"of {' and '.join(others)}: {_examples(found, _across(twins, splits[split], rows))}"
        )
        if found.declared:
            step = f"leave them out: `python -m trainables.inspect {data.source} --fix FILE`, then data.exclude=FILE"
        else:
            step = "group images that belong together with data.group_by, or add images: they could not be kept apart"
        yield Check("leak", "problem" if shared >= _SERIOUS_LEAK * total else "warning", evidence, step)
    if clean:
        yield Check("leak", "ok", "no image of one split is found in another one")


def _shared_groups(found: Survey, splits: _Rows, data: Data) -> Iterator[Check]:
    if data.group_by is None:
        return
    members = {split: {found.groups[row] or "" for row in rows.tolist()} for split, rows in splits.items()}
    for split in ("val", "test"):
        both = sorted(members["train"] & members[split])
        if both:
            evidence = (
                f"{len(both):,} of the {len(members[split]):,} groups in {split} are in train too, as the source has "
                f"them: {printable(listed(both, _SHOWN))}"
            )
            step = "put all images into one folder or file without splits: data.group_by then keeps groups together"
            yield Check("groups", "problem", evidence, step)


def _conflict(found: Survey, twins: Twins, contents: Contents, data: Data) -> Check:
    labels = np.array(found.labels)
    pairs = twins.pairs[labels[twins.pairs[:, 0]] != labels[twins.pairs[:, 1]]]
    if not len(pairs):
        return Check("labels", "ok", "no two (nearly) identical images have different labels")
    count = len(np.unique(pairs))
    evidence = (
        f"{count:,} images have a (nearly) identical one with another label: "
        f"{_examples(found, pairs, contents.class_names)}"
    )
    serious = count >= _SERIOUS_CONFLICT * len(labels)
    step = (
        f"look at them: `python -m trainables.inspect {data.source}`; correct them, or leave them out by data.exclude"
    )
    return Check("labels", "problem" if serious else "warning", evidence, step)


def _balance(found: Survey, contents: Contents, splits: _Rows) -> Check:
    counts = np.bincount(np.array(found.labels)[splits["train"]], minlength=len(contents.class_names))
    most, least = int(counts.argmax()), int(counts.argmin())
    ratio = counts[most] / max(counts[least], 1)
    evidence = (
        f"{contents.class_names[most]} has {counts[most]:,} training images, {contents.class_names[least]} "
        f"{counts[least]:,}: {ratio:.1f} times as many"
    )
    if ratio <= _IMBALANCE:
        return Check("classes", "ok", printable(evidence))
    step = (
        "try `imbalance: class_weights` or `balanced_sampling` under `regularization:`, and look at each class's recall"
    )
    return Check("classes", "warning", printable(evidence), step)


def _validation(found: Survey, contents: Contents, splits: _Rows, data: Data) -> Check:
    if data.folds is not None:
        return Check("validation", "ok", f"every image validates in one of {data.folds} folds")
    counts = Counter(np.array(found.labels)[splits["val"]].tolist())
    few = [f"{name} ({counts[c]})" for c, name in enumerate(contents.class_names) if counts[c] < _FEW]
    if not few:
        return Check("validation", "ok", f"every class has at least {min(counts.values()):,} validation images")
    evidence = (
        f"{len(few):,} of {len(contents.class_names):,} classes have fewer than {_FEW} validation images: "
        f"{printable(listed(few, 8))}"
    )
    more = (
        "add validation images"
        if "val" in found.declared
        else "validate on more with `val_fraction: 0.2` under `data:`"
    )
    return Check("validation", "warning", evidence, f"{more}, or on all of them in turn with `folds: 5` there")


def _compared(found: Survey, twins: Twins) -> Check:
    untold = int(np.sum(~found.likeness.any(axis=1)))
    if untold:
        evidence = f"{untold:,} images are too small or too blank to tell: of these, only identical files can be found"
        return Check("near-duplicates", "unknown", evidence)
    # What is wrong with them, if anything, is told by the checks of leaks and labels.
    alike = len(np.unique(twins.pairs))
    evidence = f"{alike:,} of {len(found.labels):,} images have a (nearly) identical one"
    return Check("near-duplicates", "ok", evidence)
