"""Mistakes in configs, all reported at once: path, value, rule, and the nearest valid key."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Number
from pathlib import PurePath
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

__all__ = ["ConfigError", "Problem", "validate"]

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


def _printable(text: str) -> str:
    """`text` on one line, without what would move a terminal's cursor or cannot be encoded."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@dataclass(frozen=True)
class Problem:
    """One mistake: where it is, what stands there, and the rule it breaks (with the way out)."""

    path: str
    value: object
    rule: str

    def __str__(self) -> str:
        path = _printable(_shortened(self.path or "(top level)", LONGEST_TEXT))
        rule = _printable(_shortened(self.rule, LONGEST_TEXT))
        return f"{path}: {rule}, got {_printable(_shortened(_bounded.repr(self.value), LONGEST_SHOWN))}"


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


class _AnyKeys(BaseModel):
    """Stands for a mapping whose keys somebody else knows, such as a plug-in's settings."""


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if annotation == dict[str, Any]:
        return [_AnyKeys]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


def _kind(model: type[BaseModel]) -> str | None:
    """The tag of a member of a union; None of the member that is any plug-in's."""
    field = model.model_fields.get("kind")
    return None if field is None or field.is_required() else field.default


def _models_at(model: type[BaseModel], location: Iterable[object]) -> list[type[BaseModel]]:
    """The models that may stand at a pydantic error location, or at the keys of a tree with its kinds between them."""
    models = [model]
    for item in location:
        fields = [m.model_fields[str(item)] for m in models if str(item) in m.model_fields]
        if fields:
            models = [found for field in fields for found in _models_in(field.annotation)]
        else:  # the tag of a union's member; one that is no kind of ours is a plug-in's
            named = [m for m in models if item in (_kind(m), m.__name__)]
            models = named or [m for m in models if _kind(m) is None] or models
    return models


def valid_keys(model: type[BaseModel], location: Iterable[object]) -> list[str]:
    """The keys allowed at `location`, a pydantic error location whose last item is the offending key."""
    *parents, last = location
    models = _models_at(model, parents)
    return [str(last)] if _AnyKeys in models else sorted({key for m in models for key in m.model_fields})


def _kinds(model: type[BaseModel], location: Iterable[object]) -> str:
    """The kinds of a union, as a rule lists them."""
    kinds = [_kind(m) for m in _models_at(model, location)]
    known = ", ".join(repr(kind) for kind in kinds if kind is not None)
    return known + (", or a plug-in: its entry point or package.module:Name" if None in kinds else "")


def nearest(key: str, keys: Iterable[str]) -> str:
    """A hint like ", did you mean `lr`?", or the list of valid keys when none is near."""
    keys = list(keys)
    close = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else f"valid keys: {', '.join(keys)}"


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
        key = str(location[-1])
        return Problem(dotted, error["input"], f"unknown key, {nearest(key, valid_keys(model, location))}")
    if kind == "missing":
        return Problem(dotted, None, "is required")
    if kind == "union_tag_not_found":
        return Problem(f"{dotted}.kind", None, f"is required, one of {_kinds(model, location)}")
    if kind == "union_tag_invalid":
        return Problem(f"{dotted}.kind", context["tag"], f"must be one of {_kinds(model, location)}")
    if kind == "value_error":
        return Problem(dotted, error["input"], str(context["error"]))
    message = error["msg"]
    return Problem(dotted, error["input"], message.replace("Input should", "must", 1))


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
