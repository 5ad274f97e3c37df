"""The whole examination: what is looked at, in which order, and what explains what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from scipy.stats import binomtest

from trainables.check import Check
from trainables.diagnosis.batch_norm import NAME as BATCH_NORM
from trainables.diagnosis.batch_norm import batch_norms, statistics
from trainables.diagnosis.collapse import UNEVEN, class_ratio, collapsed, imbalance
from trainables.diagnosis.data_size import data_size
from trainables.diagnosis.duplicates import duplicates
from trainables.diagnosis.finding import Finding, Weight, healthy, ranked
from trainables.diagnosis.fit import curves, lagging, overfitting, underfitting
from trainables.diagnosis.labels import class_order, informative
from trainables.diagnosis.scale import preparation, scored
from trainables.diagnosis.settings import tried
from trainables.diagnosis.shape import shape
from trainables.diagnosis.short_runs import plan
from trainables.diagnosis.signals import dead_units, gradients, judged_gradients, moved, untouched
from trainables.diagnosis.subject import Outcome, Say, Subject

__all__ = ["examined"]

FITS = 0.9  # training accuracy (macro recall), from which the settings of the training are in order
SURE = 0.01  # largest p-value of a network that has learned something
BETTER = 0.02  # of accuracy
PROVEN = 0.05  # of accuracy, from which a setting explains what else is seen
MENDED = 0.1  # of accuracy, from which the settings are not judged before the images are prepared in another way
PREPARATION = ("normalization", "channel order", "class order")
LENGTH = ("too few epochs", "no decay")
CONSEQUENCES = (BATCH_NORM, "overfitting", "nothing trained", *LENGTH)


def examined(subject: Subject, say: Say) -> list[Check]:
    """Every check of a network, the cause first; `say` is told what is being tried."""
    say(f"scoring {len(subject.val):,} validation and {len(subject.train):,} training images")
    findings, best = _as_it_is(subject, say)
    findings += _by_training(subject, best, _is_mended(findings), say)
    return ranked(_explained(findings))


@dataclass(frozen=True)
class _Best:
    """What the network can do as it is: with the batch norms, or the images, that suit it best."""

    train: Outcome
    val: Outcome

    @property
    def learned(self) -> bool:
        """Whether it does better on validation images than the largest class would."""
        hits, count = round(self.val.accuracy * len(self.val)), len(self.val)
        chance = float(torch.bincount(self.val.labels).max()) / count
        return bool(binomtest(hits, count, chance, alternative="greater").pvalue < SURE)


def _as_it_is(subject: Subject, say: Say) -> tuple[list[Finding], _Best]:
    say("batch norm: re-estimating its statistics on training images")
    norms = batch_norms(subject)
    by_norms = lagging(subject, statistics(subject, norms))
    say("normalization and channel order: other ways to prepare the images")
    by_images, suited = preparation(subject, norms)
    say("duplicates, labels, classes, shape, activations")
    findings = [
        by_norms, by_images, duplicates(subject), class_order(subject), imbalance(subject),
        collapsed(subject.val, subject), shape(subject), dead_units(subject), curves(subject),
    ]  # fmt: skip
    best = _Best(subject.train, subject.val)
    if norms is not None and norms.val.accuracy > best.val.accuracy + BETTER:
        best = _Best(subject.outcome(subject.splits.train, model=norms.model), norms.val)
    if suited is not None:
        val = scored(subject, subject.splits.val, suited, len(subject.val))
        if val.accuracy > best.val.accuracy + BETTER:
            best = _Best(scored(subject, subject.splits.train, suited, len(subject.train)), val)
    return findings, best


def _is_mended(findings: Sequence[Finding]) -> bool:
    """Whether another preparation of the images is what the network lacked."""
    return any(
        one.check.name in PREPARATION and one.weight is Weight.DEFECT and one.gain >= MENDED
        for one in findings
        if one.is_alarm
    )


def _by_training(subject: Subject, best: _Best, mended: bool, say: Say) -> list[Finding]:
    """What short trainings say: of the settings where the training images are not fitted, of their number otherwise."""
    gradient, planned = gradients(subject), plan(subject) if subject.initial is not None else None
    findings = [judged_gradients(subject, gradient)]
    if subject.recorded:
        findings.append(untouched(subject, moved(subject)))
    uneven = class_ratio(subject) > UNEVEN
    fits = (best.train.recall if uneven else best.train.accuracy) >= FITS
    told = f"accuracy {best.train.accuracy:.3f} on training images"
    learned = best.learned
    if mended:
        told = "they are judged when images and network fit together: mend that, and ask again"
        findings.append(Finding(Check("settings", "unknown", told)))
    elif not subject.recorded:
        findings.append(healthy("settings", "the weights were not trained with this config"))
    elif planned is None:
        told = "no short trainings: the network is too large, of other classes, or its pretrained weights are gone"
        findings.append(Finding(Check("settings", "unknown", told)))
    elif fits:
        findings.append(healthy("settings", f"{told}: the training images are fitted"))
    else:
        found = tried(subject, planned, best.val.recall if uneven else best.val.accuracy, gradient, say)
        learned = learned or any(one.is_alarm for one in found)
        findings += found
        if best.learned and not subject.shortened and not any(one.is_alarm for one in found):
            findings += underfitting(subject, planned, best.val.accuracy, say)
    findings.append(informative(subject, learned))
    if subject.shortened:
        findings.append(Finding(Check("fit", "unknown", "the doctor has trained it for a short time only")))
        return findings
    overfitted = overfitting(subject, best.train.accuracy, best.val.accuracy)
    findings.append(overfitted)
    if planned is not None and subject.recorded and overfitted.is_alarm:
        findings.append(data_size(subject, planned, say))
    return findings


def _explained(findings: Sequence[Finding]) -> list[Finding]:
    """Causes told with the collapse that they bring about; what a wrong setting brings about behind it."""
    alarms = [one for one in findings if one.is_alarm]
    proven = any(one.weight is Weight.SETTING and one.gain >= PROVEN for one in alarms)
    length = max((one.gain for one in alarms if one.check.name in LENGTH), default=0.0)
    collapse = next((one for one in alarms if one.check.name == "collapse"), None)
    found = []
    for one in findings:
        # More steps set batch norms right as well.
        explained = one.check.name in CONSEQUENCES if proven else one.check.name == BATCH_NORM and one.gain < length
        if one.is_alarm and explained:
            one = replace(one, weight=Weight.SYMPTOM)
        elif one.is_alarm and collapse is not None and one.weight < Weight.SYMPTOM:
            one = one.told_with(f"the network has collapsed: {collapse.check.evidence.partition(';')[0]}")
        found.append(one)
    return found
