"""What every scheduler must do: inherit `SchedulerSuite` and define `make`."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from search.algorithms.schedulers.base import Decision, Promotion, Scheduler
from trainables.result import Mode

__all__ = ["EPOCHS", "Mode", "SchedulerSuite", "curves", "results"]

EPOCHS = 27  # the longest a trial of the suite runs
MODES: tuple[Mode, ...] = ("max", "min")


@dataclass(frozen=True)
class Reported:
    """A result that the scheduler was given, and its decision."""

    trial: int
    epoch: int
    value: float
    decision: Decision


@dataclass(frozen=True)
class Asked:
    """A worker was free: the scheduler's answer, which was then done."""

    final: bool
    promotion: Promotion | None


Step = Reported | Asked


def curves(trials: int, seed: int = 0) -> np.ndarray:
    """Noisy rising curves that cross, one a row, rounded so that some values tie; shape [trials, EPOCHS], in 0..1."""
    draws = np.random.default_rng(seed)
    final, rate = draws.uniform(0.3, 0.9, (trials, 1)), draws.uniform(0.05, 1.0, (trials, 1))
    clean = final * (1 - np.exp(-rate * np.arange(1, EPOCHS + 1)))
    noisy: np.ndarray = np.round(np.clip(clean + draws.normal(0, 0.02, clean.shape), 0, 1), 2)
    return noisy


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


def again(
    scheduler: Scheduler, happened: Iterable[Step], of: Callable[[float], float] = lambda value: value
) -> list[Step]:
    """What another scheduler says at each step, where it is given what `happened` and not what it says itself.

    Every value is changed by `of`.
    """
    answers: list[Step] = []
    for step in happened:
        if isinstance(step, Reported):
            decision = scheduler.on_result(step.trial, step.epoch, of(step.value))
            answers.append(Reported(step.trial, step.epoch, step.value, decision))
        else:
            answers.append(Asked(step.final, scheduler.promotion(step.final)))
            replay(scheduler, [step])
    return answers


def replay(scheduler: Scheduler, happened: Iterable[Step]) -> None:
    """What a journal holds, again."""
    for step in happened:
        if isinstance(step, Reported):
            scheduler.on_result(step.trial, step.epoch, step.value)
        elif step.promotion is not None:
            scheduler.leave(step.promotion.trial, step.promotion.rung)


def mirrored(step: Step) -> Step:
    """The same step with the sign of its cutoff changed."""

    def flip(cutoff: float | None) -> float | None:
        return None if cutoff is None else -cutoff

    if isinstance(step, Reported):
        made = step.decision
        return Reported(step.trial, step.epoch, step.value, Decision(made.action, made.rung, flip(made.cutoff)))
    promoted = step.promotion
    return Asked(step.final, promoted and Promotion(promoted.trial, promoted.rung, flip(promoted.cutoff)))


class SchedulerSuite:
    """Subclasses define `make`; trials run `EPOCHS` epochs at most."""

    def make(self, mode: Mode, protected: Container[int]) -> Scheduler:
        """A fresh scheduler that never stops or pauses `protected` trials."""
        raise NotImplementedError

    def test_killed_and_replayed_it_continues_as_if_never_stopped(self) -> None:
        for concurrent in (1, 4):
            happened = list(steps(self.make("max", range(2)), curves(40), concurrent))
            for killed_after in (0, 1, 13, 60, 150):
                second = self.make("max", range(2))
                replay(second, happened[:killed_after])
                assert again(second, happened[killed_after:]) == happened[killed_after:]

    def test_whatever_comes_twice_changes_nothing(self) -> None:
        once, often = self.make("max", ()), self.make("max", ())
        for step in steps(once, curves(40), concurrent=3):
            for final in (True, False, True):
                assert often.promotion(final) == often.promotion(final)
            assert again(often, [step]) == [step]
            replay(often, [step])
            if isinstance(step, Reported):
                assert often.on_result(step.trial, step.epoch, 1 - step.value) == step.decision

    def test_min_mirrors_max(self) -> None:
        happened = list(steps(self.make("max", range(2)), curves(40), concurrent=3))
        assert list(map(mirrored, again(self.make("min", range(2)), happened, lambda value: -value))) == happened

    def test_it_decides_at_the_rungs_of_a_trial_and_nowhere_else(self) -> None:
        scheduler = self.make("max", ())
        for result in results(scheduler, curves(40), concurrent=4):
            rungs = scheduler.rungs(result.trial)
            assert rungs == tuple(sorted({rung for rung in rungs if 0 < rung < EPOCHS}))
            if result.epoch in rungs:
                assert result.decision.rung == result.epoch
            else:
                assert result.decision == Decision()

    def test_neither_a_rung_that_was_skipped_nor_a_value_that_is_not_finite_counts(self) -> None:
        for touched, untouched in [[self.make(mode, (101,)) for _ in "ab"] for mode in MODES]:
            for level in touched.rungs(100):
                if level + 1 not in touched.rungs(100):
                    assert touched.on_result(100, level + 1, 1.0) == Decision()
            for trial, value in enumerate((math.nan, math.inf, -math.inf), start=200):
                for level in touched.rungs(trial):
                    assert touched.on_result(trial, level, value).action == "stop"
            for level in touched.rungs(101):
                assert touched.on_result(101, level, math.nan).action == "continue"
            happened = list(steps(touched, curves(20)))
            assert again(untouched, happened) == happened

    def test_protected_trials_always_continue(self) -> None:
        protected, values = {0, 7, 25}, curves(30)
        for mode in MODES:
            values[list(protected)] = 0.0 if mode == "max" else 1.0
            scheduler = self.make(mode, protected)
            held_up = {result.trial for result in results(scheduler, values, 2) if result.decision.action != "continue"}
            assert not held_up & protected

    def test_only_what_is_paused_is_promoted_and_a_trial_reaches_the_end(self) -> None:
        for trials, concurrent in ((1, 1), (2, 4), (3, 1), (40, 1), (40, 4)):
            scheduler = self.make("max", ())
            paused: dict[int, int] = {}
            epochs = dict.fromkeys(range(trials), 0)
            for step in steps(scheduler, curves(trials), concurrent):
                if isinstance(step, Reported):
                    assert step.trial not in paused
                    assert step.epoch == epochs[step.trial] + 1
                    epochs[step.trial] = step.epoch
                    if step.decision.action == "pause":
                        assert scheduler.pauses
                        paused[step.trial] = step.epoch
                elif step.promotion is not None:
                    assert paused.pop(step.promotion.trial) == step.promotion.rung
            assert max(epochs.values()) == EPOCHS
            assert scheduler.promotion(final=True) is None
