"""Which images of a source are left out (`data.exclude`), and which belong together by name (`data.group_by`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from trainables.config import ConfigError, Data
from trainables.config.paths import absolute_path
from trainables.data.source import Contents, Row, listed

__all__ = ["excluded_names", "selected"]

_ROW = re.compile(r"(.+ row \d+) \(.*\)")  # of a table: the path behind it may be left out


def excluded_names(path: str) -> tuple[str, ...]:
    """The images that a list names, one a line, in its order; empty lines and comments, after `# `, are no images.

    Raises:
        ConfigError: if the file can't be read.
    """
    try:
        lines = Path(absolute_path(path)).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        rule = f"must name a text file with an image a line, as `python -m trainables.inspect` writes it ({reason})"
        raise ConfigError.single("data.exclude", path, rule) from error
    names = (line.strip() for line in lines)
    return tuple(dict.fromkeys(name for name in names if name and not f"{name} ".startswith("# ")))


def selected(contents: Contents, data: Data) -> Contents:
    """`contents` without what `data.exclude` lists, its rows in the groups that a pattern finds in their names.

    Its `rows` raise a ConfigError when they end: naming the lines that match no image, or the images without a group.
    """
    names = excluded_names(data.exclude) if data.exclude is not None else ()
    # A source that has a group for each row (a column of a table) has given it already.
    pattern = re.compile(data.group_by) if data.group_by is not None and not contents.grouped else None
    if not names and pattern is None:
        return contents

    def rows() -> Iterator[Row]:
        unmatched, ungrouped = dict.fromkeys(names), []
        for row in contents.rows():
            in_table = _ROW.fullmatch(row.name)
            called = {row.name, in_table[1]} if in_table else {row.name}
            if not called.isdisjoint(excluded):
                for name in called:
                    unmatched.pop(name, None)
                continue
            if pattern is not None:
                found = pattern.search(row.name)
                group = found and found[1]
                if not group:
                    ungrouped.append(row.name)
                row = replace(row, group=group)
            yield row
        _check_matched(data, list(unmatched))
        _check_grouped(data, ungrouped, contents.count)

    excluded = frozenset(names)
    left_out = (f"{len(names):,} listed in {Path(data.exclude or '').name}",) if names else ()
    count = max(contents.count - len(names), 0)
    return replace(contents, rows=rows, count=count, left_out=(*left_out, *contents.left_out))


def _check_matched(data: Data, unmatched: list[str]) -> None:
    if unmatched:
        rule = (
            f"must list images of {data.source} by their names, one a line, and has {len(unmatched)} that are none: "
            f"{listed(unmatched)}; correct or remove these lines"
        )
        raise ConfigError.single("data.exclude", data.exclude, rule)


def _check_grouped(data: Data, ungrouped: list[str], count: int) -> None:
    if ungrouped:
        rule = (
            f"must find a group in the name of every image, and finds none in {len(ungrouped):,} of {count:,}: "
            f"{listed(ungrouped)}; correct the pattern, or leave these images out with data.exclude"
        )
        raise ConfigError.single("data.group_by", data.group_by, rule)
