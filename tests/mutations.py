"""Damage for the tests of everything that reads files: to plain data, to bytes, to lines; and what a refusal is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st

from trainables.config import ConfigError

__all__ = ["COSTLY", "ODD", "check_clear", "damaged", "mutated", "read_or_refused"]

T = TypeVar("T")

# For properties that take a hundredth of a second or more an example: a third of the profile's examples.
COSTLY = settings(max_examples=settings().max_examples // 3)

LONGEST_LINE = 3000  # characters of one mistake; thousands of them, or a megabyte, help nobody
MOST_LINES = 101

WORDS = (
    "",
    "none",
    "auto",
    "sgd",
    "kind",
    "config",
    "lr",
    "a.b",
    "../..",
    "\0",
    "\x1b[2J",
    "1e5",
    "x" * 5000,
    "ü\u202e",
)
NUMBERS = (0, 1, -1, 2, 10**9, 2**31, 2**63, -(2**63), 10**400)
FLOATS = (0.0, -0.0, 0.5, -1.5, 1e-320, 1e308, math.inf, -math.inf, math.nan)


def _deep(kind: str, levels: int) -> Any:
    node: Any = 1
    for _ in range(levels):
        node = [node] if kind == "list" else {"kind": node}
    return node


# Any value where another was meant: the least and the largest of every type among them.
ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.sampled_from(WORDS), st.sampled_from(NUMBERS), st.sampled_from(FLOATS),
    st.text(max_size=4), st.integers(), st.floats(),
    st.sampled_from([[], {}, [1, 2], [[]], {"a": 1}, {"kind": "sgd"}, {1: 2}, {None: [None]}]),
    st.builds(_deep, st.sampled_from(["list", "mapping"]), st.integers(1, 40)),
)  # fmt: skip


def _nodes(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of everything in a tree of mappings and lists, the tree itself left out."""
    below = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    for key, value in below:
        yield (*path, key)
        yield from _nodes(value, (*path, key))


def _copy(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _copy(value) for key, value in tree.items()}
    return [_copy(value) for value in tree] if isinstance(tree, list | tuple) else tree


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


@st.composite
def mutated(draw: st.DrawFn, tree: Any, odd: st.SearchStrategy[Any] = ODD, most: int = 4) -> Any:
    """A copy of plain data in which one to `most` nodes were replaced, removed, renamed, added, moved or wrapped.

    `odd` makes the values that replace others. Tuples become lists.
    """
    tree = _copy(tree)
    for _ in range(draw(st.integers(1, most))):
        paths = list(_nodes(tree))
        if not paths:
            return _copy(draw(odd))
        *parents, key = draw(st.sampled_from(paths))
        holder = _at(tree, tuple(parents))
        change = draw(st.sampled_from(["replace", "replace", "remove", "rename", "add", "move", "wrap"]))
        if change == "replace":
            holder[key] = _copy(draw(odd))
        elif change == "remove":
            del holder[key]
        elif change == "rename" and isinstance(holder, dict):
            holder[draw(st.sampled_from(WORDS) | st.integers())] = holder.pop(key)
        elif change == "add" and isinstance(holder, dict):
            holder[draw(st.sampled_from(WORDS))] = _copy(draw(odd))
        elif change == "move":
            holder[key] = _copy(_at(tree, draw(st.sampled_from(paths))))
        else:
            inner = holder[key]
            holder[key] = {"kind": inner} if draw(st.booleans()) else [inner, _copy(inner)]
    return tree


@st.composite
def damaged(draw: st.DrawFn, content: bytes, most: int = 4) -> bytes:
    """A copy of `content` with one to `most` places overwritten, cut out, doubled or filled in, or its end cut off."""
    for _ in range(draw(st.integers(1, most))):
        size = len(content)
        # Headers are at either end: they are hit as often as all the rest.
        place = draw(st.integers(0, min(size, 200)) | st.integers(0, size) | st.integers(max(0, size - 200), size))
        length = draw(st.integers(0, 8) | st.integers(0, max(size - place, 0)))
        change = draw(st.sampled_from(["overwrite", "overwrite", "remove", "double", "insert", "cut"]))
        patch = draw(st.binary(min_size=1, max_size=8))
        if change == "overwrite":
            content = content[:place] + patch + content[place + len(patch) :]
        elif change == "remove":
            content = content[:place] + content[place + length :]
        elif change == "double":
            content = content[: place + length] + content[place:]
        elif change == "insert":
            content = content[:place] + patch + content[place:]
        else:
            content = content[:place]
    return content


def check_clear(error: ConfigError) -> None:
    """A refusal is a few short lines that can be shown in any terminal, each with what is wrong and the rule."""
    lines = [str(problem) for problem in error.problems]
    assert 1 <= len(lines) <= MOST_LINES
    for problem, line in zip(error.problems, lines, strict=True):
        assert problem.rule
        assert len(line) <= LONGEST_LINE
        assert line.isprintable()
        line.encode()


def read_or_refused(read: Callable[[], T]) -> T | None:
    """What `read` gives; None where it refuses with a clear ConfigError. Any other exception is the test's failure."""
    try:
        return read()
    except ConfigError as error:
        check_clear(error)
        return None
