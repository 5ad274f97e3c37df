"""`python -m search.status STUDY`: where a study stands, also while it is searched."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from search.commands import resume, shown
from search.leaderboard import leaderboard, reference
from search.overview import Overview, look
from search.progress import STYLES, duration, print_leaderboard
from search.results import TrialRecord, TrialStatus
from search.stored import find_study
from trainables.cli import run_verb

__all__ = ["print_status", "status"]

MOST_TROUBLE = 8
MOST_BEST = 5


def status(
    study: Annotated[str, typer.Argument(help="the study's name: its folder below --out; or the folder's path")],
    out: Annotated[Path, typer.Option(help="results folder of the search")] = Path("runs"),
) -> None:
    """Tell where a study stands, from its journal: takes no lock and writes nothing, so ask at any time."""
    print_status(look(find_study(study, out)), Console())


def print_status(overview: Overview, console: Console) -> None:
    """Tables on a terminal, else lines that begin with what they tell of."""
    if console.is_terminal:
        _print_tables(overview, console)
        return
    for name, text in _lines(overview):
        console.print(Text(f"{name}: {text}"), soft_wrap=True)


def _lines(overview: Overview) -> Iterator[tuple[str, str]]:
    yield from _facts(overview)
    for record in overview.of(TrialStatus.RUNNING):
        trial, origin, epoch, value, ago = _running(overview, record)
        shows = f"{overview.spec.objective.metric} {value}"
        yield "running", f"trial {trial} ({origin}), epoch {epoch}, {shows}, heard of {ago}"
    for trouble in overview.trouble[:MOST_TROUBLE]:
        yield "trouble", f"trial {trouble.trial} {trouble.what}: {trouble.cause}"
    if len(overview.trouble) > MOST_TROUBLE:
        yield "trouble", f"{len(overview.trouble) - MOST_TROUBLE} more trials"
    baseline = reference(overview.spec, overview.trials)
    for place, row in enumerate(leaderboard(overview.spec, overview.trials)[:MOST_BEST], 1):
        value = f"{row.value:.4f}" if math.isfinite(row.value) else "-"
        gain = f" ({row.gain:+.4f} vs {baseline[0]})" if baseline is not None and row.gain is not None else ""
        state = f"{row.status.value.lower()} at epoch {row.epochs}"
        yield f"{place}.", f"trial {row.trial} ({row.origin}), {state}, {value}{gain}, {row.recipe}"
    yield from _next(overview)


def _print_tables(overview: Overview, console: Console) -> None:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in _facts(overview):
        grid.add_row(name, Text(text))
    console.print(grid)
    running = overview.of(TrialStatus.RUNNING)
    if running:
        table = _table("running", "trial", "from", "epoch", overview.spec.objective.metric, "heard of")
        for record in running:
            table.add_row(*(Text(cell) for cell in _running(overview, record)))
        console.print(table)
    if overview.trouble:
        left = len(overview.trouble) - MOST_TROUBLE
        title = "losses and failures" + (f", the last {MOST_TROUBLE}, {left} more" if left > 0 else "")
        table = _table(title, "trial", "what", "cause")
        for trouble in overview.trouble[:MOST_TROUBLE]:
            table.add_row(str(trouble.trial), Text(trouble.what), Text(trouble.cause))
        console.print(table)
    if overview.trials:
        records = {record.number: record for record in overview.trials}
        print_leaderboard(overview.spec, records, console, most=MOST_BEST)
    for name, text in _next(overview):
        console.print(Text(f"{name}: {text}"), soft_wrap=True)


def _table(title: str, *heads: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for head in heads:
        table.add_column(head, overflow="fold")
    return table


def _facts(overview: Overview) -> Iterator[tuple[str, str]]:
    spec, trials = overview.spec, overview.trials
    yield "study", f"{spec.study} in {shown(overview.folder)}"
    yield "state", _state(overview)
    count = len(overview.sessions)
    hours = f" of {spec.budget.hours:g} h" if spec.budget.hours is not None else ""
    yield "time", f"{duration(overview.seconds)}{hours} in {count} session{'s' * (count != 1)}"
    counts = Counter(record.status for record in trials)
    states = ", ".join(f"{counts[state]} {state.value.lower()}" for state in STYLES if counts[state])
    ended = sum(record.status.ended for record in trials)
    yield "trials", f"{ended} of {spec.budget.trials} have ended" + (f"; {states}" if states else "")
    yield "epochs", f"{sum(len(record.history) for record in trials)} trained"
    yield "best", _best(overview)
    if paused := overview.of(TrialStatus.PAUSED):
        at = Counter(record.history[-1].epoch if record.history else 0 for record in paused)
        yield "paused", ", ".join(f"{at[epoch]} at epoch {epoch}" for epoch in sorted(at))
    if waiting := overview.of(TrialStatus.PENDING):
        numbers = ", ".join(str(record.number) for record in waiting)
        yield "waiting", f"trial{'s' * (len(waiting) > 1)} {numbers}"
    files, size = overview.checkpoints
    yield "disk", f"{decimal(size)} in {files} checkpoint{'s' * (files != 1)}"


def _state(overview: Overview) -> str:
    if not overview.sessions:
        return f"held by {overview.holder}, about to start" if overview.holder else "no session has been begun"
    last = overview.sessions[-1]
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(last.started))
    ago = _ago(overview.now - last.latest)
    if overview.holder is not None:
        if last.reason is None:
            took = _ago(overview.now - last.started).removesuffix(" ago")
            return f"running: session {last.number} since {since} ({took}), {overview.holder}"
        doing = "writes its results" if last.reason == "finished" else "starts, or writes its results"
        return f"{overview.holder} {doing}; session {last.number} ended {ago}"
    if overview.finished:
        return f"finished {ago}, in session {last.number}"
    if last.reason is None:
        return f"cut off: session {last.number}, begun {since}, was last heard of {ago}, and nothing runs it now"
    return f"not running: session {last.number} ended {ago} ({last.reason})"


def _ago(seconds: float) -> str:
    # The clock of another machine may be ahead.
    return f"{seconds / 86400:.0f} days ago" if seconds > 2 * 86400 else f"{duration(max(seconds, 0.0))} ago"


def _best(overview: Overview) -> str:
    best, metric = overview.best, overview.spec.objective.metric
    if best is None:
        return "no trial has run to its end yet"
    text = f"trial {best.number} ({best.origin}), {metric} {best.value(metric):.4f} at epoch {best.history[-1].epoch}"
    baseline = reference(overview.spec, overview.trials)
    if baseline is not None and best.number != 0:
        text += f", {best.value(metric) - baseline[1]:+.4f} against {baseline[0]}"
    return text


def _running(overview: Overview, record: TrialRecord) -> tuple[str, str, str, str, str]:
    value = record.value(overview.spec.objective.metric)
    ago = _ago(overview.now - overview.heard[record.number])
    epoch = record.history[-1].epoch if record.history else 0
    number = f"{value:.4f}" if math.isfinite(value) else "-"
    return str(record.number), record.origin, f"{epoch} of {overview.spec.budget.epochs}", number, ago


def _next(overview: Overview) -> Iterator[tuple[str, str]]:
    if overview.finished or overview.holder is not None:
        return
    folder, name = overview.folder, overview.spec.study
    if folder.name == name:
        yield "to go on", resume(folder)
    else:
        yield "to go on", f"name the folder {name} again; a search looks for its study under its name"


if __name__ == "__main__":
    run_verb(status)
