"""Errors in one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from trainables.config import ConfigError

__all__ = ["error_summary", "first_line", "required"]

ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
DEATH = "The actor died"  # the worker's particulars follow, indented, and then what is known
IN_SETUP = "in its creation task"  # its traceback follows
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
        if line.startswith(DEATH) and IN_SETUP not in line:
            chosen = next((line for line in lines[number + 1 :] if not line.startswith("\t")), line)
            break
    return "".join(mark if mark.isprintable() else " " for mark in chosen).strip()


def first_line(error: BaseException) -> str:
    """The first line of an error's message; of an OSError, what the system calls it."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0][:300]


@contextmanager
def required(option: str, value: object, rule: str) -> Iterator[None]:
    """Refuse what the user gave if what is done with it ends in an OSError.

    Raises:
        ConfigError: with the option, its value, the rule that it breaks, and what the system says.
    """
    try:
        yield
    except OSError as error:
        raise ConfigError.single(option, str(value), f"{rule} ({first_line(error)})") from None
