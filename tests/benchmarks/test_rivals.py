"""The searches that ours are compared with: each runs, and does what it is said to do."""

from __future__ import annotations

import pytest

from benchmarks.curves import IN_ORDER, Curve
from benchmarks.earlier import EarlierTrial, earlier_study
from benchmarks.one_epoch import OneEpoch
from benchmarks.rivals import SYSTEMS, Given, is_installed
from benchmarks.simulation import Outcome, simulate
from search.algorithms.searchers.random import RandomSearcher
from search.study.parse import load_study
from spaces import Scalar, walk
from spaces.domains import Domain

PRIOR = RandomSearcher(IN_ORDER.space, seed=1).suggest(0)


def in_domain(value: Scalar, domain: Domain) -> Scalar:
    assert domain.contains(value)
    return value


def outcome(system: str, seed: int) -> Outcome:
    assert PRIOR is not None
    points = [RandomSearcher(IN_ORDER.space, seed=9).suggest(number) for number in range(5)]
    earlier = [EarlierTrial(dict(point.values), (0.3, 0.5)) for point in points if point is not None]
    search = SYSTEMS[system](Given(IN_ORDER, dict.fromkeys(["he2015", "naive"], PRIOR.values), seed, 2, earlier))
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


def test_a_search_that_ended_earlier_has_chosen_the_trial_that_was_trained_furthest() -> None:
    ended = Outcome(((3.0, 0.5), (5.0, 0.7)), ((1.0, 0.6), (2.0, 0.4)), 0, 0, 0, 9.0)
    assert [ended.best_at(time) for time in (0.5, 1.0, 2.5, 4.0, 6.0)] == [0.0, 0.6, 0.4, 0.5, 0.7]
    assert ended.best == 0.7
    search = SYSTEMS["random"](Given(IN_ORDER, {}, 1, 2, []))
    cut = simulate(IN_ORDER, search, seed=0, workers=1, seconds=20)
    assert cut.best == 0.0
    assert cut.best_at(20) > 0.1


def test_an_earlier_study_is_of_the_space_of_the_recorded_curves_and_its_best_are_first() -> None:
    trials = earlier_study(0)
    space = load_study("benchmarks/cifar10_resnet8.yaml").parsed_space
    for trial in trials:
        assert walk(space, lambda key, domain, trial=trial: in_domain(trial.values[key], domain)).values == trial.values
    last = [trial.curve[-1] for trial in trials]
    assert last == sorted(last, reverse=True)
    assert earlier_study(1) != trials
