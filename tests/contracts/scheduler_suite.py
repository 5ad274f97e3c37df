"""What every scheduler must do. Inherit `SchedulerSuite` in a test module and override the fixture `make`."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator
from typing import Literal

import numpy as np
import pytest

from search.schedulers import Decision, Scheduler

Mode = Literal["max", "min"]
Make = Callable[[Mode, Container[int]], Scheduler]
EPOCHS = 27  # the longest a trial of the suite runs

Told = tuple[int, int, float]  # trial, epoch, value


def curves(trials: int, seed: int = 0) -> np.ndarray:
    """Noisy rising curves that cross, one a row, rounded so that some values tie; shape [trials, EPOCHS], in 0..1."""
    draws = np.random.default_rng(seed)
    final, rate = draws.uniform(0.3, 0.9, (trials, 1)), draws.uniform(0.05, 1.0, (trials, 1))
    clean = final * (1 - np.exp(-rate * np.arange(1, EPOCHS + 1)))
    return np.round(np.clip(clean + draws.normal(0, 0.02, clean.shape), 0, 1), 2)


def results(scheduler: Scheduler, values: np.ndarray, concurrent: int = 1) -> Iterator[tuple[Told, Decision]]:
    """Run the trials, `concurrent` at a time, one epoch each in turn; one that ends makes room for the next."""
    waiting = list(range(len(values)))
    under_way: list[list[int]] = []
    while waiting or under_way:
        while waiting and len(under_way) < concurrent:
            under_way.append([waiting.pop(0), 0])
        for trial in list(under_way):
            trial[1] += 1
            told = (trial[0], trial[1], float(values[trial[0], trial[1] - 1]))
            decision = scheduler.on_result(*told)
            yield told, decision
            if decision.stop or trial[1] == EPOCHS:
                under_way.remove(trial)


class SchedulerSuite:
    """Subclasses override `make`, which takes mode and exempt trials; trials run `EPOCHS` epochs at most."""

    @pytest.fixture
    def make(self) -> Make:
        raise NotImplementedError

    @pytest.mark.parametrize("concurrent", [1, 4])
    def test_replayed_results_give_the_same_decisions(self, make: Make, concurrent: int) -> None:
        first, again = make("max", range(2)), make("max", range(2))
        happened = list(results(first, curves(40), concurrent))
        assert [again.on_result(*told) for told, _ in happened] == [decision for _, decision in happened]
        assert again.rungs == first.rungs

    @pytest.mark.parametrize("killed_after", [0, 1, 13, 60, 150])
    def test_killed_and_replayed_it_goes_on_as_if_never_stopped(self, make: Make, killed_after: int) -> None:
        first, second = make("max", range(2)), make("max", range(2))
        happened = list(results(first, curves(40), concurrent=4))
        for told, _ in happened[:killed_after]:
            second.on_result(*told)
        assert [second.on_result(*told) for told, _ in happened[killed_after:]] == [
            d for _, d in happened[killed_after:]
        ]
        assert second.rungs == first.rungs

    def test_a_repeated_result_enters_nothing_and_is_decided_as_before(self, make: Make) -> None:
        once, often = make("max", ()), make("max", ())
        for told, decision in results(once, curves(40), concurrent=3):
            trial, epoch, value = told
            assert often.on_result(*told) == decision
            assert often.on_result(*told) == decision
            assert often.on_result(trial, epoch, 1 - value) == decision
        assert often.rungs == once.rungs

    def test_min_mirrors_max(self, make: Make) -> None:
        largest, smallest = make("max", range(2)), make("min", range(2))
        for (trial, epoch, value), decision in results(largest, curves(40), concurrent=3):
            mirrored = smallest.on_result(trial, epoch, -value)
            assert (mirrored.stop, mirrored.rung) == (decision.stop, decision.rung)
            assert mirrored.cutoff == (None if decision.cutoff is None else -decision.cutoff)
        assert smallest.rungs == {
            level: {trial: -value for trial, value in rung.items()} for level, rung in largest.rungs.items()
        }

    def test_each_rung_holds_each_trial_once_with_its_value_of_that_epoch(self, make: Make) -> None:
        scheduler, values = make("max", range(2)), curves(40)
        reached = [told for told, _ in results(scheduler, values, concurrent=4)]
        assert list(scheduler.rungs) == sorted(scheduler.rungs)
        for level, rung in scheduler.rungs.items():
            assert 0 < level < EPOCHS
            assert rung == {trial: value for trial, epoch, value in reached if epoch == level}

    def test_between_rungs_nothing_is_decided(self, make: Make) -> None:
        scheduler = make("max", ())
        for (_, epoch, _), decision in results(scheduler, curves(40), concurrent=4):
            if epoch in scheduler.rungs:
                assert decision.rung == epoch
            else:
                assert decision == Decision(stop=False)

    def test_a_trial_that_skipped_a_rung_is_not_entered_there(self, make: Make) -> None:
        scheduler = make("max", ())
        list(results(scheduler, curves(12)))
        for level in list(scheduler.rungs):
            before = dict(scheduler.rungs[level])
            scheduler.on_result(100 + level, level + 1, 1.0)
            assert scheduler.rungs[level] == before

    @pytest.mark.parametrize("mode", ["max", "min"])
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_value_that_is_not_finite_enters_no_rung(self, make: Make, mode: Mode, value: float) -> None:
        scheduler, untouched = make(mode, (101,)), make(mode, (101,))
        for level in scheduler.rungs:
            scheduler.on_result(100, level, value)
            assert not scheduler.on_result(101, level, value).stop
        happened = list(results(scheduler, curves(20)))
        assert [untouched.on_result(*told) for told, _ in happened] == [decision for _, decision in happened]
        assert scheduler.rungs == untouched.rungs
        assert all(decision.cutoff is None or math.isfinite(decision.cutoff) for _, decision in happened)

    @pytest.mark.parametrize("mode", ["max", "min"])
    def test_exempt_trials_enter_the_rungs_and_are_never_stopped(self, make: Make, mode: Mode) -> None:
        scheduler, values = make(mode, {0, 7, 25}), curves(30)
        values[[0, 7, 25]] = 0.0 if mode == "max" else 1.0
        stopped = {told[0] for told, decision in results(scheduler, values, concurrent=2) if decision.stop}
        assert not stopped & {0, 7, 25}
        assert all({0, 7, 25} <= set(rung) for rung in scheduler.rungs.values())

    def test_the_best_trial_so_far_is_never_stopped(self, make: Make) -> None:
        scheduler = make("max", ())
        best: dict[int, float] = {}
        for (_, epoch, value), decision in results(scheduler, curves(60), concurrent=4):
            if value >= best.get(epoch, value):
                best[epoch] = value
                assert not decision.stop
