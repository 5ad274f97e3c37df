"""The result of one check of a doctor: of a search, of data, of a model. Imports no torch."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = ["INDENT", "Check", "CheckStatus", "alarms", "line_of"]

INDENT = 9  # columns of a terminal that a check's status takes

CheckStatus = Literal["ok", "warning", "problem", "unknown"]


@dataclass(frozen=True, slots=True)
class Check:
    """What one check says.

    Attributes:
        name: what was checked, in two or three words.
        status: `problem`: the result cannot be trusted as it is. `warning`: something that a user should know, or could
            do better. `unknown`: the records cannot tell.
        evidence: what was seen, with its numbers, in one line.
        next_step: a command, with words on it behind a `#`, or a line of advice; None if it is ok, or if nothing can be
            done.

    Raises:
        ValueError: if a check that is ok has a next step.
    """

    name: str
    status: CheckStatus
    evidence: str
    next_step: str | None = None

    def __post_init__(self) -> None:
        if self.status == "ok" and self.next_step is not None:
            raise ValueError(f"{self.name}: there is nothing to do where a check is ok")


def alarms(checks: Iterable[Check]) -> list[Check]:
    """The checks that a user must see, problems first."""
    checks = list(checks)
    return [check for status in ("problem", "warning") for check in checks if check.status == status]


def line_of(check: Check, width: int | None) -> str:
    """What stands behind a check's status, its name and evidence: wrapped for a terminal of `width`, or in one line."""
    text = f"{check.name}: {check.evidence}"
    if width is None:
        return text
    margin = " " * INDENT
    return textwrap.fill(
        text, width, initial_indent=margin, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False
    ).lstrip()
