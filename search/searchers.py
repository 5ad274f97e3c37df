"""Searchers: what to try next. Pure functions of the study's seed and of the trials they are told; no Ray.

A searcher that is told a study's records again suggests what it would have suggested without the interruption: nothing
depends on the order in which records come, on time, or on a random state that lives on.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from spaces.domains import Choice, Domain, Float, Int, Scalar, Space
from spaces.space import Point, walk

if TYPE_CHECKING:
    from search import sections
    from search.results import TrialRecord
    from search.study import StudySpec

__all__ = [
    "GRID_POINTS", "GridSearcher", "RandomSearcher", "SEARCHERS", "Searcher", "SearcherInfo", "build_searcher",
]  # fmt: skip

GRID_POINTS = 3


class Searcher(Protocol):
    """Suggests points of a space, by trial number."""

    def suggest(self, number: int) -> Point | None:
        """The point that trial `number` should try; None when the space is exhausted.

        Asked again about the same number it gives the same point.
        """
        ...

    def running(self, record: TrialRecord) -> None:
        """Learn of a trial under way: one suggested here, a recipe, or one of an earlier session."""
        ...

    def told(self, record: TrialRecord) -> None:
        """Learn how a trial ended. When told again about a trial, the later record counts."""
        ...


class RandomSearcher:
    """Independent draws, uniform over each range (in its logarithm where the space says so) and each choice."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed = space, seed

    def suggest(self, number: int) -> Point:
        """A point that depends on seed and number alone."""
        draws = np.random.default_rng([self._seed, number])
        return walk(self._space, lambda _, domain: _draw(draws, domain))

    def running(self, record: TrialRecord) -> None:
        """Changes nothing."""

    def told(self, record: TrialRecord) -> None:
        """Changes nothing."""


def _draw(draws: np.random.Generator, domain: Domain) -> Scalar:
    if isinstance(domain, Choice):
        return domain.options[int(draws.integers(len(domain.options)))]
    if (steps := _steps(domain)) is not None:
        size, value = steps
        return value(int(draws.integers(size)))
    margin = 0.5 if isinstance(domain, Int) else 0.0  # each integer owns the half unit to either side
    low, high = domain.low - margin, domain.high + margin
    exact = math.exp(draws.uniform(math.log(low), math.log(high))) if domain.log else float(draws.uniform(low, high))
    drawn = round(exact) if isinstance(domain, Int) else exact
    return min(max(drawn, domain.low), domain.high)


Values = tuple[int, Callable[[int], Scalar]]  # how many, and each by its index: a long range is no list


def _steps(domain: Float | Int) -> Values | None:
    """The values of a range that has steps, as linear integers do."""
    if domain.log or domain.step is None:
        return None
    low, step, canonical = domain.low, domain.step, domain.canonical
    return round((domain.high - low) / step) + 1, lambda index: canonical(low + index * step)


class GridSearcher:
    """Every combination once, in a fixed order: the value visited last changes fastest.

    Choices, stepped ranges and linear integer ranges are taken whole; of every other range the ends and what lies
    evenly between them (in the logarithm where the space says so). What hangs on an option is combined only under it.

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

    def running(self, record: TrialRecord) -> None:
        """Count the trial's point as taken, unless it is a recipe."""
        if not record.origin.startswith("recipe:"):
            self._take(record.number)

    def told(self, record: TrialRecord) -> None:
        """Count the trial's point as taken, unless it is a recipe; how it ended makes no difference."""
        self.running(record)

    def _take(self, number: int) -> None:
        index = bisect_left(self._numbers, number)
        if self._numbers[index : index + 1] != [number]:
            insort(self._numbers, number)

    def _values(self, domain: Domain) -> Values:
        if isinstance(domain, Choice):
            return len(domain.options), domain.options.__getitem__
        if (steps := _steps(domain)) is not None:
            return steps
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


@dataclass(frozen=True, slots=True)
class SearcherInfo:
    """A row of `SEARCHERS`: the `kind` a study names, what it does, and how it is built from the study."""

    kind: str
    summary: str
    build: Callable[[StudySpec, Any], Searcher]  # from the study and its searcher's settings


def _random(spec: StudySpec, settings: sections.RandomSearch) -> Searcher:
    return RandomSearcher(spec.parsed_space, spec.seed)


def _grid(spec: StudySpec, settings: sections.GridSearch) -> Searcher:
    return GridSearcher(spec.parsed_space)


def _tpe(spec: StudySpec, settings: sections.TPE) -> Searcher:
    from search.tpe import TpeSearcher

    return TpeSearcher(
        spec.parsed_space,
        metric=spec.objective.metric,
        mode=spec.objective.mode,
        seed=spec.seed,
        startup_trials=settings.startup_trials,
    )


SEARCHERS: dict[str, SearcherInfo] = {
    info.kind: info
    for info in (
        SearcherInfo("random", "independent draws", _random),
        SearcherInfo("grid", "every combination once", _grid),
        SearcherInfo("tpe", "Tree-structured Parzen Estimator, aware of conditions (Optuna)", _tpe),
    )
}


def build_searcher(spec: StudySpec) -> Searcher:
    """The searcher that a study names."""
    return SEARCHERS[spec.searcher.kind].build(spec, spec.searcher)
