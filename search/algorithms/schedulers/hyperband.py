"""Hyperband, asynchronously: brackets of successive halving that begin to stop trials at different epochs."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Container
from functools import partial
from itertools import accumulate

from search.algorithms.schedulers.asha import Asha
from search.algorithms.schedulers.base import Decision, NeverPausing
from trainables.result import Mode

__all__ = ["Hyperband"]

GOLDEN = (math.sqrt(5) - 1) / 2


class Hyperband(NeverPausing):
    """Asynchronous Hyperband: each trial belongs to a bracket, which is an ASHA of its own (Li et al. 2018, "Hyperband:
    A Novel Bandit-Based Approach to Hyperparameter Optimization"; asynchronous as in Li et al. 2020, section 3.2).

    The first bracket has every rung, the next ones lack the lowest one, two, ... and the trials of the last run all
    their epochs. So curves that cross early cannot cost every good trial. A bracket with s rungs gets trials in
    proportion to ceil((s_max + 1) / (s + 1) * reduction_factor^s), as many as the paper's begins with: of 49 trials
    with rungs at 1, 3 and 9 of 27 epochs, 27, 12, 6 and 4. The paper runs one bracket after another; here a trial's
    bracket follows from its number, such that any run of consecutive trials is divided in about these proportions (the
    multiples of the golden ratio spread evenly over 0..1).

    Args: those of `Halving`; `grace_period` is that of the first bracket.
    """

    def __init__(
        self, *, epochs: int, grace_period: int, reduction_factor: float, mode: Mode,
        protected: Container[int] = (),
    ) -> None:  # fmt: skip
        bracket = partial(Asha, epochs=epochs, reduction_factor=reduction_factor, mode=mode, protected=protected)
        first = bracket(grace_period=grace_period)
        levels = first.rungs(0)
        self._brackets = [first, *(bracket(grace_period=grace) for grace in (*levels[1:], epochs) if levels)]
        most = len(levels)
        sizes = [math.ceil((most + 1) / (s + 1) * reduction_factor**s - 1e-9) for s in range(most, -1, -1)]
        self._ends = [end / sum(sizes) for end in accumulate(sizes)]  # of each bracket's share of 0..1

    def rungs(self, trial: int) -> tuple[int, ...]:
        """Those of the trial's bracket."""
        return self._bracket(trial).rungs(trial)

    def on_result(self, trial: int, epoch: int, value: float) -> Decision:
        """Decide among the trials of the same bracket; see `Asha`."""
        return self._bracket(trial).on_result(trial, epoch, value)

    def _bracket(self, trial: int) -> Asha:
        return self._brackets[bisect_right(self._ends[:-1], trial * GOLDEN % 1.0)]
