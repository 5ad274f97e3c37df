"""When a study's budget of hours or money is used up."""

from __future__ import annotations

from search.journal.state import StudyState
from search.study.resources import Budget

__all__ = ["limit_reached"]


def limit_reached(budget: Budget, share: float, hours: float, state: StudyState, now: float) -> str | None:
    """The key of the budget of which `share` is used up, after so many hours and what the nodes have cost by `now`."""
    if budget.hours is not None and hours >= share * budget.hours:
        return "hours"
    spent = state.spending.at(now)
    return "max_cost" if budget.max_cost is not None and spent >= share * budget.max_cost else None
