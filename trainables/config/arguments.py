"""The settings of a network of one's own: what the class or function that builds it takes, beside `num_classes`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from inspect import Parameter, Signature, signature
from typing import Any, Optional

from pydantic import BaseModel, ConfigDict, create_model

__all__ = ["arguments_of", "called_with"]

CLASSES = "num_classes"
_PLAIN = (bool, int, float, str, type(None))


@cache
def arguments_of(build: Any) -> type[BaseModel]:
    """A model of the arguments that a config may set: of the annotated type, else of the default's.

    Arguments whose defaults are no plain data, such as a layer's class, are left out and keep them.

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
        p.name: _field(p)
        for p in named
        if p.name != CLASSES and not p.name.startswith("_") and (p.default is Parameter.empty or _is_plain(p.default))
    }
    config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())
    if takes_any:
        config["extra"] = "allow"
    return create_model(name, __config__=config, **fields)


def called_with(settings: BaseModel, num_classes: int) -> Mapping[str, Any]:
    """The keyword arguments of a call with these settings."""
    values = {name: getattr(settings, name) for name in type(settings).model_fields}
    return {CLASSES: num_classes, **values, **(settings.model_extra or {})}


def _signature(build: Any) -> Signature:
    try:
        return signature(build, eval_str=True)
    except NameError:  # an annotation that only type checkers can read
        return signature(build)
    except (TypeError, ValueError) as error:
        raise ValueError(f"must be a class or function whose arguments can be read ({error})") from None


def _field(parameter: Parameter) -> tuple[Any, Any]:
    kind, default = parameter.annotation, parameter.default
    if kind is Parameter.empty or isinstance(kind, str):
        unknown = default is Parameter.empty or default is None
        kind = Any if unknown else int | float if type(default) is int else type(default)
    if default is None:
        kind = Optional[kind]  # noqa: UP045 (`| None` does not take every annotation)
    return kind, ... if default is Parameter.empty else default


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return type(value) in _PLAIN
