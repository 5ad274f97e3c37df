"""The stopping variant of ASHA."""

from __future__ import annotations

import math
from bisect import bisect_left

from search.algorithms.schedulers.base import Decision, NeverPausing
from search.algorithms.schedulers.halving import Halving

__all__ = ["Asha"]


class Asha(NeverPausing, Halving):
    """Asynchronous successive halving, stopping variant (Li et al. 2020, "A System for Massively Parallel
    Hyperparameter Tuning"): a trial is judged the moment it reaches a rung and is never revived.

    At a rung that n trials have reached so far, the judged one among them, a trial is stopped when at least
    n p + sqrt(n p (1 - p)) of them are strictly better, with p = 1/eta: by chance alone n p +- sqrt(n p (1 - p)) of n
    trials fall in the top 1/eta. So a rung with few trials, which says little about where the top 1/eta begins, stops
    few, and one with many stops the rest as in the paper. Only the order of values counts; the best so far always
    continues, and so does one that equals it. Without the standard error, a search of some hundred trials finds less in
    the same time, unless the order at the first rung is already that of the end (docs/search_quality.md). Ray judges by
    an interpolated percentile of the other values.

    A value that is not finite stops the trial at its rung. Settings: see `Halving`.
    """

    def _judge(self, trial: int, epoch: int, value: float) -> Decision:
        rung = self._rungs[epoch]
        best = len(rung.ranked) / self._eta
        kept = min(math.ceil(best + math.sqrt(best * (1 - 1 / self._eta)) - 1e-9), len(rung.ranked))
        better = bisect_left(rung.ranked, self._place(-1, value))  # than every trial with this value
        passes = math.isfinite(value) and better < kept
        continues = passes or trial in self._protected
        return Decision("continue" if continues else "stop", rung=epoch, cutoff=self._cutoff(rung, kept))
