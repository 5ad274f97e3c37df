"""Validation images that the network was trained on."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trainables.check import Check
from trainables.data.images import Images
from trainables.data.likeness import SMALLEST, descriptors, near_pairs
from trainables.diagnosis.finding import Finding, Weight, healthy
from trainables.diagnosis.subject import Subject

__all__ = ["duplicates"]

NAME = "duplicates"
BATCH = 500
SQUEEZED = 64  # pixels a side of what is compared; smaller images stay as they are
MOST = 60_000  # training images that are looked through
LARGE_SHARE = 0.05  # of the validation images
MOVED = 0.02  # of accuracy
FEWEST_LEFT = 30


def duplicates(subject: Subject) -> Finding:
    """Whether validation images are training images, and the accuracy on those that are not.

    Equal pixels, and near-identical images as `trainables.data.likeness` finds them (re-encoded, resized, mirrored).
    """
    count, training = len(subject.val), min(len(subject.splits.train), MOST)
    digests, rows = _seen(subject.splits.train, training)
    found, others = _seen(subject.splits.val, count)
    known = set(digests)
    exact = torch.tensor([digest in known for digest in found])
    near = exact.clone()
    near[[pair.second for pair in near_pairs(rows, others)]] = True
    told = f"{int(near.sum())} of {count:,} validation images are among the {training:,} training images"
    if not near.any():
        return healthy(NAME, told)
    share = float(near.float().mean())
    hit = (subject.val.predicted == subject.val.labels).float()
    left = hit[~near]
    told += f" ({int(exact.sum())} pixel for pixel)"
    if len(left) < FEWEST_LEFT:
        return Finding(Check(NAME, "problem", f"{told}: nothing is validated", _CURE), share, Weight.DEFECT)
    gain = subject.val.accuracy - float(left.mean())
    told += f"; without them accuracy goes from {subject.val.accuracy:.3f} to {float(left.mean()):.3f}"
    if share < LARGE_SHARE and gain < MOVED:
        return healthy(NAME, told)  # CIFAR-10 itself has some: too few to matter to this network
    return Finding(Check(NAME, "problem", told, _CURE), max(gain, share / 10), Weight.DEFECT)


def _seen(images: Images, count: int) -> tuple[list[bytes], NDArray[np.float32]]:
    """A digest of the pixels of each image, and its row of descriptors."""
    digests, rows = [], []
    for indices in torch.split(torch.arange(count), BATCH):
        pixels = images.batch(indices)
        digests += [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in pixels.numpy()]
        rows.append(descriptors(_squeezed(pixels).numpy()))
    return digests, np.concatenate(rows)


def _squeezed(pixels: Tensor) -> Tensor:
    if min(pixels.shape[2:]) < SMALLEST or max(pixels.shape[2:]) <= SQUEEZED:
        return pixels
    small = functional.interpolate(pixels.float(), size=(SQUEEZED, SQUEEZED), mode="bilinear", antialias=True)
    return small.round().clamp(0, 255).to(torch.uint8)


_CURE = (
    "leave them out of one side, then search again: what was chosen on such images is what memorizes best; "
    "python -m trainables.inspect SRC --fix DIR lists them"
)
