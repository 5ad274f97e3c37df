"""The STUDY argument of the verbs that read a study, and what a shell completes it with."""

from __future__ import annotations

from pathlib import Path

import typer

from search.journal.study_folder import studies_in

__all__ = ["STUDY", "started_studies"]


def started_studies(ctx: typer.Context, incomplete: str) -> list[str]:
    """The studies in the results folder that the command line names by then."""
    return [name for name in studies_in(Path(ctx.params.get("out") or "runs")) if name.startswith(incomplete)]


STUDY = typer.Argument(
    help="the study's name: its folder below --out; or the folder's path", autocompletion=started_studies
)
