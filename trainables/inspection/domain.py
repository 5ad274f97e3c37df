"""Do two splits look as if they came from the same place? Where a classifier tells them apart they do not.

A two-sample test by a classifier (Lopez-Paz and Oquab 2017, arXiv:1610.06545): a logistic regression on simple
statistics of the images learns to tell the splits apart, and its cross-validated area under the ROC curve (AUC) is .5
where it can't. What differs is found by undoing it: the change of one split's pixels that brings the AUC nearest to .5
is named, and what is left is looked at again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trainables.check import Check
from trainables.inspection.finding import Example, Finding
from trainables.inspection.images import Pixels, Scanned

__all__ = ["ANOTHER_DOMAIN", "Difference", "compare", "domain", "same_classes"]

ANOTHER_DOMAIN = 0.6  # AUC above which two splits are not of one domain
_FEWEST = 20  # images of either side
_MOST = 2000  # images of either side that are looked at
_FOLDS = 5
_MOST_NAMED = 3
_MOST_LEFT = 0.75  # of the distance between both sides, where a change is to be named


@dataclass(frozen=True)
class Difference:
    """How well a classifier tells two splits apart.

    Attributes:
        auc: cross-validated area under the ROC curve, .5 where they are alike.
        error: its standard error (Hanley and McNeil 1982).
        images: how many of each side were looked at.
        causes: what was done to the second, in words, the most important first; () if no single change explains it.
        left: the AUC once those changes are undone.
        strongest: the statistics that differ most, in words, where `causes` is empty.
    """

    auc: float
    error: float
    images: int
    causes: tuple[str, ...]
    left: float
    strongest: tuple[str, ...]

    @property
    def is_another_domain(self) -> bool:
        """Above .6, and beyond what chance does among so few images."""
        return self.auc > ANOTHER_DOMAIN and self.auc - 2 * self.error > 0.5


def same_classes(
    first: NDArray[np.int64], second: NDArray[np.int64], seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of as many images of each class from both sides, at most 2,000 in all: their classes tell nothing.

    Args:
        first, second: the labels of both sides.
        seed: of the choice where there are more.
    """
    rng = np.random.default_rng(seed)
    counts = {label: min((first == label).sum(), (second == label).sum()) for label in np.unique(second)}
    share = min(1.0, _MOST / max(sum(counts.values()), 1))
    chosen: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = ([], [])
    for label, count in counts.items():
        for side, labels in zip(chosen, (first, second), strict=True):
            there = rng.permutation(np.flatnonzero(labels == label))
            side.append(there[: math.ceil(count * share)])
    empty = np.empty(0, np.int64)
    return np.concatenate([empty, *chosen[0]]), np.concatenate([empty, *chosen[1]])


def compare(first: Pixels, second: Pixels) -> Difference | None:
    """Tell two sets of images apart, uint8 [n, 3, side, side] of whole images squeezed to a square of one size.

    None if there are too few to tell.
    """
    if min(len(first), len(second)) < _FEWEST:
        return None
    ours, theirs = statistics(first), statistics(second)
    auc = left = _auc(ours, theirs)
    error = _error(auc, len(first), len(second))
    causes: list[str] = []
    undone = second
    while left > ANOTHER_DOMAIN and auc - 2 * error > 0.5 and len(causes) < _MOST_NAMED:
        cured = {name: cure(undone) for name, cure in _cures(first, undone).items()}
        found = {name: _auc(ours, statistics(pixels)) for name, pixels in cured.items()}
        best = min(found, key=lambda name: found[name])
        if _distance(found[best]) > _MOST_LEFT * _distance(left):
            break
        causes.append(best)
        left, undone = found[best], cured[best]
    return Difference(auc, error, min(len(first), len(second)), tuple(causes), left, _strongest(ours, theirs))


def _distance(auc: float) -> float:
    """How far apart two normal distributions of this AUC are, in standard deviations."""
    return float(max(norm.ppf(min(auc, 1 - 1e-6)), 0.0)) * math.sqrt(2)


def _auc(ours: Mapping[str, NDArray[np.float64]], theirs: Mapping[str, NDArray[np.float64]]) -> float:
    rows = np.concatenate([np.concatenate(list(side.values()), axis=1) for side in (ours, theirs)])
    sides = np.repeat([0, 1], [len(next(iter(ours.values()))), len(next(iter(theirs.values())))])
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    scores = cross_val_predict(classifier, rows, sides, cv=folds, method="decision_function")
    return float(roc_auc_score(sides, scores))


def _error(auc: float, first: int, second: int) -> float:
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (first - 1) * (q1 - auc**2) + (second - 1) * (q2 - auc**2)
    return math.sqrt(max(spread, 0.0) / (first * second))


def statistics(pixels: Pixels) -> dict[str, NDArray[np.float64]]:
    """What is compared of images, float64 [n, k] each, by what it tells about."""
    levels = pixels.astype(np.float64) / 255
    gray = levels.mean(axis=1)
    flat = gray.reshape(len(gray), -1)
    color = levels - gray[:, None]
    return {
        "brightness": flat.mean(axis=1, keepdims=True),
        "contrast": flat.std(axis=1, keepdims=True),
        "levels": np.quantile(flat, [0.02, 0.1, 0.5, 0.9, 0.98], axis=1).T,
        "tint": color.mean(axis=(2, 3)),
        "colorfulness": color.std(axis=(2, 3)),
        "sharpness": np.stack([_energy(gray), _energy(gray[:, ::2, ::2])], axis=1),
        "composition": _blocks(levels, 4),
    }


