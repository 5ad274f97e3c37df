"""The same picture twice: across splits, where it makes validation lie, within one, and under two labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.check import Check
from trainables.data.likeness import groups, near_pairs
from trainables.data.source import SPLITS
from trainables.inspection.finding import Example, Finding, percent
from trainables.inspection.images import Scanned

__all__ = ["Twins", "duplicates", "superfluous", "twins"]

_MANY = 0.01  # share of a split from which copies are a problem, and copies inside one a warning

_REVERSED = SPLITS[::-1]


@dataclass(frozen=True)
class Twins:
    """Pairs of images that are the same picture.

    Attributes:
        first, second: int64 [m], by number.
        exact: bool [m], whether the files are the same byte for byte.
        mirrored: bool [m], whether one is the other's mirror image.
        similarity: float64 [m], as `trainables.data.likeness.Pair`.
        group: int64 [n], for each image the lowest number of those that are joined with it.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    exact: NDArray[np.bool_]
    mirrored: NDArray[np.bool_]
    similarity: NDArray[np.float64]
    group: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first)


def twins(images: Scanned) -> Twins:
    """All pairs of images that are identical or near-identical, upright or mirrored, whatever their splits."""
    found = {
        (first, second): (False, mirrored, similarity)
        for first, second, similarity, mirrored in near_pairs(images.likeness)
    }
    seen: dict[bytes, int] = {}
    for number, digest in enumerate(images.digests):
        if (before := seen.setdefault(digest, number)) != number:
            found[before, number] = (True, False, 1.0)
    for first, second in found:
        if images.digests[first] == images.digests[second]:
            found[first, second] = (True, False, 1.0)
    pairs = sorted(found)
    columns = np.array(pairs, np.int64).reshape(-1, 2)
    exact, mirrored, similarity = zip(*(found[pair] for pair in pairs), strict=True) if pairs else ((), (), ())
    return Twins(
        columns[:, 0], columns[:, 1], np.array(exact, bool), np.array(mirrored, bool), np.array(similarity, float),
        groups(len(images), pairs),
    )  # fmt: skip


def duplicates(images: Scanned, found: Twins) -> list[Finding]:
    """What twins mean: leaks between splits, copies inside them, and contradictory labels."""
    return [_across(images, found), _within(images, found), _conflicts(images, found)]


def _across(images: Scanned, found: Twins) -> Finding:
    there = [split for split in SPLITS if len(images.of(split))]
    name = "duplicates across splits"
    if len(there) < 2:
        return Finding(Check(name, "ok", "the source has no splits of its own; of those that are made of it, see leak"))
    told, worst = [], 0.0
    details: dict[str, Any] = {}
    across = images.splits[found.first] != images.splits[found.second]
    for later, split in enumerate(there[1:], start=1):
        rows = images.of(split)
        before = np.flatnonzero(np.isin(images.splits, there[:later]))
        leaked = rows[np.isin(found.group[rows], found.group[before])]
        known = {images.digests[number] for number in before.tolist()}
        exact = sum(images.digests[number] in known for number in leaked.tolist())
        details[split] = {"images": len(rows), "in_an_earlier_split": len(leaked), "byte_for_byte": exact}
        worst = max(worst, len(leaked) / len(rows))
        if len(leaked):
            told.append(
                f"{len(leaked):,} of {len(rows):,} {split} images ({percent(len(leaked) / len(rows))}) are in "
                f"{' or '.join(there[:later])} too, {exact:,} of them byte for byte"
            )
    if not told:
        return Finding(Check(name, "ok", f"no image of {' and '.join(there[1:])} is in another split"), (), details)
    step = "leave the copies out: --fix FILE writes a list of them, which data.exclude=FILE reads"
    check = Check(name, "problem" if worst >= _MANY else "warning", "; ".join(told), step)
    return Finding(check, _examples(images, found, across), {**details, "pairs": _listed(images, found, across)})


