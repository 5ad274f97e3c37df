"""The promotion variant of ASHA. Ray's ASHA only stops: a trial that is unlucky early is lost to it."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Literal

from search.schedulers import Decision, Promotion, halving_problems, rung_levels
from trainables.config import ConfigError

__all__ = ["AshaPromote"]

Place = tuple[float, int]  # (loss, trial): sorts the better first, and of equals the lower number


@dataclass(slots=True)
class _Rung:
    values: dict[int, float] = field(default_factory=dict)  # by trial, in the order of their coming
    ranked: list[Place] = field(default_factory=list)  # all of them
    waiting: list[Place] = field(default_factory=list)  # those that are paused here


class AshaPromote:
    """Asynchronous successive halving as published (Li et al. 2020, "A System for Massively Parallel Hyperparameter
    Tuning", Algorithm 2): a trial pauses at each rung, and goes on once it is promoted.

    A free worker takes, from the highest rung down, the best trial among the top floor(n / reduction_factor) of the
    rung that was not promoted yet, n being all trials that came there; of equals the lower number counts as better.
    Only where there is none it takes a new trial. A trial that would be taken at the very moment in which it comes to
    its rung goes on in place, without the pause.

    At the end of a search the top max(1, floor(n / reduction_factor)) are promotable, so that each rung sends somebody
    on and at least one trial is trained to the end, however few there are.

    A value that is not finite enters no rung and stops the trial there. Only a result of exactly a rung's epoch enters
    it.

    Args:
        epochs: the longest a trial runs; rungs lie below it.
        grace_period: epochs before the first pause.
        reduction_factor: eta, the factor between rungs; 1/eta of the trials pass each.
        mode: whether the objective is to be `max`imized or `min`imized.
        exempt: trials that enter the rungs but never pause, such as recipes; they count as promoted.

    Raises:
        ConfigError: if a number is out of range.
    """

    def __init__(
        self,
        *,
        epochs: int,
        grace_period: int,
        reduction_factor: float,
        mode: Literal["max", "min"],
        exempt: Container[int] = (),
    ) -> None:
        if problems := halving_problems(grace_period, reduction_factor, mode):
            raise ConfigError(problems)
        self._eta = reduction_factor
        self._sign = -1.0 if mode == "max" else 1.0
        self._exempt = exempt
        self._rungs = {epoch: _Rung() for epoch in rung_levels(grace_period, reduction_factor, epochs)}
        self._decisions: dict[tuple[int, int], Decision] = {}

    @property
    def rungs(self) -> Mapping[int, Mapping[int, float]]:
        """Every rung, by its epoch, lowest first: the value that each trial had there."""
        return {epoch: rung.values for epoch, rung in self._rungs.items()}

    @property
    def pauses(self) -> bool:
        """True."""
        return True

    def on_result(self, trial: int, epoch: int, value: float) -> Decision:
        """Enter a result and decide; see the class for the rule."""
        if epoch not in self._rungs:
            return Decision()
        if (trial, epoch) not in self._decisions:
            self._decisions[trial, epoch] = self._judge(trial, epoch, value)
        return self._decisions[trial, epoch]

    def promotion(self, final: bool = False) -> Promotion | None:
        """The paused trial to train on now; see the class for the rule."""
        for epoch, rung in reversed(self._rungs.items()):
            kept = self._kept(rung, final)
            if rung.waiting and bisect_left(rung.ranked, rung.waiting[0]) < kept:
                return Promotion(rung.waiting[0][1], epoch, self._cutoff(rung, kept))
        return None

    def promoted(self, trial: int, rung: int) -> None:
        """Learn that `trial` does not wait at `rung` any more.

        Raises:
            ValueError: if the trial never came there.
        """
        level = self._rungs.get(rung)
        if level is None or trial not in level.values:
            raise ValueError(f"trial {trial} is not paused at epoch {rung}: it has no value there")
        place = self._place(trial, level.values[trial])
        if place in level.waiting:
            level.waiting.remove(place)

    def _judge(self, trial: int, epoch: int, value: float) -> Decision:
        rung = self._rungs[epoch]
        if not math.isfinite(value):
            cutoff = self._cutoff(rung, self._kept(rung))
            return Decision("continue" if trial in self._exempt else "stop", epoch, cutoff)
        rung.values[trial] = value
        insort(rung.ranked, self._place(trial, value))
        cutoff = self._cutoff(rung, self._kept(rung))
        if trial in self._exempt:
            return Decision("continue", epoch, cutoff)
        insort(rung.waiting, self._place(trial, value))
        if self.promotion() != Promotion(trial, epoch, cutoff):
            return Decision("pause", epoch, cutoff)
        self.promoted(trial, epoch)
        return Decision("continue", epoch, cutoff)

    def _place(self, trial: int, value: float) -> Place:
        return self._sign * value, trial

    def _kept(self, rung: _Rung, final: bool = False) -> int:
        share = math.floor(len(rung.ranked) / self._eta + 1e-9)
        return max(1, share) if final else share

    def _cutoff(self, rung: _Rung, kept: int) -> float | None:
        """The worst value among the best `kept`; None if they are none."""
        return self._sign * rung.ranked[kept - 1][0] if rung.ranked and kept else None
