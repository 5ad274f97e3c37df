"""The promotion variant of ASHA. Ray's ASHA only stops: a trial that is unlucky early is lost to it."""

from __future__ import annotations

import math
from bisect import bisect_left, insort

from search.algorithms.schedulers.base import Decision, Promotion
from search.algorithms.schedulers.halving import Halving, Rung

__all__ = ["AshaPromote"]


class AshaPromote(Halving):
    """Asynchronous successive halving as published (Li et al. 2020, "A System for Massively Parallel Hyperparameter
    Tuning", Algorithm 2): a trial pauses at each rung, and continues once it is promoted.

    A free worker takes, from the highest rung down, the best trial among the top floor(n / reduction_factor) of the
    rung that was not promoted yet, n being all trials that reached it; of equals the lower number counts as better.
    Only where there is none it takes a new trial. A trial that would be taken at the very moment in which it reaches
    its rung continues in place, without the pause.

    At the end of a search the top max(1, floor(n / reduction_factor)) are promotable, so that each rung promotes a
    trial and at least one is trained to the end, however few there are.

    A value that is not finite stops the trial at its rung. Settings: see `Halving`; protected trials count as promoted.
    """

    @property
    def pauses(self) -> bool:
        """True."""
        return True

    def promotion(self, final: bool = False) -> Promotion | None:
        """The paused trial to train now; see the class for the rule."""
        for epoch, rung in reversed(self._rungs.items()):
            kept = self._kept(rung, final)
            if rung.waiting and bisect_left(rung.ranked, rung.waiting[0]) < kept:
                return Promotion(rung.waiting[0][1], epoch, self._cutoff(rung, kept))
        return None

    def leave(self, trial: int, rung: int) -> None:
        """Take `trial` from those paused at `rung`, if it is one of them."""
        if (level := self._rungs.get(rung)) is not None:
            level.waiting = [place for place in level.waiting if place[1] != trial]

    def _judge(self, trial: int, epoch: int, value: float) -> Decision:
        rung = self._rungs[epoch]
        cutoff = self._cutoff(rung, self._kept(rung))
        if trial in self._protected:
            return Decision("continue", epoch, cutoff)
        if not math.isfinite(value):
            return Decision("stop", epoch, cutoff)
        insort(rung.waiting, self._place(trial, value))
        if self.promotion() != Promotion(trial, epoch, cutoff):
            return Decision("pause", epoch, cutoff)
        self.leave(trial, epoch)
        return Decision("continue", epoch, cutoff)

    def _kept(self, rung: Rung, final: bool = False) -> int:
        share = math.floor(len(rung.ranked) / self._eta + 1e-9)
        return max(1, share) if final else share
