"""What a scheduler is expected to let through."""

from __future__ import annotations

from typing import Any

import pytest

from search.algorithms.forecast import expected_survivors
from search.algorithms.schedulers.asha import Asha
from search.algorithms.schedulers.asha_promote import AshaPromote
from search.algorithms.schedulers.base import Scheduler
from search.algorithms.schedulers.none import NoStopping

EPOCHS = 27
SETTINGS: dict[str, Any] = {"epochs": EPOCHS, "grace_period": 1, "reduction_factor": 3, "mode": "max"}


def asha() -> Asha:
    return Asha(**SETTINGS)


def promoting() -> AshaPromote:
    return AshaPromote(**SETTINGS)


def test_expected_survivors_agree_with_a_long_search() -> None:
    survival = expected_survivors(asha, trials=300, epochs=EPOCHS)
    assert list(survival.reached) == [1, 3, 9]
    assert survival.reached[1] == 300
    assert 300 / 3 < survival.reached[3] < 300 / 3 * 1.25  # above the share by the standard error of each rung so far
    assert survival.reached[3] / 3 < survival.reached[9] < survival.reached[3] * 0.6
    assert survival.reached[9] / 3 < survival.finished < survival.reached[9] * 0.8
    passed = [300, *list(survival.reached.values())[1:], survival.finished]
    lengths = [1, 2, 6, 18]
    assert survival.epochs == pytest.approx(sum(n * length for n, length in zip(passed, lengths, strict=True)))


def test_expected_survivors_without_stopping_is_everyone() -> None:
    survival = expected_survivors(NoStopping, trials=7, epochs=10)
    assert (survival.reached, survival.finished, survival.epochs) == ({}, 7, 70)


def test_expected_survivors_count_the_protected() -> None:
    survival = expected_survivors(lambda: Asha(**SETTINGS, protected=range(4)), trials=4, epochs=EPOCHS)
    assert survival.finished == 4


def test_promotion_is_expected_to_promote_a_third_of_each_rung_and_those_promoted_too_early() -> None:
    survival = expected_survivors(promoting, trials=300, epochs=EPOCHS)
    assert survival.reached[1] == 300
    assert 100 <= survival.reached[3] < 115
    assert survival.reached[3] / 3 <= survival.reached[9] < survival.reached[3] / 2
    assert survival.reached[9] / 3 <= survival.finished < survival.reached[9] / 2
    passed = [*survival.reached.values(), survival.finished]
    assert survival.epochs == pytest.approx(sum(n * length for n, length in zip(passed, (1, 2, 6, 18), strict=True)))


@pytest.mark.parametrize("trials", [1, 2])
def test_promotion_of_few_trials_is_expected_to_train_one_to_the_end(trials: int) -> None:
    survival = expected_survivors(promoting, trials=trials, epochs=EPOCHS)
    assert survival.reached == {1: trials, 3: 1, 9: 1}
    assert (survival.finished, survival.epochs) == (1, trials + 26)


def test_promotion_expects_the_protected_to_continue() -> None:
    def scheduler() -> Scheduler:
        return AshaPromote(**SETTINGS, protected=range(4))

    assert expected_survivors(scheduler, trials=4, epochs=EPOCHS).finished == 4
