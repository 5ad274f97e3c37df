"""`python -m search.run STUDY`: the search, from one command to a config you can trust."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from search.api import plan_study, read_spec, run_study
from search.journal.cost import spent_of
from search.journal.result import StudyResult
from search.storage.remote import VARIABLE
from search.study.overrides import Overrides
from search.tracking.uri import default_uri
from search.views.console import say
from search.views.next_commands import SUBMITTED_BY, after_search, open_mlflow, resume, shown
from search.views.plan import print_plan
from search.views.progress import print_leaderboard
from trainables.cli import Plugins, run_verb

__all__ = ["run"]


def run(
    study: Annotated[str, typer.Argument(help="the name of a shipped study, or the path of your own YAML")],
    data: Annotated[
        str | None, typer.Option(help="images: cifar10, digits, parquet:PATH, imagefolder:PATH, ...")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="how many trials, recipes included")] = None,
    epochs: Annotated[int | None, typer.Option(help="epochs of a whole trial, and so the schedule's length")] = None,
    hours: Annotated[float | None, typer.Option(help="stop the search gracefully after so many hours")] = None,
    max_cost: Annotated[
        float | None, typer.Option(help="stop the search gracefully when it has cost so much; needs prices")
    ] = None,
    price: Annotated[
        list[str] | None, typer.Option(help="of a node an hour; TYPE=0.4 for each type of a cluster's nodes")
    ] = None,
    concurrent: Annotated[int | None, typer.Option(help="most trials at once [default: as many as fit]")] = None,
    cpus_per_trial: Annotated[float | None, typer.Option(help="CPUs of one trial")] = None,
    gpus_per_trial: Annotated[
        str | None, typer.Option(help="GPUs of one trial, fractions too; auto: as many trials on one as fit")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="results folder [default: runs, with --smoke runs/smoke]")] = None,
    seed: Annotated[int | None, typer.Option(help="the study's seed")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="a.b=c: fix any key of the trial or study")] = None,
    plugin: Plugins = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="a few minutes on 2 cores, with the same model")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="start anew as STUDY-2, instead of continuing")] = False,
    tracking_later: Annotated[
        bool, typer.Option("--tracking-later", help="start though MLflow is unreachable")
    ] = False,
    storage: Annotated[
        str | None,
        typer.Option(help=f"also store the search at a path, s3://BUCKET/FOLDER, gs://... [default: ${VARIABLE}]"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print what would be done and what it costs")] = False,
    cluster: Annotated[Path | None, typer.Option(help="search on the cluster that `ray up` made of this file")] = None,
) -> None:
    """Search hyperparameters: recipes first, then suggestions, bad trials stopped early by ASHA."""
    overrides: Overrides = {
        "data": data, "trials": trials, "epochs": epochs, "hours": hours, "max_cost": max_cost, "prices": price or [],
        "concurrent": concurrent, "cpus_per_trial": cpus_per_trial, "gpus_per_trial": _gpus(gpus_per_trial),
        "seed": seed, "sets": sets or [],
    }  # fmt: skip
    plugins = plugin or []
    out = (out or Path("runs", "smoke") if smoke else out or Path("runs")).absolute()
    console = Console()
    if cluster is not None:
        from search.cluster.submit import search_on  # loads Ray's launcher

        spec = read_spec(study, smoke=smoke, plugins=plugins, **overrides)
        sys.exit(search_on(cluster, spec, out, console, smoke=smoke, fresh=fresh, dry_run=dry_run, storage=storage))
    if dry_run:
        print_plan(plan_study(study, smoke=smoke, plugins=plugins, **overrides), console)
    else:
        result = run_study(
            study, out=out, smoke=smoke, fresh=fresh, storage=storage, plugins=plugins, tracking_later=tracking_later,
            **overrides,
        )  # fmt: skip
        _report(result, out, console)


def _gpus(text: str | None) -> float | str | None:
    """A number, or what the study's own check refuses."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _report(result: StudyResult, out: Path, console: Console) -> None:
    """Print what was found and what to do next; exit with 1 or 130 if the search did not finish."""
    spec, folder, best = result.spec, out / result.spec.study, result.best()
    submitted = SUBMITTED_BY in os.environ
    print_leaderboard(spec, result.trials, console)
    if best is None:
        say(console, f"no trial ran to its end, so there is no best config; every result is in {shown(folder)}")
    elif (folder / "best_config.yaml").exists() and not submitted:
        say(console, f"best config: {shown(folder / 'best_config.yaml')} (trial {best.number})\n\nnext:")
        for line in after_search(result, folder, open_mlflow(default_uri(out), folder.name)):
            say(console, f"  {line}")
    if result.spending.counted:
        say(console, f"cost: {spent_of(result.spending.spent, spec.budget.max_cost)}")
    if result.finished:
        return
    waiting = sum(not record.status.ended for record in result.trials)
    way = "." if submitted else f", or\n  {resume(folder)}"
    say(
        console,
        f"{result.trouble or 'interrupted'}: finished work is saved, {waiting} trials wait to be resumed. The same "
        f"command continues{way}",
    )
    sys.exit(1 if result.trouble else 130)


if __name__ == "__main__":
    run_verb(run)
