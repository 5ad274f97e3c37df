"""Overfitting and underfitting: training accuracy against validation accuracy, how the curves ran, and what is left."""

from __future__ import annotations

import math
from dataclasses import replace

from trainables.check import Check
from trainables.diagnosis.batch_norm import NAME as BATCH_NORM
from trainables.diagnosis.finding import Finding, Weight, healthy
from trainables.diagnosis.short_runs import Plan, short_run
from trainables.diagnosis.subject import Say, Subject
from trainables.training.optim import lr_at

__all__ = ["curves", "lagging", "overfitting", "underfitting"]

GAP = 0.2  # of accuracy
LEFT = 0.4  # training errors by validation errors, at most
RISE = 1.2  # of val_loss since its lowest
MOVED = 0.05  # of accuracy
SLACK = 0.02
SAME = 1.2  # times the recorded val_loss: some of the images, other rounding
NOT_DECAYED = 0.3  # last learning rate by the highest


def overfitting(subject: Subject, train: float, val: float) -> Finding:
    """Whether the training images are known by heart.

    Args:
        subject: who is examined.
        train: training accuracy, its batch norms and images set right.
        val: validation accuracy, likewise.
    """
    history = [epoch["val_loss"] for epoch in subject.history if "val_loss" in epoch]
    gap = train - val
    told = f"accuracy {train:.3f} on training images, {val:.3f} on validation images"
    noise = 2 * math.sqrt(0.25 / len(subject.val) + 0.25 / len(subject.train))
    if len(history) > 2 and history[-1] > RISE * min(history):
        at = history.index(min(history)) + 1
        told += f"; val_loss has risen from {min(history):.3g} (epoch {at}) to {history[-1]:.3g}"
    if gap < max(GAP, noise) or (1 - train) > LEFT * (1 - val):
        return healthy("overfitting", told)
    cure = (
        "--set augment.policy=trivialaugment --set augment.flip=true --set optimizer.weight_decay=5e-4, or start from "
        "weights with --set model.pretrained=PATH; search: augment.strength: {float: [0, 1]}"
    )
    if subject.config.data.source == "digits":
        cure = cure.replace(" --set augment.flip=true", "")
    return Finding(Check("overfitting", "problem", told, cure), gap / 4, Weight.FIT)


def curves(subject: Subject) -> Finding:
    """Whether the loss was above ln K after its epochs: worse than a network that says nothing."""
    if not subject.history or subject.shortened:
        return Finding(Check("curves", "unknown", "there are no curves of the whole training"))
    losses = [epoch["val_loss"] for epoch in subject.history if "val_loss" in epoch]
    told = f"val_loss {losses[0]:.3g} after the first epoch, {losses[-1]:.3g} after {len(losses)}"
    told += f" (ln K is {subject.chance_loss:.3g})"
    if math.isfinite(losses[-1]) and losses[-1] < 1.1 * subject.chance_loss:
        return healthy("curves", told)
    cure = "--set optimizer.lr=0.01 --set schedule.warmup=0.1; search: optimizer.lr"
    return Finding(Check("curves", "warning", told, cure))


