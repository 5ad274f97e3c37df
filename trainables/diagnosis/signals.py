"""What weights, gradients and activations of a network say by themselves."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.check import Check
from trainables.diagnosis.finding import Finding, Weight, healthy
from trainables.diagnosis.subject import Subject
from trainables.models.protocol import train_mode

__all__ = ["Gradients", "dead_units", "gradients", "judged_gradients", "moved", "untouched"]

BATCH = 64
UNTOUCHED = 1e-3  # relative change of the weights, below which nothing was learned
EXPLODING, VANISHING = 1e3, 1e-6  # L2 norm of the gradient of a loss near ln K
DEAD = 0.5  # share of a layer's inputs
WELL = 0.9  # accuracy, from which units that are not needed do no harm


@dataclass(frozen=True)
class Gradients:
    """L2 norms of the gradient on a batch of training images, in train mode: of all parameters and of the first layer.

    `fresh` is the norm of a network that has learned nothing yet.
    """

    total: float
    first: float
    fresh: float


def gradients(subject: Subject) -> Gradients:
    """Measured by one backward pass at the weights as they are, and one at those that they started from."""
    total, first = _norms(subject, subject.copied_model())
    fresh = total if subject.initial is None else _norms(subject, deepcopy(subject.initial))[0]
    return Gradients(total, first, fresh)


def _norms(subject: Subject, model: nn.Module) -> tuple[float, float]:
    count = min(BATCH, len(subject.splits.train))
    images = subject.inputs(subject.splits.train, torch.arange(count))
    labels = subject.labels(subject.splits.train, count).to(subject.device)
    train_mode(model)
    model.zero_grad(set_to_none=True)
    functional.cross_entropy(model(images).float(), labels).backward()  # type: ignore[no-untyped-call]
    norms = [float(p.grad.norm()) for p in model.parameters() if p.grad is not None]
    return math.sqrt(sum(norm**2 for norm in norms)), norms[0] if norms else 0.0


def judged_gradients(subject: Subject, found: Gradients) -> Finding:
    """Whether gradients explode, vanish, or are not numbers at all."""
    told = f"gradient norm {found.total:.3g} on a training batch, of the first layer {found.first:.3g}"
    if not math.isfinite(found.total):
        cure = "--set optimizer.lr=0.01 --set regularization.clip_norm=1; search: optimizer.lr"
        return Finding(Check("gradients", "problem", f"the weights give no finite gradient: {told}", cure), 0.0)
    if found.total > EXPLODING:
        cure = "--set regularization.clip_norm=1 --set schedule.warmup=0.1; search: optimizer.lr"
        return Finding(Check("gradients", "warning", f"it explodes: {told}", cure), 0.0)
    learned = subject.train.loss < 0.1 * subject.chance_loss
    if found.first < VANISHING and not learned and not subject.config.model.frozen_stages:
        cure = "--set model.norm=batch --set optimizer.lr=0.01; search: optimizer.lr"
        return Finding(Check("gradients", "warning", f"it vanishes: {told}", cure), 0.0)
    return healthy("gradients", told)


def moved(subject: Subject) -> float:
    """By how much of their norm the trained weights differ from those that they started from; NaN if unknown.

    The seed gives the same initial weights again, with the same version of torch.
    """
    if subject.initial is None:
        return math.nan
    began = dict(subject.initial.named_parameters())
    pairs = [(p, began[name]) for name, p in subject.model.named_parameters() if began[name].requires_grad]
    weights = [(one, other) for one, other in pairs if one.ndim > 1]  # others start from constants
    if not weights:
        return math.nan
    with torch.no_grad():
        change = sum(float((one - other).pow(2).sum()) for one, other in weights)
        return math.sqrt(change / sum(float(other.pow(2).sum()) for _, other in weights))


def untouched(subject: Subject, by: float) -> Finding:
    """Whether anything was trained at all."""
    if math.isnan(by):
        return Finding(Check("weights", "unknown", "what the training began with is not here, or nothing is trained"))
    told = f"the trained weights differ from the initial ones by {by:.2%} of their norm"
    if not by < UNTOUCHED:
        return healthy("weights", told)
    cure = "--set model.frozen_stages=0 --set optimizer.lr=0.05; search: optimizer.lr: {float: [0.01, 0.3], log: true}"
    return Finding(Check("nothing trained", "problem", f"nothing was trained: {told}", cure), 0.0, Weight.SETTING)


def dead_units(subject: Subject) -> Finding:
    """Whether units give nothing on any image: inputs of a layer that are 0 throughout."""
    model = subject.copied_model().eval()
    shares: dict[str, float] = {}
    handles = []
    layers = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)][1:]
    for name, layer in layers:

        def look(_module: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
            each = inputs[0].abs().amax(dim=[d for d in range(inputs[0].ndim) if d != 1])
            shares[name] = float((each == 0).float().mean())

        handles.append(layer.register_forward_pre_hook(look))
    with torch.inference_mode():
        model(subject.inputs(subject.splits.val, torch.arange(min(256, subject.affordable, len(subject.splits.val)))))
    worst = max(shares, key=lambda name: shares[name], default=None)
    if worst is None or shares[worst] <= DEAD or subject.val.accuracy >= WELL:
        told = f"at most {max(shares.values(), default=0):.0%} of a layer's inputs are 0 on every image"
        return healthy("dead units", told)
    told = f"{shares[worst]:.0%} of the inputs of {worst} are 0 on every image"
    cure = "--set optimizer.lr=0.01 --set schedule.warmup=0.1; search: optimizer.lr"
    return Finding(Check("dead units", "warning", told, cure))
