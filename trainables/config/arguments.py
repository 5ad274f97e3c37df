"""The settings of a network of one's own: what the class or function that builds it takes, beside `num_classes`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from inspect import Parameter, Signature, signature
from typing import Any, Optional

from pydantic import BaseModel, ConfigDict, create_model

__all__ = ["arguments_of", "called_with"]

CLASSES = "num_classes"
_PLAIN = (bool, int, float, str, type(None))
_CONFIG = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())


@cache
def arguments_of(build: Any) -> type[BaseModel]:
    """A model of the arguments that a config may set: of the annotated type, else of the default's.

    Arguments whose defaults are no plain data, such as a layer's class, are left out and keep them. So are those with a
    name that pydantic needs itself.

    Raises:
        ValueError: saying the rule, if it cannot be called as build(num_classes=10, ...).
    """
    found = _signature(build).parameters.values()
    named = [p for p in found if p.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)]
    takes_any = any(p.kind is Parameter.VAR_KEYWORD for p in found)
    name = getattr(build, "__name__", "it")
    if not takes_any and CLASSES not in [p.name for p in named]:
        own = f"name a function that builds it, def build(num_classes): return {name}(...)"
        raise ValueError(f"must take an argument num_classes, and {name} takes none: {own}")
    fields: dict[str, Any] = {
        p.name: (_type(p), ... if p.default is Parameter.empty else p.default)
        for p in named
        if p.name != CLASSES and (p.default is Parameter.empty or (_is_plain(p.default) and not _is_reserved(p.name)))
    }
    config = _CONFIG | ConfigDict(extra="allow") if takes_any else _CONFIG
    return create_model(name, __config__=config, **fields)


def called_with(settings: BaseModel, num_classes: int) -> Mapping[str, Any]:
    """The keyword arguments of a call with these settings; what is as its default is left to that."""
    values = {
        name: value
        for name, field in type(settings).model_fields.items()
        if _plain(value := getattr(settings, name)) != _plain(field.default)
    }
    return {CLASSES: num_classes, **values, **(settings.model_extra or {})}


def _signature(build: Any) -> Signature:
    with suppress(Exception):  # annotations may be any text, or names that only type checkers know
        return signature(build, eval_str=True)
    try:
        return signature(build)
    except (TypeError, ValueError) as error:
        raise ValueError(f"must be a class or function whose arguments can be read ({error})") from None


def _type(parameter: Parameter) -> Any:
    """What a setting must be; anything where the annotation is no type, or its own default is not of it."""
    kind, default = parameter.annotation, parameter.default
    if kind is Parameter.empty or isinstance(kind, str):
        unknown = default is Parameter.empty or default is None
        kind = Any if unknown else int | float if type(default) is int else type(default)
    try:
        if default is None:
            kind = Optional[kind]  # noqa: UP045 (`| None` does not take every annotation)
        model: type[BaseModel] = create_model("Setting", __config__=_CONFIG, value=(kind, ...))
        if default is not Parameter.empty:
            model.model_validate({"value": _plain(default)})
    except Exception:  # noqa: BLE001 (pydantic raises what it likes for what is no type)
        return Any
    return kind


def _plain(value: Any) -> Any:
    """As it is recorded: a list for a tuple."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return type(value) in _PLAIN and (not isinstance(value, float) or math.isfinite(value))  # as JSON has it


def _is_reserved(name: str) -> bool:
    return name.startswith("_") or hasattr(BaseModel, name)
