"""The page's tables: the best config, every trial, failures, and what the study took."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from search.journal.cost import spent_of
from search.journal.records import TrialRecord, TrialStatus, ranked
from search.journal.reference import reference
from search.journal.result import StudyResult
from search.views.progress import counted, duration
from search.views.refit import chosen_trial
from search.views.report.settings import Setting, value_text
from search.views.trials import why_ended
from spaces.domains import domain_text
from trainables.config import flatten

__all__ = ["Failure", "TrialRow", "best_settings", "effort", "failures", "trial_rows"]

MOST_ERROR = 300  # characters
MOST_NUMBERS = 30  # of trials in one cell


@dataclass(frozen=True, slots=True)
class TrialRow:
    """A trial as the table shows it; `value` is empty before the first epoch, `settings` are in the space's order."""

    number: int
    origin: str
    status: str
    epoch: int
    value: str
    why: str
    took: str
    settings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """Trials that failed with the same error, or diverged: its line, how many, and which."""

    status: str
    error: str
    count: int
    trials: str


def trial_rows(result: StudyResult, settings: Sequence[Setting]) -> list[TrialRow]:
    """Every trial, the best first."""
    objective = result.spec.objective
    return [
        TrialRow(
            record.number,
            record.recipe or record.origin,
            record.status.value.lower(),
            record.last_epoch,
            _number(record.value(objective.metric)),
            why_ended(record, objective),
            f"{_seconds(record):.1f}",
            tuple(setting.text(record) for setting in settings),
        )
        for record in ranked(result.trials, objective.metric, objective.mode)
    ]


def best_settings(result: StudyResult, settings: Sequence[Setting]) -> list[tuple[str, str, str, str]]:
    """Name, the best config's value, the reference recipe's, and the range, of the settings that one of them has.

    Below stands what a recipe outside of the space has instead: the learning rate of an optimizer that is not searched.
    """
    chosen = chosen_trial(result)
    if chosen is None:
        return []
    best = chosen[0]
    known = reference(result.spec, result.trials)
    recipe = None if known is None else result.trials[0]
    rows = (
        (setting.label, setting.text(best), setting.text(recipe) if recipe else "", domain_text(setting.domain))
        for setting in settings
    )
    own, theirs = _unsearched(settings, best), {} if recipe is None else _unsearched(settings, recipe)
    return [
        *(row for row in rows if row[1] or row[2]),
        *((name, own.get(name, ""), theirs.get(name, ""), "not searched") for name in own | theirs),
    ]


def _unsearched(settings: Sequence[Setting], record: TrialRecord) -> dict[str, str]:
    """By name, what a recipe outside of the space has where it has nothing that is searched."""
    if record.values is not None:
        return {}
    flat, searched = flatten(record.config), {setting.path for setting in settings if setting.text(record)}
    return {
        setting.label_in(flat): value_text(flat[setting.path])
        for setting in settings if setting.path not in searched and flat.get(setting.path) is not None
    }  # fmt: skip


def failures(result: StudyResult) -> list[Failure]:
    """Trials that failed, those with the most frequent error first, then those that diverged."""
    found: dict[tuple[bool, str], list[TrialRecord]] = {}
    for record in result.trials:
        if record.status in (TrialStatus.FAILED, TrialStatus.DIVERGED):
            why = why_ended(record, result.spec.objective)
            found.setdefault((record.status is TrialStatus.DIVERGED, why), []).append(record)
    return [
        Failure(records[0].status.value.lower(), why, len(records), _listed(records))
        for (_, why), records in sorted(found.items(), key=lambda item: (item[0][0], -len(item[1])))
    ]


def _listed(records: Sequence[TrialRecord]) -> str:
    numbers = ", ".join(str(record.number) for record in records[:MOST_NUMBERS])
    return numbers + (" ..." if len(records) > MOST_NUMBERS else "")


def effort(result: StudyResult) -> Iterator[tuple[str, str]]:
    """What the study took, as names and texts."""
    trials, budget = result.trials, result.spec.budget
    ended = sum(record.status.ended for record in trials)
    yield "trials", f"{ended:,} of {budget.trials:,} have ended" + (f": {', '.join(counted(trials))}" if trials else "")
    trained = sum(len(record.history) for record in trials)
    whole = len(trials) * budget.epochs
    if trained:
        yield "epochs", f"{trained:,} trained; {len(trials):,} whole trials would be {whole:,} ({trained / whole:.0%})"
        yield "training", f"{duration(sum(map(_seconds, trials)))} in all trials together"
        each = [epoch.metrics["seconds"] for record in trials for epoch in record.history if "seconds" in epoch.metrics]
        if each:
            yield "an epoch", f"{median(each):.2g} s, the median"
    begun = [record.started for record in trials if record.started is not None]
    done = [record.ended for record in trials if record.ended is not None]
    if begun and done:
        yield "from first to last", f"{duration(max(done) - min(begun))}, pauses between sessions included"
    if result.spending.counted:
        yield "cost", spent_of(result.spending.spent, budget.max_cost)


def _seconds(record: TrialRecord) -> float:
    """What the trial's epochs took."""
    return sum(epoch.metrics.get("seconds", 0.0) for epoch in record.history)


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else ""
