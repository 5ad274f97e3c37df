"""The promotion variant of ASHA: the contract, and Algorithm 2 of the paper word for word."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import numpy as np
import pytest

from search.algorithms.schedulers.asha_promote import AshaPromote
from search.algorithms.schedulers.base import Decision, Promotion, Scheduler
from search.testing.schedulers import EPOCHS, Mode, SchedulerSuite, curves


def promoting(**changes: Any) -> AshaPromote:
    settings: dict[str, Any] = {"epochs": EPOCHS, "grace_period": 1, "reduction_factor": 3, "mode": "max"}
    return AshaPromote(**{**settings, **changes})


class TestAshaPromote(SchedulerSuite):
    def make(self, mode: Mode, protected: Container[int]) -> Scheduler:
        return promoting(mode=mode, protected=protected)


class TestAshaPromoteWithALateStart(SchedulerSuite):
    def make(self, mode: Mode, protected: Container[int]) -> Scheduler:
        return promoting(mode=mode, protected=protected, grace_period=4, reduction_factor=2)


class Algorithm2:
    """Li et al. 2020, Algorithm 2, as it is printed, with a cap on the configurations drawn: `rungs[k]` holds
    (loss, configuration).
    """

    def __init__(self, levels: list[int], eta: int, configurations: int) -> None:
        self.targets = [*levels, EPOCHS]
        self.eta, self.drawn, self.configurations = eta, 0, configurations
        self.rungs: list[list[tuple[float, int]]] = [[] for _ in levels]
        self.already_promoted: list[set[int]] = [set() for _ in levels]

    def get_job(self) -> tuple[int, int] | None:
        for k in reversed(range(len(self.rungs))):
            candidates = sorted(self.rungs[k])[: len(self.rungs[k]) // self.eta]
            promotable = [t for _, t in candidates if t not in self.already_promoted[k]]
            if promotable:
                self.already_promoted[k].add(promotable[0])
                return promotable[0], k + 1
        if self.drawn == self.configurations:
            return None
        self.drawn += 1
        return self.drawn - 1, 0

    def run(self, values: np.ndarray, workers: int) -> list[tuple[int, int]]:
        """Every job, (configuration, rung), in the order of their starts; each worker trains an epoch in turn."""
        jobs: list[tuple[int, int]] = []
        busy: list[tuple[int, int, int] | None] = [None] * workers
        while True:
            for w in range(workers):
                if (current := busy[w]) is None:
                    if (job := self.get_job()) is not None:
                        jobs.append(job)
                        busy[w] = (*job, 0 if job[1] == 0 else self.targets[job[1] - 1])
                    current = busy[w]
                if current is None:
                    continue
                t, k, epoch = current[0], current[1], current[2] + 1
                busy[w] = (t, k, epoch)
                if epoch == self.targets[k]:
                    if k < len(self.rungs):
                        self.rungs[k].append((-values[t, epoch - 1], t))
                    busy[w] = None
                    # The worker asks for its next job at once, not on its next turn.
                    if (job := self.get_job()) is not None:
                        jobs.append(job)
                        busy[w] = (*job, 0 if job[1] == 0 else self.targets[job[1] - 1])
            if all(job is None for job in busy):
                return jobs


def jobs_of(scheduler: AshaPromote, values: np.ndarray, workers: int) -> list[tuple[int, int]]:
    """What a search makes of the scheduler's decisions, as the jobs of the paper; without the final phase."""
    targets = [*scheduler.rungs(0), EPOCHS]
    jobs: list[tuple[int, int]] = []
    new = iter(range(len(values)))
    busy: list[list[int] | None] = [None] * workers

    def next_job() -> list[int] | None:
        if (promotion := scheduler.promotion()) is not None:
            scheduler.leave(promotion.trial, promotion.rung)
            jobs.append((promotion.trial, targets.index(promotion.rung) + 1))
            return [promotion.trial, promotion.rung]
        if (trial := next(new, None)) is None:
            return None
        jobs.append((trial, 0))
        return [trial, 0]

    while True:
        for w in range(workers):
            current = busy[w] or next_job()
            busy[w] = current
            if current is None:
                continue
            current[1] += 1
            trial, epoch = current
            decision = scheduler.on_result(trial, epoch, float(values[trial, epoch - 1]))
            assert decision.action in ("continue", "pause")
            if decision.action == "pause" or epoch == EPOCHS:
                busy[w] = next_job()
            elif decision.rung is not None:
                jobs.append((trial, targets.index(decision.rung) + 1))
        if not any(busy):
            return jobs


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("grace", "eta"), [(1, 3), (2, 2), (3, 4)])
def test_it_hands_out_the_jobs_of_algorithm_2(grace: int, eta: int, seed: int, workers: int) -> None:
    scheduler, values = promoting(grace_period=grace, reduction_factor=eta), curves(60, seed)
    expected = Algorithm2(list(scheduler.rungs(0)), eta, len(values)).run(values, workers)
    assert jobs_of(scheduler, values, workers) == expected
    assert max(k for _, k in expected) == len(scheduler.rungs(0)), "nobody was trained to the end"


