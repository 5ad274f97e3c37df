"""Plain data (mappings, lists, scalars): written as YAML, and compared path by path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from spaces.domains import same
from trainables.config.plain_yaml import PlainDumper

__all__ = ["NOT_SET", "differences", "plain_yaml"]

NOT_SET = "(not set)"


class _Dumper(PlainDumper):
    """Lists, which hold scalars here, on one line."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        return super().represent_sequence(tag, sequence, flow_style=True)


def plain_yaml(tree: Mapping[str, Any]) -> str:
    """The tree as YAML that `trainables.config.parse_yaml` reads back to an equal one."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Path, old and new value wherever two trees differ; `NOT_SET` stands for what one of them lacks."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            below = f"{path}.{key}" if path else str(key)
            yield from differences(old.get(key, NOT_SET), new.get(key, NOT_SET), below)
    elif old is NOT_SET and isinstance(new, Mapping) and new:
        yield from differences({}, new, path)
    elif new is NOT_SET and isinstance(old, Mapping) and old:
        yield from differences(old, {}, path)
    elif not same(old, new):
        yield path, old, new
