"""`python -m search.status STUDY`: where a study stands, also while its search runs."""

from __future__ import annotations

import math
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from json import dumps
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from search.analysis.finalists import refit_outcome
from search.journal.comparisons import Comparison
from search.journal.cost import amount, spent_of
from search.journal.records import TrialRecord, TrialStatus
from search.journal.reference import against_reference
from search.journal.result import StudyResult
from search.journal.study_folder import find_study, studies_below
from search.study_argument import STUDY
from search.views.checks import print_alarms
from search.views.leaderboard import print_leaderboard
from search.views.next_commands import resume, shown, verb
from search.views.progress import counted, duration
from search.views.refit import refit_sentences
from search.views.studies import ago, data, data_below, print_studies
from search.views.summary import Overview, look
from trainables.cli import run_verb
from trainables.config import ConfigError

__all__ = ["print_status", "status"]

INDENT = 9
MOST_TROUBLE = 5
MOST_BEST = 5


def status(
    study: Annotated[str | None, STUDY] = None,
    every: Annotated[bool, typer.Option("--all", help="a line for each study below --out")] = False,
    json: Annotated[bool, typer.Option("--json", help="for scripts; with --all a list")] = False,
    out: Annotated[Path, typer.Option(help="results folder of the search")] = Path("runs"),
) -> None:
    """Show where a study stands, from its journal: takes no lock and writes nothing, so ask at any time."""
    if every and study is not None:
        raise ConfigError.single("STUDY", study, "must not be given together with --all")
    if study is None and not every:
        raise ConfigError.single("STUDY", study, "must be a study; --all shows every study below --out")
    if study is None:
        studies = data_below(studies_below(out))
        if json:
            typer.echo(dumps(studies, indent=2))
        else:
            print_studies(studies, out, Console())
        return
    overview = look(find_study(study, out))
    if json:
        typer.echo(dumps(data(overview), indent=2))
    else:
        print_status(overview, Console())


def print_status(overview: Overview, console: Console) -> None:
    """One line per fact, then tables of what runs, what went wrong, and what is best."""
    width = console.width if console.is_terminal else sys.maxsize  # lines that are searched must stay whole
    for name, text in _facts(overview):
        line = textwrap.fill(
            f"{name:<{INDENT}}{text}", width, subsequent_indent=" " * INDENT, break_long_words=False,
            break_on_hyphens=False,
        )  # fmt: skip
        console.print(Text(line), soft_wrap=True)
    console.print()
    if running := overview.of(TrialStatus.RUNNING):
        table = _table("running", "trial", "from", "epoch", overview.spec.objective.metric, "last heartbeat")
        for record in running:
            table.add_row(*(Text(cell) for cell in _running(overview, record)))
        console.print(table)
    if overview.trouble:
        left = len(overview.trouble) - MOST_TROUBLE
        title = "lost workers and failures" + (f": the last {MOST_TROUBLE}, and {left} more" if left > 0 else "")
        table = _table(title, "trial", "what", "cause")
        for trouble in overview.trouble[:MOST_TROUBLE]:
            table.add_row(str(trouble.trial), Text(trouble.what), Text(trouble.cause))
        console.print(table)
    if overview.trials:
        print_leaderboard(overview.spec, overview.state.trials, console, most=MOST_BEST)
        print_alarms(StudyResult.of(overview.spec, overview.state, overview.folder), console)
    if not overview.finished and overview.holder is None:
        console.print(Text(f"to continue: {_way_on(overview)}"), soft_wrap=True)


