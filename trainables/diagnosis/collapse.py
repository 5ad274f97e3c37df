"""Networks that predict one class, and classes of which there are too few images."""

from __future__ import annotations

import torch

from trainables.check import Check
from trainables.diagnosis.finding import Finding, Weight, healthy
from trainables.diagnosis.subject import Outcome, Subject
from trainables.proportion import wilson_interval

__all__ = ["class_ratio", "collapsed", "imbalance"]

ONE_CLASS = 0.95  # share of the predictions
NEAR_CHANCE = 1.5  # macro recall of a network that says nothing is 1/K; up to so many times that
UNEVEN = 3.0  # largest class over smallest
MOVED = 0.05  # of macro recall


def collapsed(outcome: Outcome, subject: Subject) -> Finding:
    """Whether the network predicts one class: by its predictions, its macro recall, and the majority's share."""
    counts = torch.bincount(outcome.predicted, minlength=subject.num_classes)
    share, label = float(counts.max() / len(outcome)), int(counts.argmax())
    present = len(torch.unique(outcome.labels))
    majority = int(torch.bincount(outcome.labels).max())
    told = f"{share:.0%} of the predictions are {subject.class_name(label)!r}"
    told += f", macro recall {outcome.recall:.3f} (1/K is {1 / present:.3f})"
    no_better = outcome.accuracy <= wilson_interval(majority, len(outcome))[1]
    if share <= ONE_CLASS or present < 2 or outcome.recall > NEAR_CHANCE / present or not no_better:
        return healthy("collapse", told)
    told += f"; accuracy {outcome.accuracy:.3f} is no better than the largest class's share"
    cure = "mend what else is named; if nothing is, lower the rate: --set optimizer.lr=0.01; search: optimizer.lr"
    return Finding(Check("collapse", "problem", told, cure), weight=Weight.SYMPTOM)


def class_ratio(subject: Subject) -> float:
    """Images of the largest class by those of the smallest, in the training split."""
    counts = torch.bincount(subject.splits.train.labels, minlength=len(subject.splits.store.class_names))
    return float(counts.max() / counts.min().clamp(min=1))


def imbalance(subject: Subject) -> Finding:
    """Whether rare classes are lost: the logits less the log of each class's share, as if all were equally frequent.

    That is the logit adjustment of Menon et al. 2020, done afterwards; its gain is in macro recall.
    """
    ratio = class_ratio(subject)
    labels = subject.labels(subject.splits.train)
    counts = torch.bincount(labels, minlength=subject.val.logits.shape[1]).float()
    told = f"the largest class has {ratio:.1f} times the training images of the smallest"
    if ratio <= UNEVEN or subject.config.regularization.imbalance != "none":
        return healthy("class imbalance", told)
    prior = (counts / counts.sum()).clamp(min=1e-6).log()
    before, after = subject.val.recall, subject.val.recall_of((subject.val.logits - prior).argmax(1))
    share = float(counts.max() / counts.sum())
    often = subject.class_name(int(counts.argmax()))
    told += f" ({often!r} has {share:.0%}); with its share taken out of the logits macro recall goes from "
    told += f"{before:.3f} to {after:.3f}"
    if after - before < MOVED:
        return healthy("class imbalance", told)
    cure = (
        "--set regularization.imbalance=balanced_sampling; search: regularization.imbalance: "
        "{choice: [none, class_weights, balanced_sampling]}, with --set objective.metric=val_f1"
    )
    return Finding(Check("class imbalance", "problem", told, cure), after - before, Weight.SETTING)
