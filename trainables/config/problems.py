"""Mistakes in configs, all reported at once: path, value, rule, and the nearest valid key."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Number
from pathlib import PurePath
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from trainables.config.hints import network_hint, type_hint, unknown_key
from trainables.config.keys import kind_of, models_at, types_at

__all__ = ["ConfigError", "Missing", "Problem", "printable", "validate"]

M = TypeVar("M", bound=BaseModel)

LONGEST_SHOWN = 160
LONGEST_TEXT = 1000
MOST_LISTED = 100


class _BoundedRepr(reprlib.Repr):
    """`repr` in bounded time and length, for values from files that may be made to hurt."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlong = 4, LONGEST_SHOWN
        self.maxstring = self.maxother = 2 * LONGEST_SHOWN  # so that both ends of a long path are left to be shown
        self.maxtuple = self.maxlist = self.maxdict = 10

    def repr1(self, value: Any, level: int) -> str:
        if isinstance(value, int) and value.bit_length() > 1000:  # whose digits Python may refuse to write
            return f"an integer of {value.bit_length():,} bits"
        if isinstance(value, bytes | bytearray):
            return repr(bytes(value[:LONGEST_SHOWN]))
        if isinstance(value, Mapping):
            return self.repr_dict(dict(value), level)
        if isinstance(value, list):
            return self.repr_list(value, level)
        if isinstance(value, tuple):
            return self.repr_tuple(value, level)
        if isinstance(value, str | Number | PurePath | None):
            return super().repr1(value, level)
        return f"a {type(value).__name__}"


_bounded = _BoundedRepr()


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest // 2]} ... {text[-longest // 2 :]}"


def printable(text: str) -> str:
    """`text` on one line, without what would move a terminal's cursor or cannot be encoded."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class Missing:
    """This class itself is the value of a problem where nothing was written; None is a value that somebody wrote."""


@dataclass(frozen=True)
class Problem:
    """One mistake: where it is, what stands there, and the rule it breaks (with the way out)."""

    path: str
    value: object
    rule: str

    def __str__(self) -> str:
        path = printable(_shortened(self.path or "(top level)", LONGEST_TEXT))
        rule = printable(_shortened(self.rule, LONGEST_TEXT))
        if self.value is Missing:
            return f"{path}: {rule}"
        return f"{path}: {rule}, got {printable(_shortened(_bounded.repr(self.value), LONGEST_SHOWN))}"


class ConfigError(ValueError):
    """Bad input, every mistake of it; commands print it without a traceback and exit with code 2.

    Attributes:
        problems: every mistake found, in the order of the file; of very many, the first and how many there are.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        found = tuple(problems)
        if len(found) > MOST_LISTED + 1:  # the one more says how many there are
            rest = Problem("", f"{len(found)} mistakes", f"only the first {MOST_LISTED} are listed")
            found = (*found[:MOST_LISTED], rest)
        self.problems = found
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @classmethod
    def single(cls, path: str, value: object, rule: str) -> ConfigError:
        """The error for one mistake."""
        return cls([Problem(path, value, rule)])

    def __reduce__(self) -> tuple[Any, ...]:
        return ConfigError, (self.problems,)


def _kinds(model: type[BaseModel], location: Iterable[object]) -> str:
    """The kinds of a union, as a rule lists them."""
    kinds = [kind_of(m) for m in models_at(model, location)]
    known = ", ".join(repr(kind) for kind in kinds if kind is not None)
    return known + (", or a plug-in: its entry point or package.module:Name" if None in kinds else "")


def _with_kind(model: type[BaseModel], path: list[str], value: object) -> str:
    """What a section of a union holds, for somebody who wrote none."""
    kinds = [kind_of(m) for m in models_at(model, path)]
    if not any(kinds):
        return ""
    written = f": {{kind: {value}}}" if value in kinds and value is not None else ""
    return f" with its kind{written}, one of {_kinds(model, path)}"


def _holds(node: object, item: object) -> bool:
    if isinstance(node, list | tuple):
        return isinstance(item, int) and 0 <= item < len(node)
    return isinstance(node, Mapping) and item in node


def _problems(model: type[BaseModel], tree: object, error: Mapping[str, Any]) -> tuple[Problem, ...]:
    cause = error.get("ctx", {}).get("error")
    if not isinstance(cause, ConfigError):
        return (_problem(model, tree, error),)
    place = _problem(model, tree, {**error, "type": "missing"}).path  # of a part that a model of its own has checked
    return tuple(Problem(f"{place}.{p.path}" if p.path else place, p.value, p.rule) for p in cause.problems)


def _problem(model: type[BaseModel], tree: object, error: Mapping[str, Any]) -> Problem:
    location: tuple[object, ...] = error["loc"]
    kind, context = error["type"], error.get("ctx", {})
    path, node = [], tree
    for item in location:  # union tags and pydantic's own labels are no part of the user's path
        if _holds(node, item):
            node = node[item]  # type: ignore[index]
        elif item is not location[-1] or kind != "missing":
            continue
        path.append(str(item))
    dotted = ".".join(path)
    if kind == "extra_forbidden":
        return Problem(dotted, error["input"], f"unknown key{unknown_key(model, location, dotted)}")
    if kind == "missing":
        return Problem(dotted, Missing, "is required")
    if kind == "union_tag_not_found":
        return Problem(f"{dotted}.kind", Missing, f"is required, one of {_kinds(model, location)}")
    if kind == "union_tag_invalid":
        hint = type_hint("literal_error", node.get("kind") if isinstance(node, Mapping) else None, {str})
        hint += network_hint(context["tag"]) if dotted.endswith("model") else ""
        return Problem(f"{dotted}.kind", context["tag"], f"must be one of {_kinds(model, location)}{hint}")
    if kind == "value_error":
        return Problem(dotted, error["input"], str(context["error"]))
    if kind == "invalid_key":
        rule = "a key must be text: YAML takes on, off, yes and no for true and false; put it in quotes"
        return Problem(dotted, error["input"], rule)
    rule = error["msg"].replace("Input should", "must", 1)
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        rule = f"must be a valid dictionary{_with_kind(model, path, error['input'])}"
    return Problem(dotted, error["input"], rule + type_hint(kind, error["input"], types_at(model, dotted)))


def validate(model: type[M], tree: object) -> M:
    """Build a pydantic model from plain data.

    Raises:
        ConfigError: with every mistake at once.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as invalid:
        problems: dict[tuple[str, str], Problem] = {}
        errors = invalid.errors(include_url=False)
        for error in errors[:MOST_LISTED]:
            of_union = str(error["loc"][-1:]).startswith("('literal[")
            if of_union and error["type"] == "literal_error" and isinstance(error["input"], Mapping):
                continue  # the mapping's own mistakes follow: the union's other member is not what was meant
            for problem in _problems(model, tree, error):
                problems.setdefault((problem.path, problem.rule), problem)
        listed = list(problems.values())
        if len(errors) > MOST_LISTED:
            listed.append(Problem("", f"{len(errors)} mistakes", f"only the first {MOST_LISTED} are listed"))
        raise ConfigError(listed) from None
