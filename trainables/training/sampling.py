"""Which images of the training split are seen when, mirrored or not and how large, and what each class weighs."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.config import Augment, Data, Regularization
from trainables.seeds import derived_seed

__all__ = ["class_weights", "epoch_order", "first_mirrored", "sampling_weights", "scale_at", "train_probe"]


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


def first_mirrored(seed: int, count: int) -> Tensor:
    """Which of `count` training images an alternating flip mirrors in the first epoch, and every other: bool [count].

    The others are mirrored in the second epoch, and every other.
    """
    generator = torch.Generator().manual_seed(derived_seed(seed, "flip"))
    return torch.rand(count, generator=generator) < 0.5


def scale_at(augment: Augment, epoch: int, epochs: int) -> float:
    """The side of training images over that in validation: grows linearly over the first 4/5 of the run.

    Progressive resizing, as MosaicML's Composer has it: it ends with images of the size that the network is used on,
    for which Touvron et al. 2019 (FixRes, arXiv:1906.06423) fine-tune.

    Args:
        augment: the trial's.
        epoch: counted from 0.
        epochs: of the run.
    """
    first = 1 - (1 - augment.first_scale) * augment.strength
    return min(first + (1 - first) * epoch / (0.8 * epochs), 1.0)


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