def test_a_trial_pauses_until_it_is_among_the_best_third() -> None:
    scheduler = promoting()
    assert scheduler.on_result(0, 1, 0.5) == Decision("pause", 1, None)
    assert scheduler.on_result(1, 1, 0.6) == Decision("pause", 1, None)
    assert scheduler.promotion() is None
    assert scheduler.on_result(2, 1, 0.4) == Decision("pause", 1, 0.6)
    assert scheduler.promotion() == Promotion(1, 1, 0.6)
    scheduler.leave(1, 1)
    assert scheduler.promotion() is None


def test_a_trial_that_would_be_taken_next_continues_in_place() -> None:
    scheduler = promoting()
    scheduler.on_result(0, 1, 0.5)
    scheduler.on_result(1, 1, 0.6)
    assert scheduler.on_result(2, 1, 0.7) == Decision("continue", 1, 0.7)
    assert scheduler.promotion() is None


def test_the_highest_rung_is_served_first() -> None:
    scheduler = promoting()
    for trial in range(3):
        scheduler.on_result(trial, 3, 0.5)
    for trial, value in ((10, 0.1), (11, 0.2)):
        scheduler.on_result(trial, 1, value)
    assert scheduler.promotion() == Promotion(0, 3, 0.5)
    assert scheduler.on_result(12, 1, 0.9) == Decision("pause", 1, 0.9), "the worker is wanted above"
    scheduler.leave(0, 3)
    assert scheduler.promotion() == Promotion(12, 1, 0.9)


def test_of_equal_trials_the_lower_number_is_promoted() -> None:
    scheduler = promoting()
    assert [scheduler.on_result(trial, 1, 0.5).action for trial in (7, 3, 5)] == ["pause"] * 3
    assert scheduler.promotion() == Promotion(3, 1, 0.5)


def test_protected_trials_take_a_place_among_the_best() -> None:
    scheduler = promoting(protected={0})
    assert scheduler.on_result(0, 1, 0.9) == Decision("continue", 1, None)
    assert [scheduler.on_result(trial, 1, 0.1 * trial).action for trial in range(1, 5)] == ["pause"] * 4
    assert scheduler.promotion() is None
    assert scheduler.promotion(final=True) is None
    assert scheduler.on_result(5, 1, 0.2).action == "pause"
    assert scheduler.promotion() == Promotion(4, 1, 0.4)


def test_in_the_end_each_rung_promotes_one() -> None:
    scheduler = promoting()
    scheduler.on_result(0, 1, 0.4)
    scheduler.on_result(1, 1, 0.5)
    assert scheduler.promotion() is None
    assert scheduler.promotion(final=True) == Promotion(1, 1, 0.5)
    scheduler.leave(1, 1)
    assert scheduler.promotion(final=True) is None
    assert scheduler.on_result(1, 3, 0.6) == Decision("pause", 3, None)
    assert scheduler.promotion(final=True) == Promotion(1, 3, 0.6)


def test_a_trial_that_ended_at_a_rung_is_not_promoted() -> None:
    scheduler = promoting()
    assert [scheduler.on_result(trial, 1, value).action for trial, value in enumerate((0.9, 0.1, 0.2))] == ["pause"] * 3
    scheduler.leave(0, 1)
    assert scheduler.promotion() is None
    assert scheduler.promotion(final=True) is None