def last_rate(subject: Subject) -> float:
    """The learning rate of the last step that was trained, as a share of the highest."""
    config, epochs = subject.config, max(len(subject.history), 1)
    per_epoch = max(len(subject.splits.train) // config.batch_size, 1)
    total, losses = config.epochs * per_epoch, [epoch.get("val_loss", 0.0) for epoch in subject.history]
    rates = [
        lr_at(config.schedule, 1.0, min(epoch * per_epoch + per_epoch - 1, total - 1), total, per_epoch, losses)
        for epoch in range(epochs)
    ]
    return rates[-1] / max(*rates, 1e-12)


def lagging(subject: Subject, by_norms: Finding) -> Finding:
    """What is wrong with the batch norms, told as its cause where that is a learning rate that never fell.

    While weights still move far at every step, the running averages of their activations are of weights of the past.
    Statistics that went stale after the training are told apart by the recorded val_loss: it ended lower.
    """
    if by_norms.weight is not Weight.DEFECT or by_norms.check.name != BATCH_NORM or not subject.history:
        return by_norms
    share, averaged = last_rate(subject), subject.config.regularization.ema_decay > 0
    ended_better = subject.val.loss > SAME * subject.history[-1].get("val_loss", 0.0)
    if share < NOT_DECAYED or averaged or ended_better:
        return by_norms
    why, cure = never_fell(subject, share)
    told = f"{why}, and running statistics lag behind weights that still move; {by_norms.check.evidence}"
    return replace(by_norms, check=Check("no decay", "problem", told, cure))


def underfitting(subject: Subject, planned: Plan, val: float, say: Say) -> list[Finding]:
    """Whether a few more steps, with a rate that falls to 0, bring what the training has not.

    Args:
        subject: who is examined.
        planned: how many steps.
        val: validation accuracy, its batch norms and images set right.
        say: is told what is being tried.
    """
    config, share = subject.config, last_rate(subject)
    decayed = share < NOT_DECAYED
    rate = config.optimizer.lr * (0.3 if decayed else share)
    say(f"underfitting: {planned.words} more, down to a rate of 0")
    schedule = {"kind": "cosine", "warmup": 0.0, "final_ratio": 0.0}
    tree = {"schedule": schedule, "optimizer": {"lr": rate}}
    after = short_run(subject, planned, tree, continued=True)
    gain, lasting = after.accuracy - subject.val.accuracy, after.accuracy - val
    epochs = max(2 * config.epochs, 10)
    told = f"{planned.words} more, from a rate of {rate:.3g} down to 0, take accuracy from "
    told += f"{subject.val.accuracy:.3f}{_at_best(subject, val)} to {after.accuracy:.3f}"
    if lasting < MOVED and (decayed or gain < MOVED or lasting < -SLACK):
        return [healthy("underfitting", f"accuracy {subject.train.accuracy:.3f} on training images; {told}")]
    cure = f"--epochs {epochs}; search: the same study with --epochs {epochs}"
    if decayed:
        return [Finding(Check("too few epochs", "problem", told, cure), gain, Weight.FIT)]
    say(f"underfitting: {planned.words} more at the same rate")
    schedule = {"kind": "constant", "warmup": 0.0}
    still = short_run(subject, planned, {"schedule": schedule, "optimizer": {"lr": rate}}, continued=True)
    told += f", and to {still.accuracy:.3f} at a rate that stays"
    if after.accuracy - still.accuracy >= MOVED / 2:
        why, cure = never_fell(subject, share)
        return [Finding(Check("no decay", "problem", f"{why}; {told}", cure), gain, Weight.FIT)]
    if lasting < MOVED:  # what batch norms with other statistics bring as well
        return [healthy("underfitting", told)]
    return [Finding(Check("too few epochs", "problem", told, cure), gain, Weight.FIT)]


def never_fell(subject: Subject, share: float) -> tuple[str, str]:
    """Why the rate ended at this share of its highest, and what would make it fall."""
    config, trained = subject.config, len(subject.history)
    ended, patience = f"it ended at {share:.0%} of its highest", config.regularization.patience
    if patience is not None and trained < config.epochs and config.schedule.kind != "constant":
        why = f"patience ended the training after {trained} of {config.epochs} epochs, before the rate fell ({ended})"
        cure = f"--epochs {trained}, or --set regularization.patience={2 * patience}"
        return why, f"{cure}; search: the same study with either"
    cure = "--set schedule.kind=cosine; search: schedule.kind: {choice: {cosine: {}, one_cycle: {}, step: {}}}"
    return f"the rate never fell ({ended})", cure


def _at_best(subject: Subject, val: float) -> str:
    return f" ({val:.3f} with its batch norms or images set right)" if val > subject.val.accuracy else ""
