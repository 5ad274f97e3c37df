from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.trainables.diagnosis.conftest import Opened
from tests.trainables.diagnosis.plants import DIGITS, config_of
from trainables.check import Check
from trainables.diagnosis.batch_norm import NAME as BATCH_NORM
from trainables.diagnosis.finding import Finding, Weight
from trainables.diagnosis.fit import lagging, last_rate, never_fell


def test_a_rate_that_patience_kept_from_falling_needs_time_and_no_other_schedule(
    digits: dict[str, Any], subject_of: Opened
) -> None:
    subject = subject_of(digits)
    changes = {**DIGITS, "epochs": 40, "regularization": {"patience": 3}}
    early = replace(subject, config=config_of(changes))
    assert len(early.history) == 4
    why, cure = never_fell(early, last_rate(early))
    assert why.startswith("patience ended the training after 4 of 40 epochs, before the rate fell (it ended at 9")
    assert cure.startswith("--epochs 4, or --set regularization.patience=6; search: ")
    constant = replace(subject, config=config_of({**changes, "schedule": {"kind": "constant"}}))
    assert "--set schedule.kind=cosine" in never_fell(constant, last_rate(constant))[1]


def test_batch_norms_that_lag_behind_a_rate_that_never_fell_are_told_as_the_rate(
    digits: dict[str, Any], subject_of: Opened
) -> None:
    subject, wrong = subject_of(digits), Finding(Check(BATCH_NORM, "problem", "off", "again"), 0.3, Weight.DEFECT)
    constant = replace(subject, config=config_of({**DIGITS, "epochs": 4, "schedule": {"kind": "constant"}}))
    ended_there = replace(constant, history=[{"val_loss": constant.val.loss}])
    found = lagging(ended_there, wrong)
    assert (found.check.name, found.gain, found.weight) == ("no decay", 0.3, Weight.DEFECT)
    assert "--set schedule.kind=cosine" in found.check.next_step
    stale_since = replace(constant, history=[{"val_loss": constant.val.loss / 2}])
    averaged = config_of({**DIGITS, "schedule": {"kind": "constant"}, "regularization": {"ema_decay": 0.9}})
    for other in (subject, stale_since, replace(ended_there, config=averaged), replace(constant, history=[])):
        assert lagging(other, wrong) is wrong
