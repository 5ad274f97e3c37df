"""`python -m search.run STUDY`: the search, from one command to a config you can trust."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainables.cli import Plugins, run_verb
from trainables.config import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from search.study.overrides import Overrides
    from search.study.spec import StudySpec

__all__ = ["run"]


def _shipped(incomplete: str) -> list[str]:
    from spaces import study_names

    return [name for name in study_names() if name.startswith(incomplete)]


Prices = Annotated[
    list[str] | None,
    typer.Option(metavar="[TYPE=]PRICE", help="of a node an hour; for each type of a cluster's nodes"),
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="fix any key of the trial or study; repeatable")
]
Earlier = Annotated[list[str] | None, typer.Option(metavar="STUDY", help="an earlier study to start from; repeatable")]
STUDY = typer.Argument(help="a study's name, or your YAML; without it: all names", autocompletion=_shipped)


def run(
    study: Annotated[str | None, STUDY] = None,
    data: Annotated[str | None, typer.Option(help="images: cifar10, parquet:PATH, imagefolder:PATH, ...")] = None,
    trials: Annotated[int | None, typer.Option(help="how many trials, recipes included")] = None,
    epochs: Annotated[int | None, typer.Option(help="epochs of a whole trial, and so the schedule's length")] = None,
    hours: Annotated[float | None, typer.Option(help="stop the search gracefully after so many hours")] = None,
    max_cost: Annotated[float | None, typer.Option(help="stop it gracefully at this cost; needs prices")] = None,
    price: Prices = None,
    concurrent: Annotated[int | None, typer.Option(help="most trials at once [default: as many as fit]")] = None,
    cpus_per_trial: Annotated[float | None, typer.Option(help="CPUs of one trial")] = None,
    gpus_per_trial: Annotated[str | None, typer.Option(help="of one trial; auto: as many on one GPU as fit")] = None,
    out: Annotated[Path | None, typer.Option(help="results folder [default: runs, with --smoke runs/smoke]")] = None,
    seed: Annotated[int | None, typer.Option(help="the study's seed")] = None,
    sets: Sets = None,
    plugin: Plugins = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="a few minutes on 2 cores, with the same model")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="start anew as STUDY-2, instead of continuing")] = False,
    no_refit: Annotated[bool, typer.Option("--no-refit", help="leave out the last phase, fresh seeds")] = False,
    warm_start: Earlier = None,
    tracking_later: Annotated[bool, typer.Option("--tracking-later", help="start though MLflow is away")] = False,
    storage: Annotated[
        str | None, typer.Option(help="also store it at a path, s3://..., gs://... [default: $RESNET_SEARCH_STORAGE]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print how long it would take and what it costs")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="with --dry-run: the whole study and its space")] = False,
    cluster: Annotated[Path | None, typer.Option(help="search on the cluster that `ray up` made of this file")] = None,
) -> None:
    """Search hyperparameters: recipes first, then suggestions, bad trials stopped early by ASHA."""
    from search.api import plan_study, run_study  # not above: `--help` and signals are answered at once
    from search.views.console import LastingConsole
    from search.views.outcome import print_outcome
    from search.views.plan import print_plan

    overrides: Overrides = {
        "data": data, "trials": trials, "epochs": epochs, "hours": hours, "max_cost": max_cost, "prices": price or [],
        "concurrent": concurrent, "cpus_per_trial": cpus_per_trial, "gpus_per_trial": _gpus(gpus_per_trial),
        "seed": seed, "sets": sets or [],
    }  # fmt: skip
    if verbose and not dry_run:
        raise ConfigError.single("--verbose", True, "must be given together with --dry-run")
    out, prior = (out or Path("runs", "smoke" if smoke else "")).absolute(), warm_start or []
    console = LastingConsole()
    spec = _read(study, overrides, console, smoke=smoke, refit=not no_refit, plugins=plugin or ())
    if cluster is not None:
        from search.cluster.submit import search_on

        code = search_on(
            cluster, spec, out, console, smoke=smoke, fresh=fresh, dry_run=dry_run, verbose=verbose, storage=storage,
            warm_start=prior,
        )  # fmt: skip
        sys.exit(code)
    if dry_run:
        print_plan(plan_study(spec, out=out, warm_start=prior), console, verbose=verbose)
        return
    result = run_study(
        spec, out=out, smoke=smoke, fresh=fresh, warm_start=prior, storage=storage, tracking_later=tracking_later
    )
    sys.exit(print_outcome(result, out, console))


def _read(
    study: str | None, overrides: Overrides, console: Console, *, smoke: bool, refit: bool, plugins: Iterable[str]
) -> StudySpec:
    """The study that is meant, saying what an option changes beside what it names. Without one all are listed."""
    from search.api import read_spec
    from search.study.parse import study_tree
    from search.study.transfer import transfer_notes
    from search.views.console import say
    from search.views.plan import grace_line, recipe_lines
    from search.views.shipped import print_shipped

    if study is None:
        print_shipped(console)
        sys.exit(2)
    spec = read_spec(study, smoke=smoke, refit=refit, plugins=plugins, **overrides)
    line = None if smoke else grace_line(study_tree(study), spec)
    for said in (*([line] if line is not None else []), *transfer_notes(spec), *([] if smoke else recipe_lines(spec))):
        say(console, said)
    return spec


def _gpus(text: str | None) -> float | str | None:
    """A number, or what the study's own check refuses."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


if __name__ == "__main__":
    run_verb(run)
