"""`python -m search.report STUDY`: a search on one HTML page, what was found first; several side by side."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from time import sleep
from typing import Annotated

import typer

from search.journal.result import StudyResult
from search.journal.study_folder import find_study
from search.study_argument import started_studies
from search.views.next_commands import shown
from search.views.report.page import REPORT, write_report
from search.views.summary import look
from trainables.cli import run_verb

__all__ = ["report"]

INTERVAL = 10  # seconds between two pages of a search that runs


def report(
    studies: Annotated[
        list[str],
        typer.Argument(help="the studies' names: folders below --out; or paths", autocompletion=started_studies),
    ],
    browser: Annotated[bool, typer.Option("--open", help="open the page in a browser")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="write it every 10 s until the searches have ended")] = False,
    out: Annotated[Path, typer.Option(help="results folder of the searches")] = Path("runs"),
    to: Annotated[
        Path | None,
        typer.Option(help="file to write [default: report.html in the study's folder, or in --out for several]"),
    ] = None,
) -> None:
    """Write a search, or several side by side, as one HTML page that needs no network. Also while they run."""
    folders = [find_study(study, out) for study in studies]
    path = to or (folders[0] if len(folders) == 1 else out) / REPORT
    running = _write(folders, path, watch)
    typer.echo(f"report: {shown(path)}")
    if browser and not _opened(path):
        typer.echo("there is no browser here: open that file in one")
    while running:
        sleep(INTERVAL)
        running = _write(folders, path, watch)
        if not running:
            typer.echo("the search has ended" if len(folders) == 1 else "the searches have ended")


def _write(folders: list[Path], path: Path, watch: bool) -> bool:
    """Write the page once; whether it is to be written again, because a search still runs."""
    overviews = [look(folder) for folder in folders]
    running = watch and any(overview.holder is not None for overview in overviews)
    results = [StudyResult.of(overview.spec, overview.state, overview.folder) for overview in overviews]
    write_report(results, path, reload=INTERVAL if running else None, thorough=not running)
    return running


def _opened(path: Path) -> bool:
    try:
        return webbrowser.open(path.absolute().as_uri())
    except webbrowser.Error:
        return False


if __name__ == "__main__":
    run_verb(report)
