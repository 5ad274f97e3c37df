"""What a model scores on a set of images: the same numbers for the search, for evaluate and for a reader."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trainables.result import ClassReport, Collapse

__all__ = ["Scores", "accuracy", "class_report", "collapse", "confusion_matrix", "is_one_class", "score"]

BINS = 15  # of the calibration error
NEARLY_ALL = 0.95  # of the images: a network that takes more of them for one class predicts that class
Z = NormalDist().inv_cdf(0.975)

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scores:
    """Plain cross-entropy in nats, and fractions.

    Precision, recall and F1 are macro averages over the classes that some image has or is taken for; what divides by
    zero is 0. `one_class` is what `is_one_class` says.
    """

    loss: float
    accuracy: float
    precision: float
    recall: float
    f1: float
    one_class: bool


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """The accuracy that `score` gives, alone: precision and F1 take longer than a step of a small network."""
    return float(np.mean(logits.argmax(1).cpu().numpy() == labels.cpu().numpy()))


def score(logits: Tensor, labels: Tensor) -> Scores:
    """Score float logits [n, classes] against int64 labels [n] on the same device."""
    loss = functional.cross_entropy(logits, labels)
    counts = confusion_matrix(logits, labels)
    # As sklearn.metrics has them, which takes a worker a second to import and each epoch longer than a small step.
    hits, actual, given = counts.diagonal(), counts.sum(1), counts.sum(0)
    present = actual + given > 0
    precision, recall, f1 = (
        float(np.mean((hits / np.maximum(total, 1))[present])) for total in (given, actual, (actual + given) / 2)
    )
    return Scores(loss.item(), float(hits.sum() / len(labels)), precision, recall, f1, is_one_class(counts))


def confusion_matrix(logits: Tensor, labels: Tensor) -> Counts:
    """How many images of each class (row) are taken for each (column): int64 [classes, classes]."""
    predicted, truth, classes = logits.argmax(1).cpu().numpy(), labels.cpu().numpy(), logits.shape[1]
    return np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes)


def is_one_class(counts: Counts) -> bool:
    """Whether a network predicts one class whatever it sees, from its confusion matrix.

    Nearly all images are taken for one class, and the accuracy is no other than that class's share of the images: it
    lies inside the share's 95 % interval (Wilson 1927). So a good network on images nearly all of one class is not
    meant.
    """
    images, given = int(counts.sum()), counts.sum(0)
    most = int(given.argmax())
    if np.count_nonzero(counts.sum(1)) < 2 or given[most] <= NEARLY_ALL * images:
        return False
    share, right = counts[most].sum() / images, counts.trace() / images
    # The interval of `share` is the set of all p with |share - p| <= z sqrt(p (1 - p) / n).
    return bool(abs(share - right) <= Z * math.sqrt(right * (1 - right) / images))


def collapse(one_class: bool, train_loss: float, first_loss: float, classes: int) -> Collapse | None:
    """Whether a network is of no use after an epoch, and in which way.

    Args:
        one_class: what `is_one_class` says.
        train_loss: mean of the epoch.
        first_loss: of the first step; where it was lower than a blind guess's, ln `classes`, that counts.
        classes: how many there are.
    """
    if train_loss > 2 * max(first_loss, math.log(classes)):
        return "rising loss"
    return "one class" if one_class else None


def class_report(logits: Tensor, labels: Tensor, class_names: Sequence[str]) -> ClassReport:
    """What a network gets right class by class, and its calibration.

    Args:
        logits: float [n, classes].
        labels: int64 [n], on the same device.
        class_names: of all classes, in the order of the logits.
    """
    counts = confusion_matrix(logits, labels)
    return ClassReport.of(class_names, counts.tolist(), _calibration_error(logits, labels))


def _calibration_error(logits: Tensor, labels: Tensor) -> float:
    """The expected calibration error (Guo et al. 2017), in `BINS` bins of equal width."""
    confidence, predicted = (each.cpu().numpy() for each in logits.softmax(1).max(1))
    bins = np.ceil(confidence.astype(np.float64) * BINS).astype(np.int64) - 1  # of ((b - 1) / 15, b / 15]
    gaps = np.bincount(bins, weights=(predicted == labels.cpu().numpy()) - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))
