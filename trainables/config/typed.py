"""A value as it is typed on a command line, `--set a.b=value`, for a key whose types are known."""

from __future__ import annotations

import re
from typing import Any

from trainables.config.plain_yaml import parse_yaml
from trainables.config.problems import ConfigError

__all__ = ["typed_value"]

QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"\\]|\\.)*\"""")


def typed_value(written: str, types: frozenset[Any], name: str) -> Any:
    """The value typed for a key of these types: text is taken whole, but for quotes around it; all else is YAML, whose
    1e3 is an integer where one is due.

    Raises:
        ConfigError: if it is not plain YAML, or YAML would drop a part of it as a comment.
    """
    bare = written.strip()
    quoted = len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "'\""
    if str in types or (types and all(isinstance(kind, str) for kind in types)):
        if "none" in types and bare.lower() in ("no", "off", "false"):
            return "none"
        return bare[1:-1] if quoted else written if str in types else bare
    if re.search(r"(^|\s)#", QUOTED.sub("", written)):
        rule = "must hold no comment, which YAML begins at a # after a space: leave it out, or put the text in quotes"
        raise ConfigError.single(name, written, rule)
    try:
        value = parse_yaml(written, name)
    except ConfigError:
        if types:
            raise
        return written  # of a key that there is not, which is said
    is_whole = isinstance(value, float) and value.is_integer() and int in types and float not in types
    return int(value) if is_whole else value  # 1e3
