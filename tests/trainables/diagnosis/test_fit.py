from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.trainables.diagnosis.conftest import Opened
from tests.trainables.diagnosis.plants import DIGITS, config_of
from trainables.diagnosis.fit import last_rate, never_fell


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
