"""The loss that a trial is trained on."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from trainables.augment.batch import Batch
from trainables.config import TrialConfig
from trainables.training.inference import at_least_float32

__all__ = ["training_loss"]


def training_loss(config: TrialConfig, logits: Tensor, batch: Batch, class_weights: Tensor | None) -> Tensor:
    """The mean loss of a batch, float32 at least, []; with class weights the weighted mean, as torch's.

    Args:
        config: the trial's: which loss, and how much its labels are smoothed.
        logits: [b, classes], of any precision.
        batch: labels, and a second set where images were mixed.
        class_weights: float32 [classes], or None.
    """
    logits, smoothing = at_least_float32(logits), config.regularization.label_smoothing

    def of(labels: Tensor) -> Tensor:
        if config.loss == "cross_entropy":
            return functional.cross_entropy(
                logits, labels, weight=class_weights, reduction="none", label_smoothing=smoothing
            )
        target = torch.full_like(logits, smoothing / logits.shape[1])
        target.scatter_add_(1, labels.unsqueeze(1), target.new_full((len(labels), 1), 1 - smoothing))
        losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1)
        return losses if class_weights is None else losses * class_weights[labels]

    losses = batch.mixed(of)
    if class_weights is None:
        return losses.mean()
    return losses.sum() / batch.mixed(lambda labels: class_weights[labels]).sum()
