"""What an explanation has found: which change bought how much."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.analysis.explanation import Explanation, Step, explained
from search.analysis.untried import untried
from search.journal.comparisons import Comparison
from search.journal.result import StudyResult
from search.views.console import say

__all__ = ["explanation_sentences", "print_explanation", "show_explanation"]


def print_explanation(result: StudyResult, console: Console) -> int:
    """Print the last explanation.

    Returns:
        The exit code: 0; 1 if it could not continue, 130 if it was interrupted.
    """
    comparison = next(found for found in reversed(result.comparisons) if found.kind == "explain")
    found = explained(comparison, result.spec.objective.metric, result.spec.objective.mode)
    show_explanation(found, comparison, console)
    for line in untried(result):
        say(console, line)
    if comparison.is_over:
        return 0
    say(console, f"{result.trouble or 'interrupted'}: finished runs are saved. The same command continues.")
    return 1 if result.trouble else 130


def show_explanation(found: Explanation, comparison: Comparison, console: Console) -> None:
    """The path as a table, and what follows in sentences."""
    title = f"what bought what: {found.metric} over {found.seeds} seeds, 95 % intervals that hold together"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for head in ("change", "gain", "95 %", "without it", ""):
        table.add_column(head, no_wrap=head in ("gain", "95 %", "without it"), overflow="fold")
    for row in found.rows:
        costs = [step for step in found.steps if step.change in row.changes]
        cost = f"{-costs[0].cost.mean:+z.4f}" if len(costs) == 1 and math.isfinite(costs[0].cost.mean) else ""
        verdict = "within the noise" if row.gain.within_noise else costs[0].verdict if len(costs) == 1 else ""
        gain, _, limits = row.gain.signed.partition(" ")
        table.add_row(Text(", ".join(row.changes)), gain, limits, cost, Text(verdict))
    console.print(table)
    for line in explanation_sentences(found, comparison):
        say(console, line)


def explanation_sentences(found: Explanation, comparison: Comparison) -> Iterator[str]:
    """From where to where, and what else must be said."""
    name = comparison.started.arms[0].name.removeprefix("baseline ")
    yield (
        f"from {name} {found.start:.4f} to {found.end:.4f}: {found.total.signed}, "
        f"a run's own noise is {found.noise:.4f}"
    )
    yield from _taken_back(found.steps)
    noise = [change for row in found.rows if row.gain.within_noise for change in row.changes]
    for step in found.steps:
        if step.verdict and step.change not in noise:
            yield f"{step.change}: {step.verdict}"
    yield from found.notes


def _taken_back(steps: Sequence[Step]) -> Iterator[str]:
    """What the best config loses with one change taken back."""
    known = [step for step in steps if math.isfinite(step.cost.mean)]
    for step in sorted(known, key=lambda step: -step.cost.mean):
        if not step.cost.within_noise:
            yield f"without {_name(step.change)} the best config loses {step.cost}"
    if rest := [_name(step.change) for step in known if step.cost.within_noise]:
        yield f"without {' or '.join(rest)} alone it loses nothing beyond noise"


def _name(change: str) -> str:
    """The setting that changes, or what of it comes first."""
    return change.partition(" ")[0]
