"""Errors in one line."""

from __future__ import annotations

import re

__all__ = ["error_summary", "first_line"]

ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
DEATH = "The actor died"  # the worker's particulars follow, indented, and then what is known
LOW_MEMORY = "running low on memory"


def error_summary(error: str) -> str:
    """The line that says most of an error's text, which may be a colored traceback of pages; printable.

    It is the last one, but where Ray tells why a worker is gone it comes earlier, before pages of advice.
    """
    lines = [line.rstrip() for line in ESCAPE.sub("", error).splitlines() if line.strip()] or ["no message"]
    chosen = lines[-1]
    for number, line in enumerate(lines):
        if LOW_MEMORY in line:
            chosen = line
            break
        if line.startswith(DEATH):
            chosen = next((line for line in lines[number + 1 :] if not line.startswith("\t")), line)
            break
    return "".join(mark if mark.isprintable() else " " for mark in chosen).strip()


def first_line(error: BaseException) -> str:
    """The first line of an error's message; of an OSError, what the system calls it."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0][:300]
