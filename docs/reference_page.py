"""The page with every key of a study and of a trial, from the pydantic models that check them."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from search.study.settings import ListenerPlugin
from search.study.spec import StudySpec
from trainables.config import TrialConfig

__all__ = ["reference"]

LEAD = """# Reference: every key

Made from the models that check them, by `make docs`. A config file of `trainables.train` has the keys of a trial; a
study has those of a study, and a trial's under `trial`. `--set a.b=c` sets any of them. Where a key has a `kind`, the
others depend on it. Unknown keys are errors.
"""


def reference() -> str:
    """The page in Markdown."""
    lines = [LEAD, "## A trial", *_sections(TrialConfig, ""), "## A study", *_sections(StudySpec, "")]
    return "\n".join(lines).rstrip() + "\n"


def _sections(model: type[BaseModel], path: str) -> Iterator[str]:
    """The table of a model's own keys, then the sections below it."""
    yield f"### `{path}`\n" if path else ""
    if model.__doc__ and path:
        yield re.sub(r"\n\n+", "\n\n", inspect.cleandoc(model.__doc__)) + "\n"
    below = {name: _models(field.annotation) for name, field in model.model_fields.items()}
    fields = {name: field for name, field in model.model_fields.items() if name != "kind"}
    plain = {name: field for name, field in fields.items() if not below[name] or _words(field.annotation)}
    if plain:
        yield "| key | value | default |"
        yield "| --- | --- | --- |"
        yield from (f"| `{name}` | {_value(field)} | {_default(field)} |" for name, field in plain.items())
        yield ""
    for name, models in below.items():
        inner = f"{path}.{name}" if path else name
        for each in models:
            kind = each.model_fields.get("kind")
            tagged = kind is not None and isinstance(kind.default, str)
            yield from _sections(each, f"{inner}: {{kind: {kind.default}}}" if kind and tagged else inner)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models that a key may hold; plug-ins' and those of Python objects have pages of their own."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        is_own = "kind" not in annotation.model_fields or isinstance(annotation.model_fields["kind"].default, str)
        return [annotation] if is_own else []
    if get_origin(annotation) in (Annotated, Union, types.UnionType):
        return [model for part in get_args(annotation) for model in _models(part)]
    return []


def _value(field: FieldInfo) -> str:
    return _words(field.annotation, field.metadata).replace("|", "\\|")


def _words(annotation: Any, metadata: list[Any] | tuple[Any, ...] = ()) -> str:
    """A type with its bounds, in words."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(args[0], [*args[1:], *metadata])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in args)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(filter(None, (_words(part, metadata) for part in args))))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return ""  # a section of its own
    if annotation == list[ListenerPlugin]:
        return "list of [plug-ins](plugins.md)"
    if origin in (tuple, list):
        return f"list of {_words(args[0])}"
    if origin is dict or annotation is dict:
        return "mapping"
    names = {int: "integer", float: "number", bool: "`true` or `false`", str: "text", type(None): "`null`"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation))) + _bounds(annotation, metadata)


def _bounds(annotation: Any, metadata: list[Any] | tuple[Any, ...]) -> str:
    if annotation not in (int, float):
        return ""
    found: dict[str, Any] = {}
    for each in metadata:
        for part in each.metadata if isinstance(each, FieldInfo) else [each]:
            for name in ("ge", "gt", "le", "lt"):
                if isinstance(part, getattr(annotated_types, name.capitalize())):
                    found[name] = getattr(part, name)
    words = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}
    shown = [f"{words[name]} {found[name]:g}" for name in words if name in found and abs(found[name]) < 2**32]
    return f", {' '.join(shown)}" if shown else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default if field.default is not PydanticUndefined else field.get_default(call_default_factory=True)
    if value is None or isinstance(value, bool):
        return f"`{str(value).lower().replace('none', 'null')}`"
    if isinstance(value, tuple):
        return f"`{list(value)}`"
    if isinstance(value, BaseModel):
        return ""
    return f"`{value}`" if value != "" else ""
