"""Searchers: what to try next. Pure functions of the study's seed and of its trials so far; no Ray.

A searcher that is given a study's records again suggests what it would have suggested without the interruption: nothing
depends on the order in which records come, on time, or on a random state that lives on.

A searcher of your own is any class with these two methods. A study names it as a plug-in, by an entry point of the
group `resnet_search.searchers` or as `kind: my_pkg:MySearcher`, and it is built as `MySearcher(study, settings)`: the
StudySpec (`study.parsed_space`, `study.objective`, `study.seed`), and an object of its class attribute `Settings`, a
pydantic model that has checked the study's `searcher.settings`; None if it has no such attribute. Or pass an object in
Python, `run_study(..., searcher=MySearcher(...))`. `search.testing` has the tests that it should pass.
"""

from __future__ import annotations

from typing import Protocol

from search.journal.records import TrialRecord
from spaces.space import Point

__all__ = ["Searcher"]


class Searcher(Protocol):
    """Suggests points of a space, by trial number."""

    def suggest(self, number: int) -> Point | None:
        """The point that trial `number` should try; None when the space is exhausted, which ends the search.

        Asked again about the same number it gives the same point. A point that another trial has had is not suggested
        again: its numbers are known. Where one is all the same, its trial gets the next seed.
        """
        ...

    def tell(self, record: TrialRecord) -> None:
        """Take a trial's record when it starts, when it is paused and when it ends; a later one replaces an earlier.

        Trials may come from here, from a recipe, from an earlier session or, before all others, from an earlier study:
        `record.is_prior`, with a number below 0. Those are knowledge alone: their points may be suggested again, and
        all that their history holds is the objective.
        """
        ...
