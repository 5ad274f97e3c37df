"""`python -m search.refit STUDY`: the best trials over fresh seeds, and the winner's score on the test split."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from search.study_argument import STUDY
from trainables.cli import Plugins, run_verb

__all__ = ["refit"]


def refit(
    study: Annotated[str, STUDY],
    top: Annotated[int, typer.Option(help="how many of the best trials")] = 3,
    seeds: Annotated[int, typer.Option(help="fresh seeds for each, at most")] = 5,
    against: Annotated[
        str | None, typer.Option(help="a recipe of the study, or a config as YAML [default: the first recipe]")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="cross-validate; 1: do not [default: 5 with fewer than 2,000 images]")
    ] = None,
    out: Annotated[Path, typer.Option(help="results folder of the search")] = Path("runs"),
    plugin: Plugins = None,
) -> None:
    """Train the best trials again with fresh seeds, say who wins and how much was luck, and open the test split."""
    from search.api import refit_study  # not above: `--help` and signals are answered at once
    from search.views.console import LastingConsole
    from search.views.refit import print_refit

    result = refit_study(study, top=top, seeds=seeds, against=against, folds=folds, out=out, plugins=plugin or ())
    sys.exit(print_refit(result, LastingConsole()))


if __name__ == "__main__":
    run_verb(refit)
