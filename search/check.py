"""`python -m search.check STUDY`: can the result of a search be trusted, and what should be done next?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from search.api import check_study, open_study
from search.study_argument import STUDY
from search.views.checks import checks_json, print_checks
from trainables.cli import run_verb

__all__ = ["check"]


def check(
    study: Annotated[str, STUDY],
    out: Annotated[Path, typer.Option(help="results folder of the search")] = Path("runs"),
    json: Annotated[bool, typer.Option("--json", help="as a JSON list")] = False,
) -> None:
    """Check a study's records: also while its search runs. Takes no lock and writes nothing."""
    checks = check_study(open_study(study, out=out))
    if json:
        typer.echo(checks_json(checks))
    else:
        print_checks(checks, Console())


if __name__ == "__main__":
    run_verb(check)
