"""What a scheduler is expected to let through, told before a search starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from search.algorithms.schedulers.base import Scheduler

__all__ = ["Survival", "expected_survivors"]


@dataclass(frozen=True, slots=True)
class Survival:
    """What a scheduler is expected to let through.

    `reached` holds, by the epoch of the rung, the mean number of trials that get there; `finished` is the mean number
    that run all their epochs, `epochs` the mean number of epochs trained in all.
    """

    reached: dict[int, float]
    finished: float
    epochs: float


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
    levels = list(scheduler().rungs)
    reached, finished = dict.fromkeys(levels, 0), 0
    total = 0
    for _ in range(repeats):
        fresh, values = scheduler(), draws.random(trials).tolist()
        for trial, start in _handed_out(fresh, trials):
            ended = epochs
            for level in (level for level in levels if level > start):
                reached[level] += 1
                if fresh.on_result(trial, level, values[trial]).action != "continue":
                    ended = level
                    break
            total += ended - start
            finished += ended == epochs
    return Survival({level: n / repeats for level, n in reached.items()}, finished / repeats, total / repeats)


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
