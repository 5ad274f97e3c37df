"""`python -m search.run STUDY`: the search, from one command to a config you can trust."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from search.algorithms.forecast import expected_survivors
from search.algorithms.schedulers.registry import build_scheduler
from search.engine.driver import StudyDriver
from search.engine.session import SessionOutcome, run_session
from search.engine.study_folder import study_folder
from search.journal.cost import UNTYPED, told
from search.planning.calibration import calibrate
from search.planning.disk import check_space, checkpoint_bytes, needed_bytes, reserve_bytes
from search.planning.preflight import check_inputs, possible_configs
from search.planning.resources import check_prices, check_resources, resolved_execution
from search.storage.location import kept_in
from search.storage.mirror import Mirror
from search.storage.prepared_images import share_prepared
from search.storage.remote import VARIABLE, RemoteFolder, local_storage
from search.study.overrides import override
from search.study.parse import load_study
from search.study.smoke import shrink
from search.study.spec import StudySpec
from search.tracking.tracker import MLflowTracker
from search.tracking.uri import check_reachable, default_uri
from search.views.console import say
from search.views.next_commands import SUBMITTED_BY, elsewhere, open_mlflow, program, resume, shown
from search.views.plan import print_plan
from search.views.progress import print_leaderboard
from trainables.cli import run_verb
from trainables.data.store import Request

__all__ = ["run"]

AT_ONCE = 1.0  # seconds that MLflow still gets when something went wrong, or the user does not want to wait


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
    smoke: Annotated[bool, typer.Option("--smoke", help="a few minutes on 2 cores, with the same model")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="start anew as STUDY-2, instead of going on")] = False,
    tracking_later: Annotated[
        bool, typer.Option("--tracking-later", help="start though MLflow is unreachable")
    ] = False,
    storage: Annotated[
        str | None,
        typer.Option(help=f"also keep the search at a path, s3://BUCKET/FOLDER, gs://... [default: ${VARIABLE}]"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print what would be done and what it costs")] = False,
    cluster: Annotated[Path | None, typer.Option(help="search on the cluster that `ray up` made of this file")] = None,
) -> None:
    """Search hyperparameters: recipes first, then suggestions, bad trials stopped early by ASHA."""
    spec = override(
        load_study(study), data=data, trials=trials, epochs=epochs, hours=hours, max_cost=max_cost, prices=price or [],
        concurrent=concurrent, cpus_per_trial=cpus_per_trial, gpus_per_trial=_gpus(gpus_per_trial), seed=seed,
        sets=sets or [],
    )  # fmt: skip
    if smoke:
        spec = shrink(spec)
    out = (out or Path("runs", "smoke") if smoke else out or Path("runs")).absolute()
    console = Console()
    if cluster is not None:
        from search.cluster.submit import search_on

        search_on(cluster, spec, out, console, smoke=smoke, fresh=fresh, dry_run=dry_run, storage=storage)
        return
    if dry_run:
        _dry_run(spec, console)
        return
    place = kept_in(storage or os.environ.get(VARIABLE) or None, out / spec.study, smoke, fresh)
    spec, resumed = study_folder(spec, out, fresh, place)
    uri = default_uri(out)
    if not (tracking_later or resumed):  # a study that goes on is not kept waiting: MLflow catches up
        check_reachable(uri)
    outcome, spec = _search(spec, out, uri, console, place)
    _conclude(spec, out, uri, outcome, console)


def _gpus(text: str | None) -> float | str | None:
    """A number, or what the study's own check refuses."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _resources(spec: StudySpec, console: Console) -> dict[str, float]:
    """What there is to run on: the cluster that RAY_ADDRESS names (which is joined for it), else this machine."""
    if os.environ.get("RAY_ADDRESS"):
        from search.tune.run import available_resources, connect

        connect()
        return available_resources(lambda line: say(console, line))
    gpus = 0
    if spec.resources.gpus_per_trial != 0:
        import torch

        gpus = torch.cuda.device_count()
    return {"CPU": float(os.cpu_count() or 1), "GPU": float(gpus)}


def _node_types() -> Iterable[str]:
    """The types of the nodes that there are, and of those that may come."""
    if os.environ.get("RAY_ADDRESS"):
        from search.tune.nodes import possible_types

        return possible_types()
    return [UNTYPED]


def _expected_nodes(spec: StudySpec, concurrent: int) -> Mapping[str, int]:
    """The nodes that will be there while `concurrent` trials run, so many of each type."""
    if os.environ.get("RAY_ADDRESS"):
        from search.tune.nodes import expected_nodes

        return expected_nodes(spec.resources.of_a_trial, concurrent)
    return {UNTYPED: 1}


def _resolve(spec: StudySpec, console: Console) -> tuple[StudySpec, int]:
    """The study with its execution decided, and how many trials run at once."""
    resources = _resources(spec, console)
    concurrent = check_resources(spec, resources)
    if spec.resources.prices is not None:
        check_prices(spec.resources.prices, _node_types())
    return resolved_execution(spec, resources.get("GPU", 0) > 0, spec.resources.cpus_per_trial), concurrent


def _dry_run(spec: StudySpec, console: Console) -> None:
    from trainables.data.store import default_cache

    spec, concurrent = _resolve(spec, console)
    check_inputs(spec, default_cache())
    calibration = calibrate(spec.trial_config({}), default_cache())
    nodes = _expected_nodes(spec, concurrent) if spec.resources.prices is not None else {}
    print_plan(spec, concurrent, calibration, nodes, console)