def _energy(gray: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logarithm of the mean squared difference of neighbors, against the variance."""
    across, down = np.diff(gray, axis=2), np.diff(gray, axis=1)
    energy = np.square(across).mean(axis=(1, 2)) + np.square(down).mean(axis=(1, 2))
    return np.asarray(np.log((energy + 1e-6) / (gray.var(axis=(1, 2)) + 1e-4)))


def _blocks(levels: NDArray[np.float64], parts: int) -> NDArray[np.float64]:
    n, channels, side, _ = levels.shape
    step = side // parts
    cut = levels[:, :, : step * parts, : step * parts].reshape(n, channels, parts, step, parts, step)
    blocks: NDArray[np.float64] = cut.mean(axis=(3, 5)).reshape(n, -1)
    return blocks


def _cures(first: Pixels, second: Pixels) -> dict[str, Callable[[Pixels], Pixels]]:
    """What may have been done to the second side, in words, and what undoes it."""
    ours, theirs = float(first.mean()), float(second.mean())
    gain = ours / max(theirs, 1.0)
    contrast = [_contrast(side) for side in (first, second)]
    spread = contrast[0] / max(contrast[1], 1e-3)
    return {
        f"{'darker' if gain > 1 else 'brighter'} (mean level {theirs:.0f} against {ours:.0f} of 255)": lambda pixels: (
            _rounded(pixels * gain)
        ),
        f"of {'less' if spread > 1 else 'more'} contrast ({contrast[1]:.0f} against {contrast[0]:.0f} levels)": (
            lambda pixels: _rounded((pixels - pixels.mean()) * spread + pixels.mean())
        ),
        "in the order BGR, as OpenCV reads and writes (red and blue swapped)": lambda pixels: pixels[:, ::-1],
        "inverted": lambda pixels: 255 - pixels,
        "turned by 90 degrees to the right": lambda pixels: np.rot90(pixels, 1, (2, 3)),
        "turned by 90 degrees to the left": lambda pixels: np.rot90(pixels, -1, (2, 3)),
        "upside down": lambda pixels: np.rot90(pixels, 2, (2, 3)),
        "mirrored": lambda pixels: pixels[:, :, :, ::-1],
    }


def _rounded(levels: NDArray[np.float64]) -> Pixels:
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def _contrast(pixels: Pixels) -> float:
    return float(pixels.mean(axis=1).std(axis=(1, 2)).mean())


def _strongest(ours: Mapping[str, NDArray[np.float64]], theirs: Mapping[str, NDArray[np.float64]]) -> tuple[str, ...]:
    found: dict[str, tuple[float, float]] = {}
    for name in ours:
        a, b = ours[name], theirs[name]
        effects = (b.mean(axis=0) - a.mean(axis=0)) / np.sqrt((a.var(axis=0) + b.var(axis=0)) / 2 + 1e-12)
        largest = float(effects[np.abs(effects).argmax()])
        found[name] = abs(largest), largest
    order = sorted(found, key=lambda name: -found[name][0])
    return tuple(
        f"{_in_words(name, found[name][1])} (by {found[name][0]:.1f} standard deviations)" for name in order[:2]
    )


def _in_words(statistic: str, effect: float) -> str:
    words = {
        "brightness": ("darker", "brighter"), "contrast": ("of less contrast", "of more contrast"),
        "colorfulness": ("less colorful", "more colorful"), "sharpness": ("less sharp", "sharper"),
    }  # fmt: skip
    return words[statistic][effect > 0] if statistic in words else f"of another {statistic}"


def domain(images: Scanned, seed: int = 0) -> list[Finding]:
    """The later splits of a source against its training images."""
    findings = []
    for split in ("val", "test"):
        rows, train = images.of(split), images.of("train")
        if len(rows):
            ours, theirs = same_classes(images.labels[train], images.labels[rows], seed)
            found = compare(images.squeezed[train[ours]], images.squeezed[rows[theirs]])
            findings.append(_finding(f"train against {split}", split, found, images, (train[ours], rows[theirs])))
    return findings


def _finding(
    name: str, split: str, found: Difference | None, images: Scanned, rows: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> Finding:
    if found is None:
        said = f"fewer than {_FEWEST} {split} images have training images of their class beside them"
        return Finding(Check(name, "unknown", said))
    details: dict[str, Any] = {
        "auc": round(found.auc, 4),
        "standard_error": round(found.error, 4),
        "images_a_side": found.images,
    }
    said = f"told apart with an AUC of {found.auc:.2f} (+/- {2 * found.error:.2f}), by {found.images:,} images a side"
    if not found.is_another_domain:
        return Finding(Check(name, "ok", f"alike: {said}"), (), details)
    if found.causes:
        said = f"the {split} images are {' and '.join(found.causes)}: {said}; {found.left:.2f} once that is undone"
        step = f"make both in the same way: do to the {split} images what was done to those of train, or undo it"
    else:
        said = f"the {split} images come from elsewhere, they are {' and '.join(found.strongest)}: {said}"
        step = f"find out what was done to the {split} images alone; a score on them says little about those of train"
    details |= {"causes": list(found.causes), "auc_once_undone": round(found.left, 4), "differs": list(found.strongest)}
    examples = [
        Example((a, b), f"{images.class_names[images.labels[a]]}: train and {split}")
        for a, b in zip(*(side[:: max(1, len(side) // 6)][:6].tolist() for side in rows), strict=True)
    ]
    return Finding(Check(name, "problem", said, step), tuple(examples), details)
