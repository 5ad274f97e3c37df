"""The check of labels: whose features judge them, whether those are good enough to, and what is told then."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.check import Check
from trainables.inspection.finding import Example, Finding, percent
from trainables.inspection.images import Pixels, Scanned
from trainables.inspection.labels import FEWEST, WEAKEST, Verdict, judge

__all__ = ["INSTALL", "pixel_features", "wrong_labels"]

INSTALL = "pip install 'resnet-search[doctor]'"
_NAME = "wrong labels"
_SIDE = 8  # pixels, of the small images by which labels are judged where there are no weights
_FEWEST_IMAGES = 100
# From this estimated share on, and where chance explains no more than a quarter of it, labels are told to be wrong.
_WARN, _PROBLEM = 0.01, 0.05
_OTHER_WEIGHTS = (
    "judge them by weights that know such images: --weights FILE, or "
    "--weights torchvision:DEFAULT --set model.kind=torchvision_resnet"
)
_CORRECT = (
    "look at them on the page, the likeliest first, and correct them; or leave them out: "
    "--fix FILE --with-suspects, then data.exclude=FILE"
)


def pixel_features(pixels: Pixels) -> NDArray[np.float64]:
    """Images of 8 x 8 pixels as rows, float64 [n, 192]: enough to tell digits or colors apart, not photographs."""
    n, channels, side, _ = pixels.shape
    step = side // _SIDE
    parts = pixels.reshape(n, channels, _SIDE, step, _SIDE, step).mean(axis=(3, 5))
    return np.asarray(parts.reshape(n, -1) / 255)


def wrong_labels(
    images: Scanned, features: NDArray[np.floating[Any]], groups: NDArray[np.int64], by: str, seed: int = 0
) -> tuple[Finding, list[int]]:
    """Which labels are likely wrong; also the numbers of the suspects, the likeliest first.

    Args:
        images: what was read.
        features: [n, k], of all images.
        groups: int64 [n], near-identical images have the same number.
        by: whose features these are, in words.
        seed: of the folds, and of the labels that are made wrong for a test.
    """
    if find_spec("cleanlab") is None:
        return Finding(Check(_NAME, "unknown", "cleanlab is not installed, which finds them", INSTALL)), []
    _, first = np.unique(groups, return_index=True)
    counts = np.bincount(images.labels[first], minlength=len(images.class_names))
    rows = np.flatnonzero(counts[images.labels] >= FEWEST)
    if len(rows) < _FEWEST_IMAGES or len(np.unique(images.labels[rows])) < 2:
        said = f"at least {_FEWEST_IMAGES} images in two classes of {FEWEST} or more are needed, there are {len(rows)}"
        return Finding(Check(_NAME, "unknown", said)), []
    verdict = judge(features[rows], images.labels[rows], groups[rows], seed)
    details = _numbers(verdict, by)
    judged = f"a classifier of {by} is right on {percent(verdict.accuracy)} of the images that it has not seen"
    if not verdict.is_able:
        said = f"{judged}: below {percent(WEAKEST)} it cannot tell a wrong label from a hard image"
        return Finding(Check(_NAME, "unknown", said, _OTHER_WEIGHTS), (), details), []
    share, low, high = verdict.wrong
    warn = share >= _WARN and low >= 0.75 * _WARN
    found = rows[verdict.suspects if warn else verdict.suspects[: round(share * len(rows))]]
    place = {int(row): i for i, row in enumerate(rows)}
    said = (
        f"about {percent(share)} of the labels are wrong (95 % interval {percent(low)} to {percent(high)}): {judged}, "
        f"and contradicts {verdict.disagree:,} of the {verdict.looked_at:,} labels where it is surest; "
        f"{_tested(verdict)}"
    )
    if warn:
        likely = min(1.0, share * len(rows) * verdict.recall / max(len(found), 1))
        said = f"{len(found):,} of {len(rows):,} labels are suspect, of which about {percent(likely)} are wrong; {said}"
        check = Check(_NAME, "problem" if low >= _PROBLEM else "warning", said, _CORRECT)
    else:
        check = Check(_NAME, "ok", said)
    suspects = [int(number) for number in found]
    described = [_described(images, verdict, number, place[number]) for number in suspects]
    examples = tuple(
        Example((number,), f"labelled {one['label']}, looks like {one['looks_like']}")
        for number, one in zip(suspects, described, strict=True)
    )
    return Finding(check, examples, {**details, "suspects": described}), suspects


def _tested(verdict: Verdict) -> str:
    return (
        f"of {verdict.injected:,} labels that were made wrong for a test it found {percent(verdict.recall)}, and at "
        f"least {percent(verdict.precision)} of its suspects were among them"
    )


def _numbers(verdict: Verdict, by: str) -> Mapping[str, Any]:
    return {
        "features": by,
        "cross_validated_accuracy": round(verdict.accuracy, 4),
        "estimated_share": round(verdict.wrong[0], 4),
        "estimated_share_interval": [round(bound, 4) for bound in verdict.wrong[1:]],
        "test": None
        if not verdict.injected
        else {
            "injected": verdict.injected,
            "recall": round(verdict.recall, 4),
            "precision_at_least": round(verdict.precision, 4),
        },
    }


def _described(images: Scanned, verdict: Verdict, number: int, place: int) -> dict[str, Any]:
    return {
        "image": images.names[number],
        "split": str(images.splits[number]),
        "label": images.class_names[images.labels[number]],
        "looks_like": images.class_names[verdict.predicted[place]],
        "confidence_in_label": round(float(verdict.confidence[place]), 4),
    }
