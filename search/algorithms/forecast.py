"""What a scheduler is expected to let through, estimated before a search starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from search.algorithms.schedulers.base import Scheduler

__all__ = ["Survival", "expected_survivors"]


@dataclass(frozen=True, slots=True)
class Survival:
    """What a scheduler is expected to let through.

    `reached` holds, by the epoch of the rung, the mean number of trials that reach it; `finished` is the mean number
    that run all their epochs, `epochs` the mean number of epochs trained in all. `pauses` is the scheduler's.
    """

    reached: dict[int, float]
    finished: float
    epochs: float
    pauses: bool


def expected_survivors(scheduler: Callable[[], Scheduler], trials: int, epochs: int) -> Survival:
    """Estimate how many trials reach each rung, by simulating the scheduler itself.

    The simulated trials run one after another, promotions before new trials, have distinct random values and keep their
    rank from rung to rung; no trial ends for another reason.

    Args:
        scheduler: makes a fresh scheduler.
        trials: how many trials, protected ones included.
        epochs: the longest a trial runs.
    """
    draws = np.random.default_rng(0)
    repeats = max(20, min(500, 20_000 // max(trials, 1)))
    first = scheduler()
    rungs = [first.rungs(trial) for trial in range(trials)]
    reached = dict.fromkeys(sorted({level for levels in rungs for level in levels}), 0)
    finished = total = 0
    for _ in range(repeats):
        fresh, values = scheduler(), draws.random(trials).tolist()
        for trial, start in _handed_out(fresh, trials):
            ended = epochs
            for level in (level for level in rungs[trial] if level > start):
                reached[level] += 1
                if fresh.on_result(trial, level, values[trial]).action != "continue":
                    ended = level
                    break
            total += ended - start
            finished += ended == epochs
    mean = {level: count / repeats for level, count in reached.items()}
    return Survival(mean, finished / repeats, total / repeats, first.pauses)


def _handed_out(scheduler: Scheduler, trials: int) -> Iterator[tuple[int, int]]:
    """What one worker trains in turn, a trial and the epoch that it starts from, until nothing is left."""
    number = 0
    while (promotion := scheduler.promotion(final=number == trials)) or number < trials:
        if promotion:
            scheduler.leave(promotion.trial, promotion.rung)
            yield promotion.trial, promotion.rung
        else:
            yield number, 0
            number += 1