def _measured(
    spec: StudySpec, cache: Path, console: Console, prepared: Mapping[Request, str], place: RemoteFolder | None
) -> tuple[StudySpec, int]:
    """The study with its share of a GPU measured, and how many trials run at once."""
    from search.tune.gpu_share import calibrated
    from search.tune.run import connect

    resources = _resources(spec, console)
    with console.status("measuring how many trials fit on a GPU"):
        connect()
        spec = calibrated(spec, list(possible_configs(spec)), cache, resources, prepared, place)
    concurrent = check_resources(spec, resources)
    say(console, f"{spec.resources.gpus:g} GPUs a trial, as measured: {concurrent} at once")
    return spec, concurrent


def _search(
    spec: StudySpec, out: Path, uri: str, console: Console, place: RemoteFolder | None
) -> tuple[SessionOutcome, StudySpec]:
    from trainables.data.store import default_cache

    spec, concurrent = _resolve(spec, console)
    if spec.resources.fuse and not spec.resources.gpus:
        why = "without a GPU the trials share one trial's threads, and take longer together than apart"
        say(console, f"resources.fuse: {why}", "yellow")
    cache = default_cache()
    with console.status("preparing images"):
        stores = check_inputs(spec, cache)
        prepared = share_prepared(place, stores) if place is not None and os.environ.get("RAY_ADDRESS") else {}
    if spec.resources.gpus_per_trial == "auto":
        spec, concurrent = _measured(spec, cache, console, prepared, place)
    checkpoint = checkpoint_bytes(spec.trial_config({}), cache)
    survival = expected_survivors(lambda: build_scheduler(spec), spec.budget.trials, spec.budget.epochs)
    reserve = reserve_bytes(concurrent, checkpoint)
    check_space(out, reserve if place is not None else needed_bytes(spec, survival, concurrent, checkpoint))

    def warn(line: str) -> None:
        say(console, line, "yellow")

    mirror = Mirror(place.child(spec.study), out / spec.study, warn) if place is not None else None

    def run_trials(driver: StudyDriver, folder: Path, number: int) -> str | None:
        from search.tune.adapters import TuneContext
        from search.tune.run import connect, run_trials

        tracker.start()  # Ray is imported, and takes seconds to start
        connect()
        files = local_storage(folder) if mirror is None else mirror.study
        session = TuneContext(
            driver, folder, files, number, spec.resources, concurrent, cache, reserve, warn, mirror, prepared,
            on_cluster=bool(os.environ.get("RAY_ADDRESS")),
        )  # fmt: skip
        run_trials(session)
        return session.trouble

    say(
        console,
        f"{spec.study}: {spec.budget.trials} trials of at most {spec.budget.epochs} epochs, {concurrent} at once, "
        f"in {shown(out / spec.study)}" + (f" and {mirror.study.location}" if mirror is not None else ""),
    )
    fingerprint = next((store.fingerprint for store in reversed(stores.values())), None)
    tracker = MLflowTracker(uri, spec, out, warn=warn)
    try:
        outcome = run_session(
            spec, out, run_trials, fingerprint=fingerprint, tracker=tracker, console=console, mirror=mirror
        )
    except BaseException:
        tracker.close(timeout=AT_ONCE)
        raise
    return outcome, spec


def _conclude(spec: StudySpec, out: Path, uri: str, outcome: SessionOutcome, console: Console) -> None:
    submitted = SUBMITTED_BY in os.environ
    print_leaderboard(spec, {record.number: record for record in outcome.result.trials}, console)
    if outcome.best is None:
        say(
            console,
            f"no trial ran to its end, so there is no best config; every result is in {shown(out / spec.study)}",
        )
    elif outcome.best_path is not None and not submitted:
        say(console, f"best config: {shown(outcome.best_path)} (trial {outcome.best.number})\n\nnext:")
        for purpose, command in _next_commands(spec, out, uri, outcome):
            say(console, f"  {command}   # {purpose}")
    if outcome.spending.counted:
        say(console, f"cost: {told(outcome.spending.spent, spec.budget.max_cost)}")
    if outcome.finished:
        return
    waiting = sum(not record.status.ended for record in outcome.result.trials)
    why = outcome.trouble or "interrupted"
    way = "." if submitted else f", or\n  {resume(out / spec.study)}"
    say(console, f"{why}: what was done is kept, {waiting} trials wait to go on. The same command goes on{way}")
    sys.exit(1 if outcome.trouble else 130)


def _next_commands(spec: StudySpec, out: Path, uri: str, outcome: SessionOutcome) -> Iterator[tuple[str, str]]:
    """What a user would do now, and how it is typed."""
    python, best = program("python"), outcome.best
    if best is None or outcome.best_path is None:
        return
    yield "the same trial again", f"{python} -m trainables.train {shown(outcome.best_path)}"
    if outcome.checkpoint and best.config["model"]["kind"] != "synthetic":
        checkpoint = shown(outcome.checkpoint)
        yield "once, when the choice is made", f"{python} -m trainables.evaluate {checkpoint} --split test"
    yield "any other trial's config", f"{python} -m search.export {spec.study} --trial N{elsewhere(out)}"
    yield "compare the trials", open_mlflow(uri, spec.study)


if __name__ == "__main__":
    run_verb(run)
