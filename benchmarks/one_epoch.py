"""The baseline that few searches beat: train many configurations for one epoch, and the best of them to the end.

After Egele et al. 2023, "Is One Epoch All You Need For Multi-Fidelity Hyperparameter Optimization?", arXiv:2307.15422.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.curves import Family
from benchmarks.simulation import Leg
from search.algorithms.searchers.random import RandomSearcher
from spaces import Scalar

__all__ = ["OneEpoch"]


class OneEpoch:
    """Half of the budget goes to first epochs of random configurations, the other half to the best of them.

    Args:
        family: what is searched.
        seed: of the random draws.
        trainings: the budget, in full trainings.
    """

    def __init__(self, family: Family, seed: int, trainings: float) -> None:
        self._epochs = family.epochs
        self._trials = round(trainings * family.epochs / 2)
        self._kept = round(trainings * family.epochs / 2 / (family.epochs - 1))
        self._searcher = RandomSearcher(family.space, seed)
        self._values: dict[int, Mapping[str, Scalar]] = {}
        self._first: dict[int, float] = {}  # what each trial reported after its first epoch
        self._best: list[int] | None = None  # those that are still to be trained to the end, the best last

    def next_leg(self, final: bool) -> Leg | None:
        """A new trial; when all have trained for an epoch, the best of them."""
        number = len(self._values)
        if number < self._trials:
            point = self._searcher.suggest(number)
            if point is None:
                return None
            self._values[number] = point.values
            return Leg(number, point.values)
        if len(self._first) < self._trials:
            return None
        if self._best is None:
            self._best = sorted(self._first, key=lambda trial: self._first[trial])[-self._kept :]
        return Leg(trial := self._best.pop(), self._values[trial], 1) if self._best else None

    def on_result(self, trial: int, epoch: int, value: float, diverged: bool) -> bool:
        """Pause after the first epoch, and else train to the end."""
        if epoch == 1:
            self._first[trial] = value
        return 1 < epoch < self._epochs and not diverged
