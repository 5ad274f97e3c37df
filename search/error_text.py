"""Errors in a line: what a trial raised may be a coloured traceback of pages."""

from __future__ import annotations

import re

__all__ = ["last_line"]

ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


def last_line(error: str) -> str:
    """The line of an error or traceback that says most, without colours and other control characters."""
    lines = [line.strip() for line in ESCAPE.sub("", error).splitlines() if line.strip()]
    return "".join(mark if mark.isprintable() else " " for mark in lines[-1]) if lines else "no message"
