"""The search's own doctor: every check of a study, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Callable

from search.analysis.curves import early_ranks, other_rules, training_length
from search.analysis.settings import divergence, edges, enough_trials, failures, influence
from search.analysis.winner import against_recipes, collapse, last_improvement, resolution
from search.journal.result import StudyResult
from trainables.check import Check

__all__ = ["CHECKS", "check_all"]

CHECKS: tuple[Callable[[StudyResult], Check], ...] = (
    failures, divergence, collapse, against_recipes, resolution, edges, influence, enough_trials, last_improvement,
    training_length, early_ranks, other_rules,
)  # fmt: skip


def check_all(result: StudyResult) -> list[Check]:
    """Every check of a study, also of one that runs or has not begun.

    A next step names the command that continues the study `{search}`, its folder `{study}`, its files `{file}` and
    `{best_config}`, and the options for what it needs of other packages `{plugins}`; `search.views.checks` fills them
    in with what can be typed.
    """
    return [check(result) for check in CHECKS]
