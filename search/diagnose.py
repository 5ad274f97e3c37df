"""`python -m search.diagnose CHECKPOINT|CONFIG|STUDY`: why does this network predict badly, and what would help?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from search.study_argument import started_studies
from trainables.check import alarms
from trainables.cli import Plugins, run_verb

__all__ = ["diagnose"]


def diagnose(
    subject: Annotated[
        str,
        typer.Argument(
            help="a checkpoint, a config as YAML, or a study: its name below --out, or its folder",
            autocompletion=started_studies,
        ),
    ],
    data: Annotated[str | None, typer.Option(help="other images than the config's own")] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="CSV (file or index, label): what another pipeline says of the validation images"),
    ] = None,
    write_images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="only write the validation images for another pipeline, and a list of them"),
    ] = None,
    trial: Annotated[int | None, typer.Option(min=0, help="of a study, this trial instead of the best")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    cache: Annotated[Path | None, typer.Option(help="folder of the prepared images")] = None,
    out: Annotated[Path, typer.Option(help="results folder of the search")] = Path("runs"),
    json: Annotated[bool, typer.Option("--json", help="as a JSON list")] = False,
    plugin: Plugins = None,
) -> None:
    """Find out why a network predicts badly: causes are tried one at a time, and ranked by what they move."""
    from search.api import diagnose_model  # not above: `--help` and signals are answered at once
    from search.views.checks import checks_json, print_checks
    from search.views.console import LastingConsole

    checks = diagnose_model(
        subject, data=data, predictions=predictions, write_images=write_images, trial=trial, device=device, cache=cache,
        out=out, plugins=plugin or (), progress=not json,
    )  # fmt: skip
    if json:
        typer.echo(checks_json(checks))
        return
    print_checks(checks, LastingConsole())
    if write_images is None and not alarms(checks):
        typer.echo("nothing was found: images, weights and settings are in order")


if __name__ == "__main__":
    run_verb(diagnose)
