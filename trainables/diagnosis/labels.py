"""Labels that say nothing about the images, or whose order is another one than the network's."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest
from torch import Tensor
from torch.nn import functional

from trainables.check import Check
from trainables.data.images import Images
from trainables.diagnosis.collapse import UNEVEN, class_ratio
from trainables.diagnosis.finding import Finding, Weight, healthy
from trainables.diagnosis.subject import Subject

__all__ = ["class_order", "informative", "parted"]

IMAGES = 2000
FEWEST = 400  # training images, below which a linear classifier on pixels cannot tell
SIDE = 8
FOLDS = 5
RIDGE = 30.0
SURE = 0.01  # largest p-value of a classifier that is better than chance
REORDERED = 0.2  # of accuracy
NOISY = 0.75  # of the accuracy on validation labels


def class_order(subject: Subject) -> Finding:
    """Whether another order of the classes makes the predictions right.

    The assignment that agrees best with one half of the images, scored on the other: with many classes and few images
    there is always one that agrees better.
    """
    confusion = np.zeros((subject.num_classes, subject.num_classes))
    labels, predicted = subject.val.labels.numpy(), subject.val.predicted.numpy()
    half = parted(len(labels), 2)
    np.add.at(confusion, (labels[half == 0], predicted[half == 0]), 1)
    rows, columns = linear_sum_assignment(-confusion)
    order = np.empty(subject.num_classes, np.int64)
    order[columns] = rows
    before = float(np.mean(predicted[half == 1] == labels[half == 1]))
    after = float(np.mean(order[predicted[half == 1]] == labels[half == 1]))
    gain = after - before
    told = f"with classes in the best other order accuracy is {after:.3f} instead of {before:.3f} on half of the images"
    if gain < REORDERED:
        return healthy("class order", told)
    pairs = [(subject.class_name(int(c)), subject.class_name(int(r))) for r, c in zip(rows, columns, strict=True)]
    shown = ", ".join(f"{a!r} is {b!r}" for a, b in pairs if a != b)[:200]
    cure = "name the classes as the network was trained on them: rename the folders, or put the label column in order"
    return Finding(Check("class order", "problem", f"{told}: {shown}", cure), gain, Weight.DEFECT)


def informative(subject: Subject, learned: bool) -> Finding:
    """Whether a ridge regression on small images, cross-validated, finds more in the training labels than chance.

    Args:
        subject: who is examined.
        learned: whether the network, or a short training, predicts validation labels better than chance.
    """
    count = min(IMAGES, len(subject.splits.train))
    if count < FEWEST:
        return Finding(Check("labels", "unknown", f"{count} training images are too few to judge their labels"))
    if class_ratio(subject) > UNEVEN:  # a classifier of all images is no better than the largest class
        return Finding(Check("labels", "unknown", "the classes are too uneven to judge their labels"))
    labels = subject.labels(subject.splits.train, count).numpy()
    features, val = _features(subject.splits.train, count), _features(subject.splits.val, len(subject.val))
    fold = parted(count, FOLDS)
    inside = np.concatenate(
        [
            _predicted(features[fold != k], labels[fold != k], features[fold == k]) == labels[fold == k]
            for k in range(FOLDS)
        ]
    )
    outside = _predicted(features, labels, val) == subject.val.labels.numpy()
    chance = float(np.bincount(labels).max() / count)
    within, across = float(inside.mean()), float(outside.mean())
    told = f"a linear classifier on small images has accuracy {within:.3f} on training labels (cross-validated), "
    told += f"{across:.3f} on validation labels; chance is {chance:.3f}"
    cure = "look at images with their labels: python -m trainables.inspect SRC; no search can find what is not there"
    if not learned and not _better(inside, chance):
        return Finding(Check("labels", "problem", f"labels say nothing about images: {told}", cure), 1, Weight.DEFECT)
    if not learned and _better(inside, chance) and not _better(outside, chance):
        return Finding(Check("labels", "problem", f"validation labels are others: {told}", cure), 1, Weight.DEFECT)
    noise = 2 * (0.25 / len(inside) + 0.25 / len(outside)) ** 0.5
    if within < NOISY * across - noise / 2 and across - within > noise:
        wrong = f"about {1 - (within - chance) / max(across - chance, 1e-6):.0%} of the training labels look wrong"
        return Finding(Check("label noise", "problem", f"{wrong}: {told}", cure), across - within, Weight.SETTING)
    return healthy("labels", told)


def parted(count: int, parts: int) -> NDArray[np.int64]:
    """The part of each image, at random: in a split's own order the classes alternate."""
    found: NDArray[np.int64] = np.random.default_rng(0).permutation(count) % parts
    return found


def _features(images: Images, count: int) -> NDArray[np.float64]:
    parts = []
    for indices in torch.split(torch.arange(count), 500):
        pixels: Tensor = images.batch(indices).float() / 255
        parts.append(functional.adaptive_avg_pool2d(pixels, SIDE).flatten(1))
    flat = torch.cat(parts)
    return torch.cat([flat, (flat - flat.mean(1, keepdim=True)).pow(2)], 1).double().numpy()


def _predicted(
    features: NDArray[np.float64], labels: NDArray[np.int64], others: NDArray[np.float64]
) -> NDArray[np.int64]:
    mean, std = features.mean(0), features.std(0) + 1e-6
    x, y = (features - mean) / std, np.eye(int(labels.max()) + 1)[labels]
    weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ (y - y.mean(0)))
    return np.asarray(((others - mean) / std @ weights + y.mean(0)).argmax(1), dtype=np.int64)


def _better(hits: NDArray[np.bool_], chance: float) -> bool:
    return bool(binomtest(int(hits.sum()), len(hits), min(chance, 1.0), alternative="greater").pvalue < SURE)
