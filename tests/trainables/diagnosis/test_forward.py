"""Checks that take forward passes alone, on a network that has learned the digits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from tests.trainables.diagnosis.conftest import Opened
from tests.trainables.diagnosis.plants import normalized, stale_statistics
from trainables.config import merge
from trainables.data.images import Images
from trainables.diagnosis.batch_norm import batch_norms, statistics
from trainables.diagnosis.collapse import collapsed, imbalance
from trainables.diagnosis.duplicates import duplicates
from trainables.diagnosis.finding import Weight
from trainables.diagnosis.labels import class_order, informative
from trainables.diagnosis.scale import preparation
from trainables.diagnosis.signals import dead_units, gradients, judged_gradients, moved, untouched
from trainables.diagnosis.subject import Outcome


def test_a_healthy_network_gives_no_cause(digits: dict[str, Any], subject_of: Opened) -> None:
    subject = subject_of(digits)
    assert subject.val.accuracy > 0.9
    norms = batch_norms(subject)
    found = [
        statistics(subject, norms), preparation(subject, norms)[0], duplicates(subject), class_order(subject),
        imbalance(subject), collapsed(subject.val, subject), informative(subject, learned=True), dead_units(subject),
        judged_gradients(subject, gradients(subject)), untouched(subject, moved(subject)),
    ]  # fmt: skip
    assert {one.check.status for one in found} == {"ok"}


def test_stale_statistics_are_re_estimated(digits: dict[str, Any], subject_of: Opened) -> None:
    subject = subject_of(stale_statistics(digits))
    found = statistics(subject, batch_norms(subject))
    assert (found.check.name, found.check.status) == ("batch norm", "problem")
    assert found.gain > 0.2
    assert "in train mode the same images give" in found.check.evidence
    few = replace(subject, config=subject.config.model_copy(update={"batch_size": 2}))
    assert statistics(few, batch_norms(few)).check.name == "batch size"


def test_the_subject_is_left_as_it_was(digits: dict[str, Any], subject_of: Opened) -> None:
    subject = subject_of(digits)
    before = {name: tensor.clone() for name, tensor in subject.model.state_dict().items()}
    batch_norms(subject)
    gradients(subject)
    dead_units(subject)
    assert all(torch.equal(before[name], tensor) for name, tensor in subject.model.state_dict().items())
    assert not subject.model.training


def test_a_wrong_normalization_is_named_with_the_right_one(digits: dict[str, Any], subject_of: Opened) -> None:
    subject = subject_of(normalized(digits, -2.0, 3.0))
    norms = batch_norms(subject)
    found, candidate = preparation(subject, norms)
    assert (found.check.name, found.check.status) == ("normalization", "problem")
    assert candidate is not None
    assert candidate.normalization.mean == subject.splits.store.mean
    assert f"{subject.splits.store.mean[0]:.4g}" in (found.check.next_step or "")


def test_one_class_is_a_collapse(digits: dict[str, Any], subject_of: Opened) -> None:
    subject = subject_of(digits)
    labels = subject.val.labels
    logits = torch.nn.functional.one_hot(torch.full_like(labels, 3), 10).float()
    assert collapsed(Outcome(logits, labels), subject).check.status == "problem"
    assert collapsed(Outcome(torch.nn.functional.one_hot(labels, 10).float(), labels), subject).check.status == "ok"
    # All of one class is no collapse where all images are of it.
    assert collapsed(Outcome(logits, torch.full_like(labels, 3)), subject).check.status == "ok"


def test_imbalance_is_found_by_taking_the_prior_out(digits: dict[str, Any], subject_of: Opened) -> None:
    subject = subject_of(digits)
    labels = subject.splits.train.labels
    rare = (labels == 1).nonzero().flatten()[:5]
    kept = torch.cat([(labels != 1).nonzero().flatten(), rare])
    pixels = subject.splits.train.batch(kept)
    few = replace(
        subject, splits=replace(subject.splits, train=Images(labels[kept], pixels, subject.splits.train.size))
    )
    prior = torch.bincount(labels[kept]).float().log()
    few.__dict__["val"] = Outcome(subject.val.logits / subject.val.logits.abs().max() * 3 + prior, subject.val.labels)
    found = imbalance(few)
    assert (found.check.name, found.check.status) == ("class imbalance", "problem")
    assert "balanced_sampling" in (found.check.next_step or "")


def test_training_images_among_the_validation_images_are_counted(digits: dict[str, Any], subject_of: Opened) -> None:
    subject = subject_of(digits)
    train, val = subject.splits.train, subject.splits.val
    pixels = val.batch(torch.arange(len(val)))
    pixels[:40], val.labels[:40] = train.batch(torch.arange(40)), train.labels[:40]
    leaking = replace(subject, splits=replace(subject.splits, val=Images(val.labels, pixels, val.size)))
    found = duplicates(leaking)
    assert (found.check.status, found.weight) == ("problem", Weight.DEFECT)
    assert found.check.evidence.startswith(f"40 of {len(val)} validation images are among")


def test_another_order_of_classes_is_found(digits: dict[str, Any], subject_of: Opened) -> None:
    subject = subject_of(digits)
    found = class_order(replace(subject, classes=tuple(reversed(subject.classes))))
    assert (found.check.name, found.check.status) == ("class order", "problem")
    assert found.gain > 0.5


def test_labels_without_meaning_are_told_from_a_network_without_skill(
    digits: dict[str, Any], subject_of: Opened
) -> None:
    subject = subject_of(digits)
    assert informative(subject, learned=False).check.status == "ok"
    train = subject.splits.train
    drawn = torch.randint(10, train.labels.shape, generator=torch.Generator().manual_seed(0))
    shuffled = Images(drawn, train.batch(torch.arange(len(train))), train.size)
    blind = replace(subject, splits=replace(subject.splits, train=shuffled))
    assert informative(blind, learned=False).check.status == "problem"


def test_weights_without_gradients_activity_or_change(digits: dict[str, Any], subject_of: Opened) -> None:
    fresh = subject_of(digits)
    config = merge(digits["config"], {"seed": 5})

    began = subject_of({**digits, "config": config}).initial
    untrained = subject_of({**digits, "config": config, "model": began.state_dict()})
    assert untouched(untrained, moved(untrained)).check.name == "nothing trained"
    assert moved(fresh) > 0.05
    dead = {name: -tensor.abs() - 1 if "bn1" in name else tensor for name, tensor in digits["model"].items()}
    still = subject_of({**digits, "model": {n: t.abs() if "running_var" in n else t for n, t in dead.items()}})
    assert dead_units(still).check.status == "warning"
    broken = {
        name: tensor * float("nan") if name == "fc.weight" else tensor for name, tensor in digits["model"].items()
    }
    lost = subject_of({**digits, "model": broken})
    assert judged_gradients(lost, gradients(lost)).check.status == "problem"
