"""Nested dicts and their dotted paths: the form in which configs are merged, searched and logged."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

__all__ = ["checksum", "flatten", "merge", "unflatten"]


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `override` laid over it, recursively.

    Where both sides carry a `kind` and it differs, the override replaces the whole mapping: what belonged to the other
    member of a tagged union has no meaning for this one.
    """
    if "kind" in base and "kind" in override and base["kind"] != override["kind"]:
        return dict(override)
    merged = dict(base)
    for key, value in override.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def unflatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """`{"a.b": 1}` as `{"a": {"b": 1}}`.

    Raises:
        ValueError: if one path is both a value and the parent of another.
    """
    tree: dict[str, Any] = {}
    for path, value in values.items():
        *parents, leaf = path.split(".")
        node = tree
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise ValueError(f"{path}: {parent} already holds the value {child!r}")
            node = child
        if isinstance(value, Mapping) and isinstance(node.get(leaf), dict):
            node[leaf] = merge(node[leaf], value)
        elif isinstance(node.get(leaf), dict):
            raise ValueError(f"{path}: cannot be a value, keys below it are set as well")
        else:
            node[leaf] = value
    return tree


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`; lists become JSON text, so that every value is a scalar."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = json.dumps(value) if isinstance(value, list | tuple) else value
    return flat


def checksum(tree: object) -> str:
    """A short text that changes with any value of a tree of plain data; the order of its keys does not count."""
    return f"{zlib.crc32(json.dumps(tree, sort_keys=True, default=str).encode()):08x}"
