"""What was tried before: no searcher of ours suggests the same point twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import cast

from spaces.combinations import Values, all_values, combinations, count
from spaces.domains import Domain, Scalar, Space
from spaces.space import Point

__all__ = ["Tried"]

DRAWS = 100  # before the combinations that are left are looked for in their order


class Tried:
    """The points that trials have had, by trial number."""

    def __init__(self, space: Space) -> None:
        self._space, self._count = space, count(space)
        self._points: dict[int, frozenset[tuple[str, Scalar]]] = {}

    def add(self, number: int, values: Mapping[str, Scalar]) -> None:
        """Trial `number` has these values, whatever it had before."""
        self._points[number] = frozenset(values.items())

    def first_new(self, number: int, draws: Iterator[Point]) -> Point | None:
        """The first of endless `draws` that no trial but `number` has had; None when every combination was tried."""
        taken = {point for other, point in self._points.items() if other != number}
        if self._count is None:
            left = draws
        elif len(taken) >= self._count:
            return None
        else:
            left = chain(islice(draws, DRAWS), combinations(self._space, _values))
        return next((point for point in left if frozenset(point.values.items()) not in taken), None)


def _values(domain: Domain) -> Values:
    return cast(Values, all_values(domain))  # of a space with an end
