"""What an event's text is read for."""

from __future__ import annotations

import pytest

from search.journal.error_text import error_summary

DEATH = """Failure # 1 (occurred at 2026-01-01_00-00-00)
The actor died unexpectedly before finishing this task.
\tclass_name: with_resources.<locals>.ResourceTrainable
\tpid: 29097
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR
Some advice.
"""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("Traceback:\n  x\nValueError: no\n\n", "ValueError: no"),
        ("\x1b[36mray::f()\x1b[39m\n  \x1b[1;31mOSError\x1b[0m: gone  ", "OSError: gone"),
        (DEATH, "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"),
        (
            "Failure # 1\n1 worker(s) were killed due to the node running low on memory. 7 GB\n1 2\nAdvice.",
            "1 worker(s) were killed due to the node running low on memory. 7 GB",
        ),
        ("The actor died unexpectedly.\n\tpid: 1\n", "The actor died unexpectedly."),
        ("a\x07b\tc", "a b c"),
        (" \n ", "no message"),
        ("", "no message"),
    ],
)
def test_the_line_that_says_most(error: str, line: str) -> None:
    assert error_summary(error) == line
