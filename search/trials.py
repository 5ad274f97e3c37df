"""`python -m search.trials STUDY`: every trial, best first, and why it ended."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from search.api import open_study
from search.study_argument import STUDY
from search.views.next_commands import shown
from search.views.trials import print_trials, sorted_trials, write_table
from trainables.cli import run_verb

__all__ = ["trials"]


def trials(
    study: Annotated[str, STUDY],
    to: Annotated[
        Path | None, typer.Option(help="write them to a .csv, .parquet or .md file, with every searched setting")
    ] = None,
    sort: Annotated[
        str, typer.Option(help="best, trial, epochs, a metric (val_loss, ...) or a setting (optimizer.lr, ...)")
    ] = "best",
    top: Annotated[int | None, typer.Option(min=1, help="only the first so many")] = None,
    out: Annotated[Path, typer.Option(help="results folder of the search")] = Path("runs"),
) -> None:
    """Show all trials, also while the search runs: takes no lock and writes nothing to the study."""
    result = open_study(study, out=out)
    chosen = sorted_trials(result, sort)[:top]
    if to is None:
        print_trials(result, chosen, Console())
    else:
        write_table(result, chosen, to)
        typer.echo(f"{len(chosen)} trials: {shown(to)}")


if __name__ == "__main__":
    run_verb(trials)
