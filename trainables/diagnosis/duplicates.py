"""Validation images that the network was trained on."""

from __future__ import annotations

import hashlib
from collections import defaultdict

import numpy as np
import torch

from trainables.check import Check
from trainables.data.images import Images
from trainables.diagnosis.finding import Finding, Weight, healthy
from trainables.diagnosis.subject import Subject

__all__ = ["duplicates"]

NAME = "duplicates"
BATCH = 500
LARGE_SHARE = 0.05  # of the validation images
MOVED = 0.02  # of accuracy
FEWEST_LEFT = 30


def duplicates(subject: Subject) -> Finding:
    """Whether validation images are training images, pixel for pixel, and the accuracy on those that are not."""
    count = len(subject.val)
    digests = _digests(subject.splits.train, len(subject.splits.train))
    known: dict[bytes, list[int]] = defaultdict(list)
    for row, digest in enumerate(digests):
        known[digest].append(row)
    seen = torch.tensor([digest in known for digest in _digests(subject.splits.val, count)])
    share = float(seen.float().mean())
    told = f"{int(seen.sum())} of {count:,} validation images are among the {len(digests):,} training images"
    if not seen.any():
        return healthy(NAME, told)
    hit = (subject.val.predicted == subject.val.labels).float()
    left = hit[~seen]
    if len(left) < FEWEST_LEFT:
        return Finding(Check(NAME, "problem", f"{told}: nothing is validated", _CURE), share, Weight.DEFECT)
    gain = subject.val.accuracy - float(left.mean())
    told += f", pixel for pixel; without them accuracy goes from {subject.val.accuracy:.3f} to {float(left.mean()):.3f}"
    if share < LARGE_SHARE and gain < MOVED:
        return Finding(Check(NAME, "warning", told, _CURE), gain, Weight.SYMPTOM)
    return Finding(Check(NAME, "problem", told, _CURE), max(gain, share / 10), Weight.DEFECT)


def _digests(images: Images, count: int) -> list[bytes]:
    found = []
    for indices in torch.split(torch.arange(count), BATCH):
        pixels = np.ascontiguousarray(images.batch(indices).numpy())
        found += [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in pixels]
    return found


_CURE = (
    "leave them out of one side, then search again: what was chosen on such images is what memorizes best "
    "(data.val_fraction makes another split; identical images of a folder without splits stay on one side)"
)
