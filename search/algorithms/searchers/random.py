"""Random search."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from search.journal.records import TrialRecord
from spaces.domains import Choice, Domain, Float, Int, Scalar, Space
from spaces.space import Point, walk

__all__ = ["RandomSearcher", "Values", "steps"]


class RandomSearcher:
    """Independent draws, uniform over each range (in its logarithm where the space says so) and each choice."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed = space, seed

    def suggest(self, number: int) -> Point:
        """A point that depends on seed and number alone."""
        draws = np.random.default_rng([self._seed, number])
        return walk(self._space, lambda _, domain: _draw(draws, domain))

    def tell(self, record: TrialRecord) -> None:
        """Changes nothing."""


def _draw(draws: np.random.Generator, domain: Domain) -> Scalar:
    if isinstance(domain, Choice):
        return domain.options[int(draws.integers(len(domain.options)))]
    if (found := steps(domain)) is not None:
        size, value = found
        return value(int(draws.integers(size)))
    margin = 0.5 if isinstance(domain, Int) else 0.0  # each integer owns the half unit to either side
    low, high = domain.low - margin, domain.high + margin
    exact = math.exp(draws.uniform(math.log(low), math.log(high))) if domain.log else float(draws.uniform(low, high))
    drawn = round(exact) if isinstance(domain, Int) else exact
    return min(max(drawn, domain.low), domain.high)


Values = tuple[int, Callable[[int], Scalar]]  # how many, and each by its index: a long range is no list


def steps(domain: Float | Int) -> Values | None:
    """The values of a range that has steps, as linear integers do."""
    if domain.log or domain.step is None:
        return None
    low, step, canonical = domain.low, domain.step, domain.canonical
    return round((domain.high - low) / step) + 1, lambda index: canonical(low + index * step)
