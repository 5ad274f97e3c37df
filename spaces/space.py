"""A search space and the one walk through it: sampling, checking and warm start all read the same object.

Every searched value has a qualified key that says on which options it hangs: `optimizer.kind`,
`optimizer.kind=sgd/optimizer.lr`. Two branches may so search the same path over different ranges.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from spaces.domains import Choice, Domain, Fixed, Scalar, Space, domain_text, option_text, same
from trainables.config import Missing, Problem, TrialConfig, flatten, unflatten
from trainables.config.hints import nearest

__all__ = ["Point", "check", "conditions_of", "locate", "path_of", "space_rows", "value_at", "walk"]

# Between the parts of a qualified key. An option may be a path and hold slashes of its own.
_NEXT = re.compile(rf"/(?=(?:{'|'.join(TrialConfig.model_fields)})(?:\.\w+)*(?:=|$))")


@dataclass(frozen=True, slots=True)
class Point:
    """One draw from a space: `values` by qualified key, and the `tree` to merge over the trial's defaults."""

    values: dict[str, Scalar]
    tree: dict[str, Any]


def path_of(key: str) -> str:
    """The config path of a qualified key: `optimizer.lr` of `optimizer.kind=sgd/optimizer.lr`."""
    return key.rpartition("/")[2]


def conditions_of(key: str) -> list[str]:
    """On which options a qualified key hangs: `["optimizer.kind=sgd"]` of `optimizer.kind=sgd/optimizer.lr`."""
    return _NEXT.split(key)[:-1]


def value_at(tree: Mapping[str, Any], path: str) -> Any:
    """What stands at a dotted path.

    Raises:
        LookupError: if the path does not exist.
    """
    node: Any = tree
    for part in path.split("."):
        if not isinstance(node, Mapping) or part not in node:
            raise LookupError(path)
        node = node[part]
    return node


def walk(space: Space, draw: Callable[[str, Domain], Scalar]) -> Point:
    """Visit what is searched, each choice before what hangs on it, and ask `draw(key, domain)` for each value.

    Raises:
        ValueError: if `draw` returns a value outside the domain.
    """
    values: dict[str, Scalar] = {}
    flat: dict[str, Any] = {}

    def visit(part: Space, prefix: str) -> None:
        for entry in part.entries:
            if isinstance(entry.domain, Fixed):
                fixed = entry.domain.value
                flat[entry.path] = list(fixed) if isinstance(fixed, tuple) else fixed
                continue
            key = prefix + entry.path
            drawn = draw(key, entry.domain)
            if not entry.domain.contains(drawn):
                raise ValueError(f"{key}: {drawn!r} is not in {entry.domain}")
            values[key] = flat[entry.path] = entry.domain.canonical(drawn)
            if isinstance(entry.domain, Choice):
                visit(entry.domain.branch(drawn), f"{key}={option_text(values[key])}/")

    visit(space, "")
    return Point(values, unflatten(flat))


def check(space: Space, values: Mapping[str, object]) -> list[Problem]:
    """Everything wrong with `values` as a point of the space: missing, outside its domain, or not searched there."""
    problems: list[Problem] = []
    active: set[str] = set()

    def draw(key: str, domain: Domain) -> Scalar:
        active.add(key)
        if key not in values:
            problems.append(Problem(key, Missing, "is required"))
        elif not domain.contains(values[key]):
            problems.append(Problem(key, values[key], f"must be in {domain_text(domain)}"))
        else:
            return values[key]  # type: ignore[return-value]
        return domain.options[0] if isinstance(domain, Choice) else domain.low

    walk(space, draw)
    for key, value in values.items():
        if key not in active:
            problems.append(Problem(key, value, f"is not searched here, {nearest(key, active)}"))
    return problems


def space_rows(space: Space) -> list[tuple[str, str, str]]:
    """A row for everything searched or fixed: config path, values, and on what it hangs (empty: nothing)."""
    rows: list[tuple[str, str, str]] = []

    def visit(part: Space, when: tuple[str, ...]) -> None:
        for entry in part.entries:
            needs = (*when, f"with {entry.requires}") if entry.requires else when
            rows.append((path_of(entry.path), domain_text(entry.domain), ", ".join(needs)))
            if isinstance(entry.domain, Choice):
                for option in entry.domain.options:
                    visit(entry.domain.branch(option), (*needs, f"{entry.path} is {option_text(option)}"))

    visit(space, ())
    return rows


def locate(space: Space, config_tree: Mapping[str, Any]) -> dict[str, Scalar] | None:
    """The values at which the space sets what `config_tree` holds; None if it holds something the space cannot set.

    Paths on which the space is silent are not looked at: whether they hold the study's defaults is the study's to say.
    """

    def read(key: str, domain: Domain) -> Scalar:
        value = value_at(config_tree, path_of(key))
        if not domain.contains(value):
            raise LookupError(key)
        return value  # type: ignore[no-any-return]

    try:
        point = walk(space, read)
        searched = {path_of(key) for key in point.values}
        fixed = [path for path in flatten(point.tree) if path not in searched]
        agrees = all(same(value_at(point.tree, path), value_at(config_tree, path)) for path in fixed)
    except LookupError:
        return None
    return point.values if agrees else None
