"""Which images of the training split are seen when, and what each class weighs."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.config import Data, Regularization
from trainables.seeds import derived_seed

__all__ = ["class_weights", "epoch_order", "sampling_weights", "train_probe"]


def epoch_order(seed: int, epoch: int, count: int, weights: Tensor | None) -> Tensor:
    """The images of an epoch in the order in which they are trained on, int64 [count].

    Args:
        seed: the trial's.
        epoch: counted from 0.
        count: of the training images.
        weights: sampling weight of each image, float [count], for draws with replacement; None: each image once.
    """
    generator = torch.Generator().manual_seed(derived_seed(seed, "order", epoch))
    if weights is not None:
        return torch.multinomial(weights, count, replacement=True, generator=generator)
    return torch.randperm(count, generator=generator)


def train_probe(data: Data, count: int) -> Tensor:
    """The training images by which training accuracy is measured, int64 [at most data.train_eval_samples]."""
    generator = torch.Generator().manual_seed(derived_seed(data.split_seed, "train_eval"))
    return torch.randperm(count, generator=generator)[: data.train_eval_samples]


def sampling_weights(regularization: Regularization, labels: Tensor, classes: int) -> Tensor | None:
    """Sampling weight of each image, float64 [n], so that classes come equally often; None if disabled."""
    if regularization.imbalance != "balanced_sampling":
        return None
    return (1 / _counts(labels, classes))[labels]


def class_weights(regularization: Regularization, labels: Tensor, classes: int) -> Tensor | None:
    """Class weights of the loss, float32 [classes], 1 on average over the images; None if disabled."""
    if regularization.imbalance != "class_weights":
        return None
    return (len(labels) / (classes * _counts(labels, classes))).float()


def _counts(labels: Tensor, classes: int) -> Tensor:
    return torch.bincount(labels, minlength=classes).double().clamp(min=1)
