"""What each part of the doctor hands back: a check, the images that show it, and its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainables.check import Check

__all__ = ["Example", "Finding", "percent"]


@dataclass(frozen=True)
class Example:
    """Images that belong together on the page, by number: a pair of twins, or a single image.

    `caption` says what is to be seen.
    """

    images: tuple[int, ...]
    caption: str


@dataclass(frozen=True)
class Finding:
    """One check of the data.

    Attributes:
        check: what is said of it.
        examples: what shows it, what is most worth a look first; the page has the first of them.
        details: everything that was found, as JSON data; images by their names.
    """

    check: Check
    examples: tuple[Example, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


def percent(share: float) -> str:
    """A share of 1 as people read it: `3.4 %`."""
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.1f} %"
