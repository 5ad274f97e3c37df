"""Grid search."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator

from search.algorithms.searchers.random import Values, steps
from search.journal.records import TrialRecord
from spaces.domains import Choice, Domain, Float, Int, Scalar, Space
from spaces.space import Point, walk

__all__ = ["GRID_POINTS", "GridSearcher"]

GRID_POINTS = 3


class GridSearcher:
    """Every combination once, in a fixed order: the value visited last changes fastest.

    Choices, stepped ranges and linear integer ranges are taken whole; of every other range the ends and what lies
    evenly between them (in the logarithm where the space says so). What belongs to an option is combined only with it.

    Args:
        space: what is searched.
        points: how many values of a range that has no steps.
    """

    def __init__(self, space: Space, points: int = GRID_POINTS) -> None:
        self._points = points
        self._unseen = _combinations(space, self._values)
        self._seen: list[Point] = []
        self._numbers: list[int] = []  # of the trials that took a point, ascending

    def suggest(self, number: int) -> Point | None:
        """The first point that no earlier trial took; None past the last."""
        index = bisect_left(self._numbers, number)
        while len(self._seen) <= index:
            point = next(self._unseen, None)
            if point is None:
                return None
            self._seen.append(point)
        self._take(number)
        return self._seen[index]

    def tell(self, record: TrialRecord) -> None:
        """Count the trial's point as taken, unless it is a recipe; how it ended makes no difference."""
        if record.recipe is None:
            self._take(record.number)

    def _take(self, number: int) -> None:
        index = bisect_left(self._numbers, number)
        if self._numbers[index : index + 1] != [number]:
            insort(self._numbers, number)

    def _values(self, domain: Domain) -> Values:
        if isinstance(domain, Choice):
            return len(domain.options), domain.options.__getitem__
        if (found := steps(domain)) is not None:
            return found
        values = _spread(domain, self._points)
        return len(values), values.__getitem__


def _spread(domain: Float | Int, points: int) -> list[Scalar]:
    shares = [i / (points - 1) for i in range(points)] if points > 1 else [0.5]
    ratio = math.log(domain.high / domain.low) if domain.log else 0.0
    exact = [
        domain.low * math.exp(share * ratio) if domain.log else domain.low + share * (domain.high - domain.low)
        for share in shares
    ]
    whole = [round(value) if isinstance(domain, Int) else value for value in exact]
    return list(dict.fromkeys(min(max(value, domain.low), domain.high) for value in whole))  # low integers may coincide


def _combinations(space: Space, values: Callable[[Domain], Values]) -> Iterator[Point]:
    # An odometer over the walk itself: the digits are the indices drawn, and turning one cuts off those after it, since
    # another option may open other branches.
    digits: list[int] = []
    while True:
        sizes: list[int] = []

        def draw(_: str, domain: Domain, sizes: list[int] = sizes) -> Scalar:
            size, value = values(domain)
            if len(sizes) == len(digits):
                digits.append(0)
            sizes.append(size)
            return value(digits[len(sizes) - 1])

        yield walk(space, draw)
        while digits and digits[-1] == sizes[len(digits) - 1] - 1:
            digits.pop()
        if not digits:
            return
        digits[-1] += 1
