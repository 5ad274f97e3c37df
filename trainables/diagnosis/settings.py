"""Settings of the training that keep a network from learning: each is changed alone, and as many steps are trained.

A setting is the cause where the changed training is better than the unchanged one by 5 points, and no worse than all
that the network was trained for: a short training that comes as far says more than any threshold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from trainables.check import Check
from trainables.config import SGD, Adam, Augment, RMSprop
from trainables.diagnosis.collapse import UNEVEN, class_ratio
from trainables.diagnosis.finding import Finding, Weight, healthy
from trainables.diagnosis.learning_rate import RangeTest, is_suspect, range_test
from trainables.diagnosis.short_runs import Plan, Short, short_run
from trainables.diagnosis.signals import Gradients
from trainables.diagnosis.subject import Say, Subject

__all__ = ["Change", "changes", "tried"]

MOVED = 0.05  # of accuracy, or of macro recall where classes are uneven
SLACK = 0.02  # by which the short training may be behind the whole one
CLIPPED = 10.0  # times clip_norm: what the gradient is where nearly nothing is left of it
FASTER = (1.0, 4.0)  # times the rate of steepest descent: a good one often lies a little above
HARSH = (1.0, 0.5, 45.0, 0.4)  # mixup's alpha, cutout's side, degrees, color jitter: from here on images may be lost
FEW = 8  # images in a batch, below which batch norm's statistics are noise
USUAL_SHRINK = 5e-5  # lr x weight_decay of the usual recipes, for a step that a gradient comes to in the end
HEAVY = 10.0  # times that
HEAVY_PENALTY = 1e-2  # of Adam and RMSprop, whose L2 penalty is scaled up to the size of the gradient


@dataclass(frozen=True)
class Change:
    """A setting that may be wrong.

    Attributes:
        name: of the check.
        why: what makes it suspect.
        tree: what to set instead, as nested keys.
        cure: the same as options, and the search that would settle it.
    """

    name: str
    why: str
    tree: Mapping[str, Any]
    cure: str


def changes(subject: Subject, found: RangeTest | None, gradient: Gradients) -> Iterator[Change]:
    """The settings of the subject that are worth a try."""
    config = subject.config
    optimizer, clip = config.optimizer, config.regularization.clip_norm
    if found is not None and is_suspect(optimizer.lr, found):
        for times in FASTER:
            if is_suspect(optimizer.lr, found, times):
                yield _rate(optimizer.lr, found.steepest, times)
    if clip is not None and isinstance(optimizer, SGD) and max(gradient.fresh, gradient.total) > CLIPPED * clip:
        why = f"gradients of norm {max(gradient.fresh, gradient.total):.2g} are always clipped to {clip:g}"
        cure = "--set regularization.clip_norm=null; search: regularization.clip_norm: {choice: [null, 1.0, 5.0]}"
        yield Change("clipping", why, {"regularization": {"clip_norm": None}}, cure)
    if (decay := _heavy_decay(subject, found)) is not None:
        why = f"a weight decay of {optimizer.weight_decay:g} at a rate of {optimizer.lr:g} shrinks what is learned"
        cure = f"--set optimizer.weight_decay={decay:g}; search: optimizer.weight_decay: "
        cure += f"{{float: [{decay / 10:g}, {decay * 10:g}], log: true}}"
        yield Change("weight decay", why, {"optimizer": {"weight_decay": decay}}, cure)
    augment = config.augment
    if augment.strength and _is_harsh(augment):
        why = "augmentation leaves little of the images"
        cure = "--set augment.strength=0; search: augment.strength: {float: [0, 1]}"
        yield Change("augmentation", why, {"augment": {"strength": 0.0}}, cure)
    if config.model.frozen_stages:
        why = f"{config.model.frozen_stages} stages are frozen"
        cure = "--set model.frozen_stages=0; search: model.frozen_stages: {int: [0, 4]}"
        yield Change("frozen stages", why, {"model": {"frozen_stages": 0}}, cure)
    if config.batch_size <= FEW and getattr(config.model, "norm", None) == "batch":
        why = f"batches of {config.batch_size} are too few for batch norm"
        cure = "--set batch_size=64, or --set model.norm=group; search: batch_size: {choice: [32, 64, 128]}"
        yield Change("batch size", why, {"batch_size": 64}, cure)
    if class_ratio(subject) > UNEVEN and config.regularization.imbalance == "none":
        why = f"the largest class has {class_ratio(subject):.1f} times the training images of the smallest"
        cure = "--set regularization.imbalance=balanced_sampling; search: regularization.imbalance: "
        cure += "{choice: [none, class_weights, balanced_sampling]}"
        yield Change("class imbalance", why, {"regularization": {"imbalance": "balanced_sampling"}}, cure)


def _rate(lr: float, steepest: float, times: float) -> Change:
    rate = float(f"{times * steepest:.1g}")
    why = f"the rate of {lr:g} is {lr / steepest:.2g} times the one at which the loss falls fastest, {steepest:.2g}"
    cure = f"--set optimizer.lr={rate:g}; search: optimizer.lr: {{float: [{rate / 5:g}, {rate * 5:g}], log: true}}"
    return Change("learning rate", why, {"optimizer": {"lr": rate}}, cure)


def _is_harsh(augment: Augment) -> bool:
    values = (augment.mixup, augment.cutout, augment.rotation, augment.color_jitter)
    harsh = any(value >= limit for value, limit in zip(values, HARSH, strict=True))
    return harsh or augment.cutmix >= HARSH[0] or augment.policy != "none" or augment.resized_crop < 0.3


def _heavy_decay(subject: Subject, found: RangeTest | None) -> float | None:
    """A usual weight decay, if the subject's is far above one; at a rate that is too high, for a better one."""
    optimizer = subject.config.optimizer
    if isinstance(optimizer, Adam | RMSprop):
        return 1e-4 if optimizer.weight_decay > HEAVY_PENALTY else None
    lr = optimizer.lr if found is None else min(optimizer.lr, 10 * found.steepest)
    lr *= 0.1 / (1 - optimizer.momentum) if isinstance(optimizer, SGD) else 1.0
    return float(f"{USUAL_SHRINK / lr:.1g}") if lr * optimizer.weight_decay > HEAVY * USUAL_SHRINK else None


