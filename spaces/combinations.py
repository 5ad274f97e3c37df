"""The combinations of a space: how many there are, and each of them once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from spaces.domains import Choice, Domain, Fixed, Float, Int, Scalar, Space
from spaces.space import Point, walk

__all__ = ["Values", "all_values", "combinations", "count", "steps"]

Values = tuple[int, Callable[[int], Scalar]]  # how many, and each by its index: a long range is no list


def steps(domain: Float | Int) -> Values | None:
    """The values of a range that has steps, as linear integers do."""
    if domain.log or domain.step is None:
        return None
    low, step, canonical = domain.low, domain.step, domain.canonical
    return round((domain.high - low) / step) + 1, lambda index: canonical(low + index * step)


def all_values(domain: Domain) -> Values | None:
    """Every value of a domain; None of a continuous one."""
    if isinstance(domain, Choice):
        return len(domain.options), domain.options.__getitem__
    if isinstance(domain, Int) and domain.log:
        return domain.high - domain.low + 1, domain.low.__add__
    return steps(domain)


def count(space: Space, values: Callable[[Domain], Values | None] = all_values) -> int | None:
    """How many points the space has, given the values of each domain; None without end."""
    total = 1
    for entry in space.entries:
        domain = entry.domain
        if isinstance(domain, Fixed):
            continue
        if isinstance(domain, Choice):
            sizes = [count(domain.branch(option), values) for option in domain.options]
        else:
            found = values(domain)
            sizes = [None if found is None else found[0]]
        if any(size is None for size in sizes):
            return None
        total *= sum(size for size in sizes if size is not None)
    return total


def combinations(space: Space, values: Callable[[Domain], Values]) -> Iterator[Point]:
    """Every combination of the values of each domain, once, in a fixed order: what is visited last changes fastest."""
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
