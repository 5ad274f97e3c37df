"""Successive halving: the rungs, and what both variants of ASHA share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import insort
from collections.abc import Container
from dataclasses import dataclass, field

from search.algorithms.schedulers.base import Decision
from trainables.result import Mode

__all__ = ["Halving", "Rung", "rung_levels"]


def rung_levels(grace_period: int, reduction_factor: float, epochs: int) -> tuple[int, ...]:
    """The epochs of the rungs: grace_period * reduction_factor^k, rounded up, below `epochs`."""
    levels: list[int] = []
    exact = float(grace_period)
    while (level := math.ceil(exact - 1e-9)) < epochs:
        if level not in levels:
            levels.append(level)
        exact *= reduction_factor
    return tuple(levels)


Place = tuple[float, int]  # (loss, trial): sorts the better first, and of equals the lower number


@dataclass(slots=True)
class Rung:
    """Trials that reached a rung, and those of them that are paused there; the best first."""

    ranked: list[Place] = field(default_factory=list)
    waiting: list[Place] = field(default_factory=list)


class Halving(ABC):
    """What both variants of ASHA share: settings, rungs, and that a decision, once made, is final.

    A value that is not finite enters no rung. Only a result of exactly a rung's epoch enters it: a trial that was
    resumed past a rung is not entered with its later, better value.

    Args:
        epochs: the longest a trial runs; rungs lie below it.
        grace_period: epochs before the first decision.
        reduction_factor: eta, the factor between rungs; 1/eta of many trials pass each.
        mode: whether the objective is to be `max`imized or `min`imized.
        protected: trials that enter the rungs but are never stopped or paused, such as recipes.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(
        self, *, epochs: int, grace_period: int, reduction_factor: float, mode: Mode,
        protected: Container[int] = (),
    ) -> None:  # fmt: skip
        if grace_period < 1 or not 1 < reduction_factor < math.inf:
            raise ValueError("grace_period must be at least 1 epoch, reduction_factor above 1")
        self._eta = reduction_factor
        self._sign = -1.0 if mode == "max" else 1.0
        self._protected = protected
        self._rungs = {epoch: Rung() for epoch in rung_levels(grace_period, reduction_factor, epochs)}
        self._decisions: dict[tuple[int, int], Decision] = {}

    def rungs(self, trial: int) -> tuple[int, ...]:
        """The same for every trial."""
        return tuple(self._rungs)

    def on_result(self, trial: int, epoch: int, value: float) -> Decision:
        """Enter a result and decide; see the class for the rule."""
        if epoch not in self._rungs:
            return Decision()
        if (trial, epoch) not in self._decisions:
            rung = self._rungs[epoch]
            if math.isfinite(value):
                insort(rung.ranked, self._place(trial, value))
            self._decisions[trial, epoch] = self._judge(trial, epoch, value)
        return self._decisions[trial, epoch]

    @abstractmethod
    def _judge(self, trial: int, epoch: int, value: float) -> Decision:
        """Decide about a trial that has just reached the rung of `epoch`."""

    def _place(self, trial: int, value: float) -> Place:
        return self._sign * value, trial

    def _cutoff(self, rung: Rung, kept: int) -> float | None:
        """The worst value among the best `kept`; None if they are none."""
        return self._sign * rung.ranked[kept - 1][0] if rung.ranked and kept else None
