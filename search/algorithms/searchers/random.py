"""Random search."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from search.algorithms.searchers.tried import Tried
from search.journal.records import TrialRecord
from spaces.combinations import steps
from spaces.domains import Choice, Domain, Int, Scalar, Space
from spaces.space import Point, walk

__all__ = ["RandomSearcher", "draws"]


class RandomSearcher:
    """Independent draws, uniform over each range (in its logarithm where the space says so) and each choice.

    Where another trial has had the point, another one is drawn; None when every combination was tried.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed, self._tried = space, seed, Tried(space)

    def suggest(self, number: int) -> Point | None:
        """The first draw from seed and number that no other trial has had; None when all combinations were tried."""
        return self._tried.first_new(number, draws(self._space, self._seed, number))

    def tell(self, record: TrialRecord) -> None:
        """Count the trial's point as tried, unless it is an earlier study's; how it ended makes no difference."""
        if record.values is not None and not record.is_prior:
            self._tried.add(record.number, record.values)


def draws(space: Space, seed: int, number: int) -> Iterator[Point]:
    """Endless draws for a trial."""
    generator = np.random.default_rng([seed, number])
    while True:
        yield walk(space, lambda _, domain: _draw(generator, domain))


def _draw(generator: np.random.Generator, domain: Domain) -> Scalar:
    if isinstance(domain, Choice):
        return domain.options[int(generator.integers(len(domain.options)))]
    if (found := steps(domain)) is not None:
        size, value = found
        return value(int(generator.integers(size)))
    margin = 0.5 if isinstance(domain, Int) else 0.0  # each integer owns the half unit to either side
    low, high = domain.low - margin, domain.high + margin
    exact = math.exp(generator.uniform(math.log(low), math.log(high))) if domain.log else generator.uniform(low, high)
    drawn = round(exact) if isinstance(domain, Int) else float(exact)
    return min(max(drawn, domain.low), domain.high)
