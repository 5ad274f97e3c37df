"""Grid search."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Mapping
from functools import partial

from search.journal.records import TrialRecord
from spaces.combinations import Values, combinations, steps
from spaces.domains import Choice, Domain, Float, Int, Scalar, Space
from spaces.space import Point

__all__ = ["GRID_POINTS", "GridSearcher", "grid_values"]

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
        self._unseen = combinations(space, partial(grid_values, points=points))
        self._seen: list[Point] = []
        self._recipes: list[Mapping[str, Scalar]] = []
        self._numbers: list[int] = []  # of the trials that took a point, ascending

    def suggest(self, number: int) -> Point | None:
        """The first point that no earlier trial and no recipe took; None past the last."""
        index = bisect_left(self._numbers, number)
        while len(self._seen) <= index:
            point = next((point for point in self._unseen if point.values not in self._recipes), None)
            if point is None:
                return None
            self._seen.append(point)
        self._take(number)
        return self._seen[index]

    def tell(self, record: TrialRecord) -> None:
        """Count the trial's point as taken, unless it is an earlier study's; how it ended makes no difference."""
        if record.is_prior:
            return
        if record.recipe is None:
            self._take(record.number)
        elif record.values is not None:
            self._recipes.append(record.values)
            self._seen = [point for point in self._seen if point.values != record.values]

    def _take(self, number: int) -> None:
        index = bisect_left(self._numbers, number)
        if self._numbers[index : index + 1] != [number]:
            insort(self._numbers, number)


def grid_values(domain: Domain, points: int = GRID_POINTS) -> Values:
    """The values of a domain that a grid visits."""
    if isinstance(domain, Choice):
        return len(domain.options), domain.options.__getitem__
    if (found := steps(domain)) is not None:
        return found
    values = _spread(domain, points)
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
