"""What decides a comparison of a study's configs: which ones, over which seeds, and which run comes next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from search.journal.comparisons import Comparison, newest
from search.journal.events import Arm, ComparisonEnded, ComparisonKind, ComparisonStarted, TrialSuggested
from search.journal.state import StudyState
from trainables.config import ConfigError

__all__ = [
    "Comparer",
    "Contenders",
    "begun",
    "contenders_line",
    "ended",
    "fresh_seed",
    "next_run",
    "open_comparison",
    "superseded",
]

FIRST_SEED = 1000  # far from those of a search, whose best trial was chosen for its luck with them, too


@dataclass(frozen=True, slots=True)
class Contenders:
    """What a new comparison compares; see `search.journal.events.ComparisonStarted`."""

    arms: tuple[Arm, ...]
    reference: str | None
    most_runs: int
    folds: int | None = None


class Comparer(Protocol):
    """Decides one kind of comparison from the journal alone: asked again, it decides the same."""

    @property
    def kind(self) -> ComparisonKind:
        """Which kind."""
        ...

    def contenders(self, state: StudyState) -> Contenders | None:
        """What to compare now that the search is over; None if there is nothing."""
        ...

    def next_run(self, comparison: Comparison) -> tuple[Arm, int] | None:
        """The arm and index of the next run; None if there is none now, or at all."""
        ...

    def ending(self, comparison: Comparison) -> tuple[str, str | None]:
        """Why a comparison of which no run is under way or to come has ended, and which arm has won."""
        ...


def open_comparison(state: StudyState, kind: ComparisonKind) -> Comparison | None:
    """The comparison of this kind that this or an earlier session has begun and not ended."""
    last = newest(state.comparisons, kind)
    return None if last is None or last.ended is not None else last


def fresh_seed(state: StudyState, runs: int) -> int:
    """The first of so many seeds in a row that neither a trial of the search nor a comparison has had."""
    first = max([FIRST_SEED, *(c.started.first_seed + c.started.most_runs for c in state.comparisons)])
    used = {record.config["seed"] for record in state.trials}
    while taken := used.intersection(range(first, first + runs)):
        first = max(taken) + 1
    return first


def begun(comparer: Comparer, state: StudyState, now: float) -> ComparisonStarted | None:
    """The event that begins the comparison; None if it is under way, or there is nothing to compare."""
    if open_comparison(state, comparer.kind) is not None or (found := comparer.contenders(state)) is None:
        return None
    return ComparisonStarted(
        comparison=len(state.comparisons) + 1, kind=comparer.kind, arms=found.arms, reference=found.reference,
        first_seed=fresh_seed(state, found.most_runs), most_runs=found.most_runs, folds=found.folds, time=now,
    )  # fmt: skip


def superseded(comparer: Comparer, state: StudyState, now: float) -> ComparisonEnded | None:
    """The event that ends a comparison under way whose contenders are of the past, because the search went on."""
    comparison = open_comparison(state, comparer.kind)
    if comparison is None or not state.trained_since(comparison):
        return None
    return ComparisonEnded(comparison=comparison.number, reason="superseded", time=now)


def next_run(comparer: Comparer, state: StudyState, now: float) -> TrialSuggested | None:
    """The next run of the comparison under way as a new trial; None if there is none now, or at all."""
    comparison = open_comparison(state, comparer.kind)
    run = None if comparison is None else comparer.next_run(comparison)
    if comparison is None or run is None:
        return None
    (arm, index), origin = run, f"{comparer.kind}:{run[0].name}"
    config = comparison.config(arm, index)
    return TrialSuggested(trial=len(state.records), origin=origin, values=None, config=config, time=now)


def ended(comparer: Comparer, state: StudyState, limit: str | None, now: float) -> ComparisonEnded | None:
    """The event that ends the comparison under way; `limit` is the key of the budget that is used up, if one is."""
    comparison = open_comparison(state, comparer.kind)
    if comparison is None:
        return None
    reason, winner = comparer.ending(comparison)
    return ComparisonEnded(comparison=comparison.number, reason=limit or reason, winner=winner, time=now)


def contenders_line(comparer: Comparer, state: StudyState) -> str:
    """What is about to be compared, in words.

    Raises:
        ConfigError: if there is nothing to compare.
    """
    under_way, found = open_comparison(state, comparer.kind), comparer.contenders(state)
    last = newest(state.comparisons, comparer.kind)
    if last is not None and last.ended is not None and not last.is_over and not state.trained_since(last):
        return f"{comparer.kind} {last.number}, whose winner is still to be scored on the test split"
    if under_way is not None and not state.trained_since(under_way):
        started = under_way.started
        found = Contenders(started.arms, started.reference, started.most_runs, started.folds)
    if found is None:
        raise ConfigError.single("STUDY", comparer.kind, "needs a trial that was trained to its end: search first")
    names = [arm.name for arm in found.arms]
    what = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    if comparer.kind == "explain":
        what = f"{len(names)} configs, from the {names[0]} to the best,"
    folds = f", cross-validated on {found.folds} folds" if found.folds else ""
    again = "continuing its" if under_way is not None else ""
    return f"{again} {comparer.kind} of {what} over at most {found.most_runs} seeds{folds}".strip()
