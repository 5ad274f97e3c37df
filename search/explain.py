"""`python -m search.explain STUDY`: which change bought how much, from a baseline to the best config."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from search.study_argument import STUDY
from trainables.cli import Plugins, run_verb

__all__ = ["explain"]


def explain(
    study: Annotated[str, STUDY],
    baseline: Annotated[
        str | None,
        typer.Option("--from", help="a recipe of the study, or a config as YAML [default: the first recipe]"),
    ] = None,
    seeds: Annotated[int, typer.Option(help="fresh seeds for each config")] = 3,
    out: Annotated[Path, typer.Option(help="results folder of the search")] = Path("runs"),
    plugin: Plugins = None,
) -> None:
    """Train the way from a baseline to the best config, one change at a time, and say what each change brings."""
    from search.api import explain_study  # not above: `--help` and signals are answered at once
    from search.views.console import LastingConsole
    from search.views.explanation import print_explanation

    result = explain_study(study, baseline=baseline, seeds=seeds, out=out, plugins=plugin or ())
    sys.exit(print_explanation(result, LastingConsole()))


if __name__ == "__main__":
    run_verb(explain)
