"""What every scheduler must do. Inherit `SchedulerSuite` in a test module and override the fixture `make`."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest

from search.algorithms.schedulers.base import Decision, Promotion, Scheduler

Mode = Literal["max", "min"]
Make = Callable[[Mode, Container[int]], Scheduler]
EPOCHS = 27  # the longest a trial of the suite runs


@dataclass(frozen=True)
class Reported:
    """A result told to the scheduler, and its decision."""

    trial: int
    epoch: int
    value: float
    decision: Decision


@dataclass(frozen=True)
class Asked:
    """A worker was free: what the scheduler answered, which was then done."""

    final: bool
    promotion: Promotion | None


Step = Reported | Asked


def curves(trials: int, seed: int = 0) -> np.ndarray:
    """Noisy rising curves that cross, one a row, rounded so that some values tie; shape [trials, EPOCHS], in 0..1."""
    draws = np.random.default_rng(seed)
    final, rate = draws.uniform(0.3, 0.9, (trials, 1)), draws.uniform(0.05, 1.0, (trials, 1))
    clean = final * (1 - np.exp(-rate * np.arange(1, EPOCHS + 1)))
    return np.round(np.clip(clean + draws.normal(0, 0.02, clean.shape), 0, 1), 2)


def steps(scheduler: Scheduler, values: np.ndarray, concurrent: int = 1) -> Iterator[Step]:
    """Run the trials on `concurrent` workers, one epoch each in turn; a worker that is free takes a promotion or else
    the next trial.
    """
    new = deque(range(len(values)))
    workers: list[list[int] | None] = [None] * concurrent  # trial and epoch
    while True:
        for index, worker in enumerate(workers):
            if worker is None:
                final = not new and not any(workers)
                promotion = scheduler.promotion(final)
                yield Asked(final, promotion)
                if promotion is not None:
                    scheduler.leave(promotion.trial, promotion.rung)
                    workers[index] = [promotion.trial, promotion.rung]
                elif new:
                    workers[index] = [new.popleft(), 0]
                elif final:
                    return
                continue
            worker[1] += 1
            trial, epoch = worker
            value = float(values[trial, epoch - 1])
            decision = scheduler.on_result(trial, epoch, value)
            yield Reported(trial, epoch, value, decision)
            if decision.action != "continue" or epoch == EPOCHS:
                workers[index] = None


def results(scheduler: Scheduler, values: np.ndarray, concurrent: int = 1) -> Iterator[Reported]:
    """Run the trials as `steps` does: what was reported."""
    return (step for step in steps(scheduler, values, concurrent) if isinstance(step, Reported))


def again(scheduler: Scheduler, happened: Iterable[Step]) -> list[Step]:
    """Ask the same of another scheduler; what it is told follows `happened`, not its own answers."""
    answers: list[Step] = []
    for step in happened:
        if isinstance(step, Reported):
            decision = scheduler.on_result(step.trial, step.epoch, step.value)
            answers.append(Reported(step.trial, step.epoch, step.value, decision))
        else:
            answers.append(Asked(step.final, scheduler.promotion(step.final)))
            replay(scheduler, [step])
    return answers


def replay(scheduler: Scheduler, happened: Iterable[Step]) -> None:
    """Tell what happened, as a journal holds it: nothing is asked."""
    for step in happened:
        if isinstance(step, Reported):
            scheduler.on_result(step.trial, step.epoch, step.value)
        elif step.promotion is not None:
            scheduler.leave(step.promotion.trial, step.promotion.rung)


class SchedulerSuite:
    """Subclasses override `make`, which takes mode and protected trials; trials run `EPOCHS` epochs at most."""

    @pytest.fixture
    def make(self) -> Make:
        raise NotImplementedError

    @pytest.mark.parametrize("concurrent", [1, 4])
    def test_replayed_results_give_the_same_decisions(self, make: Make, concurrent: int) -> None:
        first, second = make("max", range(2)), make("max", range(2))
        happened = list(steps(first, curves(40), concurrent))
        assert again(second, happened) == happened
        assert second.rungs == first.rungs

    @pytest.mark.parametrize("killed_after", [0, 1, 13, 60, 150])
    def test_killed_and_replayed_it_goes_on_as_if_never_stopped(self, make: Make, killed_after: int) -> None:
        first, second = make("max", range(2)), make("max", range(2))
        happened = list(steps(first, curves(40), concurrent=4))
        replay(second, happened[:killed_after])
        assert again(second, happened[killed_after:]) == happened[killed_after:]
        assert second.rungs == first.rungs

    def test_whatever_is_told_twice_changes_nothing(self, make: Make) -> None:
        once, often = make("max", ()), make("max", ())
        for step in steps(once, curves(40), concurrent=3):
            assert again(often, [step]) == [step]
            replay(often, [step])
            if isinstance(step, Reported):
                assert often.on_result(step.trial, step.epoch, 1 - step.value) == step.decision
        assert often.rungs == once.rungs

    def test_min_mirrors_max(self, make: Make) -> None:
        def mirrored(value: float | None) -> float | None:
            return None if value is None else -value

        largest, smallest = make("max", range(2)), make("min", range(2))
        for step in steps(largest, curves(40), concurrent=3):
            if isinstance(step, Reported):
                decision = smallest.on_result(step.trial, step.epoch, -step.value)
                of_max = step.decision
                assert decision == Decision(of_max.action, of_max.rung, mirrored(of_max.cutoff))
            elif step.promotion is None:
                assert smallest.promotion(step.final) is None
            else:
                trial, rung = step.promotion.trial, step.promotion.rung
                assert smallest.promotion(step.final) == Promotion(trial, rung, mirrored(step.promotion.cutoff))
                smallest.leave(trial, rung)
        assert smallest.rungs == {
            level: {trial: -value for trial, value in rung.items()} for level, rung in largest.rungs.items()
        }

    def test_each_rung_holds_each_trial_once_with_its_value_of_that_epoch(self, make: Make) -> None:
        scheduler, values = make("max", range(2)), curves(40)
        reached = list(results(scheduler, values, concurrent=4))
        assert list(scheduler.rungs) == sorted(scheduler.rungs)
        for level, rung in scheduler.rungs.items():
            assert 0 < level < EPOCHS
            assert rung == {told.trial: told.value for told in reached if told.epoch == level}

    def test_between_rungs_nothing_is_decided(self, make: Make) -> None:
        scheduler = make("max", ())
        for told in results(scheduler, curves(40), concurrent=4):
            if told.epoch in scheduler.rungs:
                assert told.decision.rung == told.epoch
            else:
                assert told.decision == Decision()

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
            assert scheduler.on_result(100, level, value).action == "stop"
            assert scheduler.on_result(101, level, value).action == "continue"
        happened = list(steps(scheduler, curves(20)))
        assert again(untouched, happened) == happened
        assert scheduler.rungs == untouched.rungs
        cutoffs = [step.decision.cutoff for step in happened if isinstance(step, Reported)]
        assert all(cutoff is None or math.isfinite(cutoff) for cutoff in cutoffs)

    @pytest.mark.parametrize("mode", ["max", "min"])
    def test_exempt_trials_enter_the_rungs_and_always_go_on(self, make: Make, mode: Mode) -> None:
        scheduler, values = make(mode, {0, 7, 25}), curves(30)
        values[[0, 7, 25]] = 0.0 if mode == "max" else 1.0
        held_up = {told.trial for told in results(scheduler, values, 2) if told.decision.action != "continue"}
        assert not held_up & {0, 7, 25}
        assert all({0, 7, 25} <= set(rung) for rung in scheduler.rungs.values())

    def test_the_best_trial_so_far_is_never_stopped(self, make: Make) -> None:
        scheduler = make("max", ())
        best: dict[int, float] = {}
        for told in results(scheduler, curves(60), concurrent=4):
            if told.value >= best.get(told.epoch, told.value):
                best[told.epoch] = told.value
                assert not told.decision.stop

    @pytest.mark.parametrize("concurrent", [1, 4])
    @pytest.mark.parametrize("trials", [1, 2, 3, 40])
    def test_only_what_is_paused_is_promoted_and_somebody_reaches_the_end(
        self, make: Make, trials: int, concurrent: int
    ) -> None:
        scheduler = make("max", ())
        paused: dict[int, int] = {}
        epochs = dict.fromkeys(range(trials), 0)
        for step in steps(scheduler, curves(trials), concurrent):
            if isinstance(step, Reported):
                assert step.trial not in paused
                assert step.epoch == epochs[step.trial] + 1
                epochs[step.trial] = step.epoch
                if step.decision.action == "pause":
                    paused[step.trial] = step.epoch
            elif step.promotion is not None:
                assert paused.pop(step.promotion.trial) == step.promotion.rung
        assert max(epochs.values()) == EPOCHS
        assert scheduler.promotion(final=True) is None

    def test_asking_for_a_promotion_changes_nothing(self, make: Make) -> None:
        quiet, asked = make("max", ()), make("max", ())
        for step in steps(quiet, curves(40), concurrent=3):
            assert [asked.promotion(final) for final in (True, False)] == [
                asked.promotion(final) for final in (True, False)
            ]
            assert again(asked, [step]) == [step]

    def test_what_never_came_to_a_rung_cannot_be_promoted_there(self, make: Make) -> None:
        scheduler = make("max", ())
        for level in (2, *scheduler.rungs):
            with pytest.raises(ValueError, match=f"trial 5 is not paused at epoch {level}"):
                scheduler.leave(5, level)