def _within(images: Scanned, found: Twins) -> Finding:
    inside = images.splits[found.first] == images.splits[found.second]
    name = "duplicates within splits"
    told, worst = [], 0.0
    details: dict[str, Any] = {}
    for split in SPLITS:
        rows = images.of(split)
        here = inside & (images.splits[found.first] == split)
        joined = groups(len(images), list(zip(found.first[here].tolist(), found.second[here].tolist(), strict=True)))
        copies = len(rows) - len(np.unique(joined[rows]))
        details[split] = {"images": len(rows), "copies": copies}
        if copies:
            worst = max(worst, copies / len(rows))
            told.append(f"{copies:,} of {len(rows):,} {split} images are copies of others")
    if not told:
        return Finding(Check(name, "ok", "no image is there twice in one split"), (), details)
    examples, pairs = _examples(images, found, inside), _listed(images, found, inside)
    many = worst >= _MANY
    step = "leave the copies out: --fix FILE writes a list of them, which data.exclude=FILE reads" if many else None
    check = Check(name, "warning" if many else "ok", "; ".join(told), step)
    return Finding(check, examples, {**details, "pairs": pairs})


def _conflicts(images: Scanned, found: Twins) -> Finding:
    other = images.labels[found.first] != images.labels[found.second]
    name = "contradictory labels"
    if not other.any():
        return Finding(Check(name, "ok", "images that are the same have the same label"))
    affected = len(np.unique(np.concatenate([found.first[other], found.second[other]])))
    exact = int(found.exact[other].sum())
    said = (
        f"{affected:,} images ({percent(affected / len(images))}) have the same picture under another label, in "
        f"{int(other.sum()):,} pairs, {exact:,} of them byte for byte"
    )
    if mirrored := int(found.mirrored[other].sum()):
        said += f" and {mirrored:,} mirrored (which is right where left and right are different classes)"
    step = "look at them on the page and correct the labels, or leave them out (--fix FILE, then data.exclude=FILE)"
    check = Check(name, "problem" if affected >= _MANY * len(images) else "warning", said, step)
    return Finding(check, _examples(images, found, other), {"pairs": _listed(images, found, other)})


def _examples(images: Scanned, found: Twins, which: NDArray[np.bool_]) -> tuple[Example, ...]:
    """Pairs, the least alike first: they are the ones to look at."""
    rows = np.flatnonzero(which)
    order = rows[np.lexsort((found.similarity[rows], found.exact[rows]))]
    return tuple(
        Example((a, b), f"{_how(found, i)}: {_where(images, a)} and {_where(images, b)}")
        for i, a, b in zip(order.tolist(), found.first[order].tolist(), found.second[order].tolist(), strict=True)
    )


def _how(found: Twins, i: int) -> str:
    if found.exact[i]:
        return "the same file"
    return "mirrored" if found.mirrored[i] else "near-identical"


def _where(images: Scanned, number: int) -> str:
    return f"{images.splits[number]} {images.class_names[images.labels[number]]}"


def _listed(images: Scanned, found: Twins, which: NDArray[np.bool_]) -> list[dict[str, object]]:
    return [
        {
            "first": images.names[found.first[i]],
            "second": images.names[found.second[i]],
            "how": _how(found, i),
            "similarity": round(float(found.similarity[i]), 4),
        }
        for i in np.flatnonzero(which).tolist()
    ]


def superfluous(images: Scanned, found: Twins) -> tuple[list[int], list[int]]:
    """Which images to leave out so that no picture is there twice: copies, and those whose labels contradict.

    Of copies the one stays that is furthest from training (test, then val, then train), and there the first. Of a
    group with several labels none stays: which one is right nobody can tell. Mirror images of different labels are no
    copies: they may be a left and a right hand.
    """
    alike = ~(found.mirrored & (images.labels[found.first] != images.labels[found.second]))
    pairs = list(zip(found.first[alike].tolist(), found.second[alike].tolist(), strict=True))
    members: dict[int, list[int]] = {}
    for number, group in enumerate(groups(len(images), pairs).tolist()):
        members.setdefault(group, []).append(number)
    copies: list[int] = []
    contradictory: list[int] = []
    for numbers in members.values():
        if len(set(images.labels[numbers].tolist())) > 1:
            contradictory += numbers
        else:
            stays = min(numbers, key=lambda number: (_REVERSED.index(images.splits[number]), number))
            copies += [number for number in numbers if number != stays]
    return copies, contradictory
