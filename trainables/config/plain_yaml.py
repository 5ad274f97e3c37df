"""YAML in and out: plain data only, whatever a file holds."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from trainables.config.problems import ConfigError

__all__ = ["PlainDumper", "dump_yaml", "load_yaml", "parse_yaml"]

MAX_YAML_BYTES = 200_000  # fifty real studies; PyYAML needs two seconds for it
DEEPEST = 60  # what reads the data after this may recurse


class PlainDumper(yaml.SafeDumper):
    """SafeDumper that writes what `parse_yaml` reads back to an equal tree."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _Loader(yaml.SafeLoader):
    """SafeLoader for plain scalars, lists and mappings alone.

    Aliases (they can expand without bound), tags, merge keys and duplicate keys are errors. 1e-3 is a number, 064 is
    64, not the octal 52 of YAML 1.1; a date, and 12:30, which YAML 1.1 takes for 750, are text.
    """

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        broken = None
        if isinstance(event, yaml.AliasEvent):
            broken = "aliases (*name) are not allowed here: write out what the anchor (&name) holds"
        elif getattr(event, "tag", None) is not None:
            broken = "tags (!name) are not allowed here"
        elif self._depth > DEEPEST:
            broken = f"must not be nested more than {DEEPEST} levels deep"
        if broken is not None:
            raise yaml.constructor.ConstructorError(None, None, broken, event.start_mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a scalar", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} appears twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        digits = node.value.replace("_", "").lower()
        return int(digits, 16 if "0x" in digits else 2 if "0b" in digits else 10)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)
# Of YAML 1.1's kinds of scalars: without dates and numbers to the base of 60, with 1e-3 as a number.
_NUMBER = list("-+.0123456789")
_INT = r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)"
_FLOAT = r"""(?x: [-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)? | [-+]?[0-9]+[eE][-+]?[0-9]+
           | [-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)? | [-+]?\.(?:inf|Inf|INF) | \.(?:nan|NaN|NAN) )"""
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag.rpartition(":")[2] in ("bool", "null")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, _pattern in (("int", _INT), ("float", _FLOAT)):
    for _reader_or_writer in (_Loader, PlainDumper):
        _reader_or_writer.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"(?:{_pattern})\Z"), _NUMBER)


def parse_yaml(text: str, name: str) -> Any:
    """Parse YAML safely: plain data only, no aliases, no tags, no duplicate keys.

    Raises:
        ConfigError: naming `name`, the line and what is wrong.
    """
    if len(text.encode(errors="replace")) > MAX_YAML_BYTES:
        raise ConfigError.single(name, f"{len(text)} characters", f"must be smaller than {MAX_YAML_BYTES:,} bytes")
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        tab = ": indent with spaces, not with tabs" if "'\\t'" in str(error.problem) else ""
        raise ConfigError.single(name + line, error.problem, f"is not plain YAML{tab}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError.single(name, str(error).partition("\n")[0], "is not plain YAML") from None


def load_yaml(path: Path) -> Any:
    """`parse_yaml` on a file.

    Raises:
        ConfigError: if the file cannot be read or is not plain YAML.
    """
    rule = "must be a readable YAML file"
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe may never end
            raise IsADirectoryError(0, "a folder, pipe or device")
        with path.open("rb") as file:
            content = file.read(MAX_YAML_BYTES + 1)
    except (OSError, ValueError) as error:  # the latter: a null byte in the path
        raise ConfigError.single(str(path), getattr(error, "strerror", None) or str(error), rule) from None
    if len(content) > MAX_YAML_BYTES:
        raise ConfigError.single(str(path), "a larger file", f"must not exceed {MAX_YAML_BYTES:,} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        where = "UTF-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else f"byte {error.start}"
        raise ConfigError.single(str(path), where, "must be UTF-8 text: save it as that") from None
    return parse_yaml(text, str(path))


def dump_yaml(tree: Mapping[str, Any]) -> str:
    """The tree as YAML that `parse_yaml` reads back to an equal one."""
    return yaml.dump(tree, Dumper=PlainDumper, sort_keys=False, allow_unicode=True, width=120)
