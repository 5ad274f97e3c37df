"""Smaller spaces from a space: entries whose requirement is not met left out, paths fixed, numbers capped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from spaces.domains import Choice, Domain, Entry, Fixed, Float, Int, Space, same
from spaces.space import value_at

__all__ = ["at_most", "fix", "given", "rewrite"]


def rewrite(space: Space, change: Callable[[Entry], Iterable[Entry]]) -> Space:
    """The space with each entry replaced by what `change` makes of it, branches before the choice they hang on."""

    def rewritten(entry: Entry) -> Entry:
        if not isinstance(entry.domain, Choice) or not entry.domain.branches:
            return entry
        branches = tuple(rewrite(branch, change) for branch in entry.domain.branches)
        return replace(entry, domain=Choice(entry.domain.options, branches))

    return Space(tuple(new for entry in space.entries for new in change(rewritten(entry))))


def given(space: Space, config_tree: Mapping[str, Any]) -> Space:
    """The space as it is for a config: without the entries whose `requires` path holds nothing there.

    What requires a choice of the space itself moves into the branches of that choice's options, those for nothing
    aside.
    """
    choices = {entry.path for entry in space.entries if isinstance(entry.domain, Choice)}

    def met(entry: Entry) -> Iterator[Entry]:
        try:
            value = True if entry.requires is None else value_at(config_tree, entry.requires)
        except LookupError:
            value = None
        if _is_something(value):
            yield replace(entry, requires=None)

    def with_hung(entry: Entry) -> Entry:
        hung = tuple(replace(other, requires=None) for other in space.entries if other.requires == entry.path)
        if not hung or not isinstance(entry.domain, Choice):
            return entry
        options, branch = entry.domain.options, entry.domain.branch
        branches = (Space(branch(o).entries + (hung if _is_something(o) else ())) for o in options)
        return replace(entry, domain=Choice(options, tuple(branches)))

    left = (with_hung(entry) for entry in space.entries if entry.requires not in choices)
    return rewrite(Space(tuple(left)), met)


def _is_something(value: object) -> bool:
    return bool(value) and value != "none"


def fix(space: Space, values: Mapping[str, Any]) -> Space:
    """The space without the paths in `values`, which no longer vary.

    A choice that opens subtrees leaves behind what hangs on the option it is fixed to.
    """

    def rest(entry: Entry) -> Iterator[Entry]:
        path, domain = entry.path, entry.domain
        if path in values:
            if isinstance(domain, Choice) and domain.contains(values[path]):
                yield from domain.branch(values[path]).entries
        elif not any(path.startswith(f"{fixed}.") for fixed in values):
            yield entry

    return rewrite(space, rest)


def at_most(space: Space, caps: Mapping[str, Callable[[Any], Any]]) -> Space:
    """The space with the numbers at each path of `caps` not above its cap.

    A cap maps a value to itself, or to what it must be lowered to. Options above it are dropped and ranges end at it;
    where nothing is left, the path is fixed to the cap, and what hung on the first option remains.
    """

    def capped(entry: Entry) -> Iterator[Entry]:
        cap = caps.get(entry.path)
        if cap is None:
            yield entry
        elif isinstance(entry.domain, Fixed):
            yield replace(entry, domain=Fixed(cap(entry.domain.value)))
        else:
            yield from _cap(entry, entry.domain, cap)

    return rewrite(space, capped)


def _cap(entry: Entry, domain: Domain, lower: Callable[[Any], Any]) -> Iterator[Entry]:
    if isinstance(domain, Choice):
        left = tuple(option for option in domain.options if same(lower(option), option))
        if len(left) == 1 and not domain.branch(left[0]).entries:
            yield Entry(entry.path, Fixed(left[0]))
            return
        if left:
            branches = tuple(domain.branch(option) for option in left) if domain.branches else ()
            yield replace(entry, domain=Choice(left, branches))
            return
        first = domain.options[0]
        yield Entry(entry.path, Fixed(lower(first)))
        yield from domain.branch(first).entries
        return
    cap = lower(domain.high)
    high: float = cap
    if domain.step is not None:
        high = domain.low + (cap - domain.low) // domain.step * domain.step
    if domain.high <= cap:
        yield entry
    elif high <= domain.low:
        yield Entry(entry.path, Fixed(min(cap, domain.low)))
    elif isinstance(domain, Int):
        yield replace(entry, domain=Int(domain.low, int(high), domain.log, domain.step))
    else:
        yield replace(entry, domain=Float(domain.low, high, domain.log, domain.step))
