"""The keys of a tree of pydantic models, and the types that stand at them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel

__all__ = ["kind_of", "location_of", "models_at", "owners", "paths_of", "types_at", "valid_keys"]


class _AnyKeys(BaseModel):
    """Stands for a mapping whose keys somebody else knows, such as a plug-in's settings."""


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if annotation == dict[str, Any]:
        return [_AnyKeys]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


def kind_of(model: type[BaseModel]) -> str | None:
    """The tag of a member of a union; None of the member that is any plug-in's."""
    field = model.model_fields.get("kind")
    return None if field is None or field.is_required() else field.default


def models_at(model: type[BaseModel], location: Iterable[object]) -> list[type[BaseModel]]:
    """The models that may stand at a pydantic error location, or at the keys of a tree with its kinds between them."""
    models = [model]
    for item in location:
        fields = [m.model_fields[str(item)] for m in models if str(item) in m.model_fields]
        if fields:
            models = [found for field in fields for found in _models_in(field.annotation)]
        else:  # the tag of a union's member; one that is no kind of ours is a plug-in's
            named = [m for m in models if item in (kind_of(m), m.__name__)]
            models = named or [m for m in models if kind_of(m) is None] or models
    return models


def valid_keys(model: type[BaseModel], location: Iterable[object]) -> list[str]:
    """The keys allowed at `location`, a pydantic error location whose last item is the offending key."""
    *parents, last = location
    models = models_at(model, parents)
    return [str(last)] if _AnyKeys in models else sorted({key for m in models for key in m.model_fields})


def owners(model: type[BaseModel], location: Iterable[object]) -> list[str]:
    """The other kinds of the union at `location` that have its last key."""
    *parents, last = location
    members = models_at(model, parents[:-1])
    return [kind for m in members if last in m.model_fields and (kind := kind_of(m)) and kind != parents[-1]]


def location_of(model: type[BaseModel], tree: Mapping[str, Any], path: str) -> tuple[list[object], int]:
    """`path` with the kinds of `tree` between its keys, up to the first that there is not, and how many there are."""
    location: list[object] = []
    node: Any = tree
    keys = path.split(".")
    for known, key in enumerate(keys):
        if key not in valid_keys(model, [*location, key]):
            return [*location, key], known
        location.append(key)
        node = node.get(key) if isinstance(node, Mapping) else None
        if isinstance(node, Mapping) and "kind" in node:
            location.append(node["kind"])
    return location, len(keys)


def paths_of(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Every dotted path, of all kinds."""
    paths: dict[str, None] = {}
    for name, field in model.model_fields.items():
        paths[f"{prefix}{name}"] = None
        for below in _models_in(field.annotation):
            paths |= dict.fromkeys(paths_of(below, f"{prefix}{name}."))
    return list(paths)


@lru_cache(maxsize=2000)
def types_at(model: type[BaseModel], path: str) -> frozenset[Any]:
    """What a key may hold, whatever the kinds above it: `int`, `float`, `bool`, `str`, `NoneType`, `list`, `dict`, the
    words that it knows, or `object` for anything; empty if there is no such key.
    """
    found: list[Any] = [model]
    for key in path.split("."):
        found = [below for annotation in found for below in _below(annotation, key)]
    return frozenset(kind for annotation in found for kind in _types(annotation))


def _below(annotation: Any, key: str) -> Iterator[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if field := annotation.model_fields.get(key):
            yield field.annotation
            words = [word for word in field.metadata if isinstance(word, str)]
            yield from [Literal[word] for word in words]
    elif get_origin(annotation) is dict:
        yield get_args(annotation)[1]
    elif annotation is Any:
        yield Any
    else:
        yield from (below for argument in get_args(annotation) for below in _below(argument, key))


def _types(annotation: Any) -> Iterator[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        yield object
    elif annotation in (None, NoneType):
        yield NoneType
    elif origin is Literal:
        yield from arguments
    elif origin is Annotated:
        yield from _types(arguments[0])
    elif origin in (list, tuple):
        yield list
    elif origin is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        yield dict
    elif isinstance(annotation, type):
        yield annotation
    else:
        yield from (kind for argument in arguments for kind in _types(argument))