def tried(subject: Subject, planned: Plan, best: float, gradient: Gradients, say: Say) -> list[Finding]:
    """Every suspect setting, tried; what was found of the learning rate is told in any case.

    Args:
        subject: who is examined.
        planned: the short trainings.
        best: accuracy (macro recall where classes are uneven) that the network has, its batch norms and images set
            right.
        gradient: as `signals.gradients` found it.
        say: is told what is being tried.
    """
    say(f"learning rate: a range test of {planned.steps} steps")
    found = range_test(subject, planned)
    suspects = list(changes(subject, found, gradient))
    told = "a range test found no rate at which the loss falls"
    if found is not None:
        told = f"{subject.config.optimizer.lr:g}, the loss falls fastest around {found.steepest:.2g}"
    findings = [healthy("learning rate", told)]
    uneven = class_ratio(subject) > UNEVEN
    if suspects:
        say(f"as configured: {planned.words}")
        before = short_run(subject, planned, {})
    for change in suspects:
        say(f"{change.name}: {planned.words} with {change.cure.partition(';')[0]}")
        after = short_run(subject, planned, change.tree)
        findings.insert(-1, _judged(change, planned, before, after, best, uneven))
    return _the_narrowest(findings)


def _judged(change: Change, planned: Plan, before: Short, after: Short, best: float, uneven: bool) -> Finding:
    metric = "macro recall" if uneven else "accuracy"
    old, new = (one.recall if uneven else one.accuracy for one in (before, after))
    told = f"{change.why}; {planned.words} give {metric} {new:.3f} with {change.cure.partition(';')[0]}, {old:.3f} "
    told += f"without, and the whole training {best:.3f}"
    if new - old < MOVED or new < best - SLACK:
        return healthy(change.name, told)
    return Finding(Check(change.name, "problem", told, change.cure), new - old, Weight.SETTING)


def _the_narrowest(findings: list[Finding]) -> list[Finding]:
    """A cause that is a switch stands before a rate that makes up for it: clipping to nothing is one."""
    switches = ("clipping", "frozen stages", "batch size", "weight decay")
    if not any(one.is_alarm and one.check.name in switches for one in findings):
        return findings
    return [
        replace(one, gain=one.gain / 2) if one.is_alarm and one.check.name == "learning rate" else one
        for one in findings
    ]
