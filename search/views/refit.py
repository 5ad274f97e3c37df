"""What a refit has found: as lines, and as plain data for best_config.yaml."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.algorithms.intervals import Interval, same_mean
from search.analysis.finalists import Finalist, RefitOutcome, refit_outcome
from search.analysis.measures import SHARES
from search.journal.records import TrialRecord
from search.journal.result import StudyResult
from search.views.console import say
from search.views.next_commands import shown
from trainables.proportion import wilson_interval

__all__ = ["chosen_trial", "print_refit", "refit_provenance", "refit_sentences", "show_refit"]


def print_refit(result: StudyResult, console: Console) -> int:
    """Print the last refit and what to do next.

    Returns:
        The exit code: 0; 1 without a winner or if it could not continue, 130 if it was interrupted.
    """
    refits = [comparison for comparison in result.comparisons if comparison.kind == "refit"]
    outcome = refit_outcome(result, refits[-1])
    show_refit(outcome, console)
    if result.folder is not None and outcome.winner is not None:
        say(console, f"\nbest config: {shown(result.folder / 'best_config.yaml')}")
    if refits[-1].is_over:
        return int(outcome.winner is None)
    if result.folder is not None:
        say(console, f"{result.trouble or 'interrupted'}: finished runs are saved. The same command continues.")
    return 1 if result.trouble else 130


def show_refit(outcome: RefitOutcome, console: Console) -> None:
    """The arms of a refit as a table, and what follows in sentences."""
    folds, over = outcome.comparison.started.folds, outcome.comparison.over
    over = f"{folds} {over}" if folds else over
    title = f"refit over {over}: {outcome.metric} with 95 % intervals"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for head in ("config", "search", "mean", "95 %", "runs"):
        table.add_column(head, no_wrap=True)
    table.add_column("verdict", min_width=len("best, but tied"))  # so that a narrow terminal cuts no word
    for one in outcome.finalists:
        mean = "-" if one.interval is None else f"{one.interval.mean:.4f}"
        limits = "-"
        if one.interval is not None and one.interval.has_limits:
            limits = f"{one.interval.low:.4f} to {one.interval.high:.4f}"
        name = one.arm.name + (" (reference)" if one.arm.name == outcome.comparison.started.reference else "")
        searched = "-" if one.searched is None else f"{one.searched:.4f}"
        table.add_row(name, searched, mean, limits, str(len(one.values)), Text(one.verdict))
    console.print(table)
    for line in refit_sentences(outcome):
        say(console, line)


def refit_sentences(outcome: RefitOutcome) -> Iterator[str]:
    """Who won, how much of it was luck, and what the test split says."""
    winner = outcome.winner
    if winner is None:
        if outcome.decision != "open":
            runs = "on every fold" if outcome.comparison.started.folds else "with every seed"
            yield f"no config was trained to its end {runs}, so there is no winner"
        return
    name, metric = winner.arm.name, outcome.metric
    reference = outcome.comparison.started.reference
    if len(outcome.finalists) == 1:
        yield f"{name} had no rival"
    elif outcome.decision == "decided":
        yield f"{name} wins: significantly better than every other"
    else:
        yield _tie(outcome, winner)
    if winner.arm.role == "finalist" and winner.arm.change is not None:
        yield f"{name}: {winner.arm.change}"
    for one in [winner] if outcome.favorite is winner else [outcome.favorite, winner]:
        if one is not None:
            yield from _luck(one, metric, outcome.comparison.started.folds)
    if outcome.gain is not None:
        yield f"against {reference}: {outcome.gain.signed} on validation"
    if outcome.test is not None:
        yield from _on_test(outcome, outcome.test)
    if outcome.comparison.opened is not None and outcome.opened_before:
        times = "once" if outcome.opened_before == 1 else f"{outcome.opened_before} times"
        yield (
            f"warning: the test split was opened {times} before for this study: what is chosen by it is no longer "
            "tested by it"
        )


def _tie(outcome: RefitOutcome, winner: Finalist) -> str:
    """What the winner has over those that it is tied with."""
    name, ties = winner.arm.name, [one for one in outcome.finalists if one.verdict.startswith("tie")]
    same = [one.arm.name for one in ties if _same_mean(one, winner)]
    others = [one.arm.name for one in ties if one.arm.name not in same]
    than = f" than {_listed(others)}" if others else ""
    if not same:
        return f"{name} has the best mean, but is not significantly better{than}"
    preferred = "; the reference is preferred" if name == outcome.comparison.started.reference else ""
    further = f", and is not significantly better{than}" if others else ""
    return f"{name} has the same mean as {_listed(same)}{further}{preferred}"


def _same_mean(one: Finalist, other: Finalist) -> bool:
    return one.interval is not None and other.interval is not None and same_mean(one.interval.mean, other.interval.mean)


def _luck(one: Finalist, metric: str, folds: int | None) -> Iterator[str]:
    """How lucky a finalist was in the search, if that is known."""
    if one.searched is None or one.interval is None:
        return
    before = f"{one.arm.name}: {one.searched:.4f} in the search"
    if one.luck is None:
        yield f"{before}, {one.interval} {'on one fold' if folds else 'with one fresh seed'}: too few to tell luck"
        return
    amount = _amount(abs(one.luck), metric)
    what = f"{amount} of it luck" if one.luck > 0 else f"{amount} of bad luck"
    if one.interval.low <= one.searched <= one.interval.high:
        what = "the difference is within the noise"
    over = f"{one.interval} over {len(one.values)} {'folds' if folds else 'seeds'}"
    yield f"{before}, {over}: {what}"


def _on_test(outcome: RefitOutcome, test: Interval) -> Iterator[str]:
    over = "folds" if outcome.comparison.started.folds else "seeds"
    if not test.has_limits:
        line = f"test split: {test} for one network, so that its spread is not known"
    elif test.low == test.high:
        line = f"test split: {test.mean:.4f} with each of the {over}"
    else:
        line = f"test split: {test} over the same {over}"
    if outcome.test_gain is not None:
        line += f", {outcome.test_gain.signed} against {outcome.comparison.started.reference}"
    yield line
    if outcome.metric == "val_accuracy" and outcome.test_images:
        low, high = wilson_interval(round(test.mean * outcome.test_images), outcome.test_images)
        yield f"95 % interval for having only {outcome.test_images:,} test images (Wilson): {low:.4f} to {high:.4f}"


def chosen_trial(result: StudyResult) -> tuple[TrialRecord, str | None, dict[str, Any] | None] | None:
    """The trial for best_config.yaml, why it was chosen if not as the best of the search, and the refit's numbers.

    The winner of a refit is chosen unless the search has been continued since. None if no trial was trained to its end.
    """
    refit, record = result.deciding_refit, result.winner()
    if refit is None or record is None:
        return None if record is None else (record, None, None)
    numbers = refit_provenance(refit_outcome(result, refit))
    return record, f"the winner of the refit over {refit.over}, see `refit`", numbers


def refit_provenance(outcome: RefitOutcome) -> dict[str, Any]:
    """The refit in best_config.yaml."""
    winner, started, opened = outcome.winner, outcome.comparison.started, outcome.comparison.opened
    when = None if opened is None else datetime.fromtimestamp(opened.time, UTC).isoformat(timespec="seconds")
    return {
        "winner": winner and winner.arm.name,
        **({"change": winner.arm.change} if winner and winner.arm.change else {}),
        "decision": outcome.decision,
        "metric": outcome.metric,
        "runs": len(winner.values) if winner else 0,
        "first_seed": started.first_seed,
        "folds": started.folds,
        "in_search": winner and winner.searched,
        "mean": _as_dict(winner.interval if winner else None),
        "luck": winner and winner.luck,
        "reference": started.reference,
        "gain": _as_dict(outcome.gain),
        "test": _as_dict(outcome.test),
        "test_gain": _as_dict(outcome.test_gain),
        "test_images": outcome.test_images,
        "test_opened": when,
        "test_opened_before": outcome.opened_before,
    }


def _as_dict(interval: Interval | None) -> dict[str, float] | None:
    """The mean, and its limits where they are known."""
    if interval is None:
        return None
    return {name: value for name, value in asdict(interval).items() if math.isfinite(value)}


def _amount(value: float, metric: str) -> str:
    """A difference in points where the metric is a share."""
    if metric not in SHARES:
        return f"{value:.4g}"
    points = f"{100 * value:.1f}"
    return f"{points} point{'s' * (points != '1.0')}"


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
