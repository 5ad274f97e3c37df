"""What a model scores on a set of images: the same numbers for the search, for evaluate and for a reader."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn import functional

__all__ = ["Scores", "accuracy", "score"]


@dataclass(frozen=True, slots=True)
class Scores:
    """Plain cross-entropy in nats, and fractions.

    Precision, recall and F1 are macro averages over the classes that some image has or is taken for; what divides by
    zero is 0.
    """

    loss: float
    accuracy: float
    precision: float
    recall: float
    f1: float


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """The accuracy that `score` gives, alone: precision and F1 take longer than a step of a small network."""
    return float(np.mean(logits.argmax(1).cpu().numpy() == labels.cpu().numpy()))


def score(logits: Tensor, labels: Tensor) -> Scores:
    """Score float logits [n, classes] against int64 labels [n] on the same device."""
    loss = functional.cross_entropy(logits, labels)
    predicted, truth, classes = logits.argmax(1).cpu().numpy(), labels.cpu().numpy(), logits.shape[1]
    # As sklearn.metrics has them, which takes a worker a second to import and each epoch longer than a small step.
    counts = np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes)
    hits, actual, given = counts.diagonal(), counts.sum(1), counts.sum(0)
    present = actual + given > 0
    precision, recall, f1 = (
        float(np.mean((hits / np.maximum(total, 1))[present])) for total in (given, actual, (actual + given) / 2)
    )
    return Scores(loss.item(), float(np.mean(predicted == truth)), precision, recall, f1)