def _table(title: str, *heads: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for head in heads:
        table.add_column(head, overflow="fold")
    return table


def _facts(overview: Overview) -> Iterator[tuple[str, str]]:
    spec, trials = overview.spec, overview.trials
    yield "study", f"{spec.study} in {shown(overview.folder)}"
    yield "state", _state(overview)
    count = len(overview.state.sessions)
    hours = f" of {spec.budget.hours:g} h" if spec.budget.hours is not None else ""
    if spec.proxy is not None:
        yield "proxy", f"the search trains {spec.proxy.words}; the refit trains the study's own network"
    for number, line in enumerate(overview.state.started.images if overview.state.started else ()):
        yield "" if number else "images", line
    yield "time", f"{duration(overview.seconds)}{hours} in {count} session{'s' * (count != 1)}"
    if overview.cost is not None:
        rate = f", {amount(overview.cost_an_hour)} an hour now" if overview.cost_an_hour else ""
        yield "cost", spent_of(overview.cost, spec.budget.max_cost) + rate
    ended = sum(record.status.ended for record in trials)
    states = f"; {', '.join(counted(trials))}" if trials else ""
    yield "trials", f"{ended} of {spec.budget.trials} have ended{states}"
    yield "epochs", f"{sum(len(record.history) for record in trials)} trained"
    refit = any(found.kind == "refit" and found.ended is not None for found in overview.state.comparisons)
    yield "best", _best(overview) + ", with one seed; see refit" * refit
    latest = {comparison.kind: comparison for comparison in overview.state.comparisons}
    for kind, comparison in latest.items():
        yield kind, _comparison(overview, comparison)
    if paused := overview.of(TrialStatus.PAUSED):
        at = Counter(record.last_epoch for record in paused)
        yield "paused", ", ".join(f"{at[epoch]} at epoch {epoch}" for epoch in sorted(at))
    if waiting := overview.of(TrialStatus.PENDING):
        numbers = ", ".join(str(record.number) for record in waiting)
        yield "waiting", f"trial{'s' * (len(waiting) > 1)} {numbers}"
    files, size = overview.checkpoints
    yield "disk", f"{decimal(size)} in {files} checkpoint{'s' * (files != 1)}"


def _comparison(overview: Overview, comparison: Comparison) -> str:
    ended, started = sum(run.status.ended for run in comparison.runs), comparison.started
    if comparison.ended is None:
        return f"{ended} of at most {len(started.arms) * started.most_runs} runs have ended"
    if comparison.kind == "refit":
        outcome = refit_outcome(StudyResult.of(overview.spec, overview.state, overview.folder), comparison)
        first, *_ = [*refit_sentences(outcome), "no winner"]
        test = outcome.test
        return first if test is None else f"{first}; test split {test.mean:.4f} [{test.low:.4f}, {test.high:.4f}]"
    return f"{ended} runs; {verb('report', overview.folder, '--open')} shows what they say"


def _state(overview: Overview) -> str:
    sessions = overview.state.sessions
    if not sessions:
        return f"held by {overview.holder}, about to start" if overview.holder else "no session has started"
    last = sessions[-1]
    then = f"{ago(overview.now - last.latest)} ago"
    if overview.holder is not None:
        if last.reason is None:
            return f"running: session {last.number} for {ago(overview.now - last.started)}, {overview.holder}"
        doing = "is writing" if last.reason.endswith("finished") else "is starting, or writing"
        return f"{overview.holder} {doing} its results; session {last.number} ended {then}"
    if overview.finished:
        return f"finished: session {last.number} ended {then}"
    if last.reason == "killed":
        return f"killed: session {last.number} wrote its last event {then}, no process is running it now"
    return f"{last.reason}: session {last.number} ended {then}"


def _best(overview: Overview) -> str:
    best, metric = overview.best, overview.spec.objective.metric
    if best is None:
        return "no trial has completed yet"
    text = f"trial {best.number} ({best.origin}), {metric} {best.value(metric):.4f} at epoch {best.final_epoch}"
    return text + against_reference(overview.spec, overview.trials, best)


def _running(overview: Overview, record: TrialRecord) -> tuple[str, str, str, str, str]:
    value = record.value(overview.spec.objective.metric)
    then = f"{ago(overview.now - overview.state.last_heartbeat[record.number])} ago"
    number = f"{value:.4f}" if math.isfinite(value) else "-"
    return str(record.number), record.origin, f"{record.last_epoch} of {overview.spec.budget.epochs}", number, then


def _way_on(overview: Overview) -> str:
    folder, name = overview.folder, overview.spec.study
    if folder.name != name:
        return f"rename the folder to {name}: a search finds its study by its name"
    return resume(folder)


if __name__ == "__main__":
    run_verb(status)
