"""Batch norm's running statistics against those of the training images.

In train mode a batch norm uses its batch's own statistics, in eval mode averages that it collected on the way. Where
these are off (few steps, tiny batches, weights averaged without them, images prepared in another way), a network that
fits its training batches predicts badly. Re-estimated as a plain average over batches of training images, as in
Izmailov et al. 2018, section 3.3, they say what the same weights could do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from trainables.check import Check
from trainables.diagnosis.finding import Finding, Weight, healthy
from trainables.diagnosis.subject import Outcome, Subject
from trainables.training.execution import autocast

__all__ = ["BatchNorms", "NAME", "batch_norms", "statistics"]

NAME = "batch norm"
IMAGES = 1000
LARGEST_BATCH = 128
MOVED = 0.05  # of accuracy
LOSS_RATIO = 1.5
FEW = 8  # images in a batch, below which its statistics are noise

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class BatchNorms:
    """The network with re-estimated statistics.

    Attributes:
        model: the network with them.
        val: what it says about validation images.
        ratio: the median over channels of recorded variance by re-estimated variance, in the first batch norm.
        in_train_mode: accuracy on the same images in train mode, in batches of `batch`.
        batch: images in it.
    """

    model: nn.Module
    val: Outcome
    ratio: float
    in_train_mode: float
    batch: int


def batch_norms(subject: Subject) -> BatchNorms | None:
    """Re-estimate the statistics on 1,000 training images; None for a network without batch norm."""
    model = subject.copied_model()
    norms = [module for module in model.modules() if isinstance(module, _BATCH_NORMS) and module.track_running_stats]
    if not norms:
        return None
    batch = min(LARGEST_BATCH, len(subject.splits.train) // 2 or 1)
    in_train_mode = _train_mode_accuracy(subject, norms, model, batch)
    recorded = None if norms[0].running_var is None else norms[0].running_var.clone()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
        norm.train()
    count = min(IMAGES, max(subject.affordable, 2 * batch), len(subject.splits.train))
    with torch.no_grad(), autocast(subject.config.execution, subject.device):
        for indices in torch.split(torch.arange(count // batch * batch), batch):
            model(subject.inputs(subject.splits.train, indices))
    val = subject.outcome(subject.splits.val, model=model)
    fresh = norms[0].running_var
    ratio = 1.0 if recorded is None or fresh is None else float((recorded / fresh.clamp(min=1e-12)).median())
    return BatchNorms(model, val, ratio, in_train_mode, batch)


def _train_mode_accuracy(subject: Subject, norms: Sequence[nn.Module], model: nn.Module, batch: int) -> float:
    """Accuracy on the validation images with each batch's own statistics; dropout stays off."""
    count = min(len(subject.val), len(subject.splits.val)) // batch * batch
    if not count:
        return subject.val.accuracy
    states = [{name: tensor.clone() for name, tensor in norm.state_dict().items()} for norm in norms]
    model.eval()
    for norm in norms:
        norm.train()
    hits = 0.0
    with torch.no_grad(), autocast(subject.config.execution, subject.device):
        for indices in torch.split(torch.arange(count), batch):
            predicted = model(subject.inputs(subject.splits.val, indices)).argmax(1).cpu()
            hits += float((predicted == subject.val.labels[indices]).sum())
    for norm, state in zip(norms, states, strict=True):
        norm.load_state_dict(state)
    model.eval()
    return hits / count


def statistics(subject: Subject, found: BatchNorms | None) -> Finding:
    """Whether the running statistics are what makes the network predict badly."""
    if found is None:
        return healthy(NAME, "the network has no batch norm")
    before, after = subject.val, found.val
    gain = after.accuracy - before.accuracy
    changed = int(((before.predicted == before.labels) != (after.predicted == after.labels)).sum())
    sure = gain * len(after) > 2 * math.sqrt(changed)  # two standard errors of a difference on the same images
    better = after.accuracy >= before.accuracy - 0.01 and after.loss * LOSS_RATIO < before.loss
    told = (
        f"statistics re-estimated on training images take validation accuracy from {before.accuracy:.3f} to "
        f"{after.accuracy:.3f} and loss from {before.loss:.3g} to {after.loss:.3g}"
    )
    moved = gain >= MOVED and sure
    if not moved and not better:
        return healthy(NAME, told)
    told += f"; in train mode the same images give {found.in_train_mode:.3f}"
    if not 0.5 < found.ratio < 2:
        told += f"; the first layer's recorded variances are {found.ratio:.3g} times those of the images"
    if not moved and after.loss > subject.chance_loss:  # as bad as before: something else has ruined it
        return Finding(Check(NAME, "warning", told, _CURE), max(gain, 0.0), Weight.SYMPTOM)
    if subject.config.batch_size <= FEW:
        told = f"batches of {subject.config.batch_size} are too few for batch norm; {told}"
        cure = "--set batch_size=64, or --set model.norm=group; search: batch_size: {choice: [32, 64, 128]}"
        return Finding(Check("batch size", "problem", told, cure), max(gain, 0.01), Weight.DEFECT)
    return Finding(Check(NAME, "problem", told, _CURE), max(gain, 0.01), Weight.DEFECT)


_CURE = (
    "re-estimate them: one pass over training images in train mode before evaluation; where they were collected in "
    "training, --set model.norm=group does without; search: model.norm: {choice: [batch, group]}"
)
