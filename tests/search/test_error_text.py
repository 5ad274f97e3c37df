from __future__ import annotations

import pytest

from search.error_text import last_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("Traceback:\n  x\nValueError: no\n\n", "ValueError: no"),
        ("\x1b[36mray::f()\x1b[39m\n  \x1b[1;31mOSError\x1b[0m: gone  ", "OSError: gone"),
        ("a\x07b\tc", "a b c"),
        (" \n ", "no message"),
        ("", "no message"),
    ],
)
def test_the_last_line_says_most(error: str, line: str) -> None:
    assert last_line(error) == line
