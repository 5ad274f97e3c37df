"""The searches that ours are compared with: each runs, and does what it is said to do."""

from __future__ import annotations

import pytest

from benchmarks.curves import IN_ORDER, Curve
from benchmarks.one_epoch import OneEpoch
from benchmarks.rivals import SYSTEMS, Given, is_installed
from benchmarks.simulation import Outcome, simulate
from search.algorithms.searchers.random import RandomSearcher

PRIOR = RandomSearcher(IN_ORDER.space, seed=1).suggest(0)


def outcome(system: str, seed: int) -> Outcome:
    assert PRIOR is not None
    search = SYSTEMS[system](Given(IN_ORDER, PRIOR.values, seed, 2))
    return simulate(IN_ORDER, search, seed=0, workers=4, seconds=150)


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_search_trains_some_trials_to_the_end_and_repeats_itself(system: str) -> None:
    if not is_installed(system):
        pytest.skip(f"{system} is not installed: benchmarks/rivals.txt")
    found = outcome(system, 3)
    assert found.finished >= 1
    assert 0.2 < found.best < 1
    assert found == outcome(system, 3)
    assert found != outcome(system, 4)


def test_one_epoch_spends_half_on_first_epochs_and_half_on_the_best() -> None:
    search = OneEpoch(IN_ORDER, seed=3, trainings=8)
    found = simulate(IN_ORDER, search, seed=0, workers=4, seconds=10_000)
    assert found.trials == 108
    assert found.finished == 4
    assert found.epochs == 108 + 4 * 26
    points = [RandomSearcher(IN_ORDER.space, 3).suggest(number) for number in range(108)]
    curves: list[Curve] = [IN_ORDER.curve(point.values, 0) for point in points if point is not None]
    best = sorted(curves, key=lambda curve: -curve.reported[0])[:4]
    assert found.best == max(best, key=lambda curve: curve.reported[-1]).final


def test_what_was_found_by_a_time_is_what_a_shorter_search_finds() -> None:
    assert Outcome(((1.0, 0.5), (3.0, 0.7)), 0, 0, 0, 9.0).best_at(2.0) == 0.5
    assert Outcome(((1.0, 0.5), (3.0, 0.7)), 0, 0, 0, 9.0).best_at(0.5) == 0.0
