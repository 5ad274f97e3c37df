"""Searchers: what to try next. Pure functions of the study's seed and of the trials they are told; no Ray.

A searcher that is told a study's records again suggests what it would have suggested without the interruption: nothing
depends on the order in which records come, on time, or on a random state that lives on.
"""

from __future__ import annotations

from typing import Protocol

from search.journal.records import TrialRecord
from spaces.space import Point

__all__ = ["Searcher"]


class Searcher(Protocol):
    """Suggests points of a space, by trial number."""

    def suggest(self, number: int) -> Point | None:
        """The point that trial `number` should try; None when the space is exhausted.

        Asked again about the same number it gives the same point.
        """
        ...

    def tell(self, record: TrialRecord) -> None:
        """Learn of a trial when it starts, when it is paused and when it ends; the later record replaces the earlier.

        Trials may come from here, from a recipe or from an earlier session.
        """
        ...
