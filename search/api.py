"""The Python API: start a study, continue it, open it. `search.run` and the other verbs are options around it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Unpack

from rich.console import Console

from search.algorithms.schedulers.base import Scheduler
from search.algorithms.schedulers.registry import build_scheduler
from search.algorithms.searchers.base import Searcher
from search.algorithms.searchers.registry import build_searcher
from search.engine.listeners import Listener, guarded, study_listeners
from search.engine.session import conclude, open_session, resumption, session_start
from search.engine.study_folder import continued, study_folder
from search.journal.locks import lock
from search.journal.log import read
from search.journal.result import StudyResult
from search.journal.state import StudyState
from search.journal.study_folder import find_study, read_study
from search.planning.calibration import Plan, calibrate
from search.planning.preflight import check_inputs
from search.storage.checkpoints import Retention
from search.storage.location import study_storage
from search.storage.mirror import Mirror
from search.storage.remote import VARIABLE, local_storage
from search.study.overrides import Overrides, override
from search.study.parse import study_tree
from search.study.settings import InstanceSettings
from search.study.smoke import shrink
from search.study.spec import StudySpec
from search.tracking.tracker import MLflowTracker
from search.tracking.uri import check_reachable, default_uri
from search.tune.adapters import TuneContext
from search.tune.run import connect, ray_ended, run_trials
from search.tune.setup import Setup, nodes_now, resolve, set_up
from search.views.console import say
from search.views.next_commands import shown
from search.views.progress import Progress
from trainables.config.plugins import allow_plugins, dotted_path
from trainables.data.store import default_cache
from trainables.files import write_text

__all__ = ["Plan", "open_study", "plan_study", "read_spec", "run_study"]

AT_ONCE = 1.0  # seconds that MLflow still gets when something went wrong, or the user does not want to wait


def read_spec(
    study: str | Path | StudySpec, *, smoke: bool = False, plugins: Iterable[str] = (), **overrides: Unpack[Overrides]
) -> StudySpec:
    """The study that `run_study` would run: read, with the overrides laid over it, shrunk if `smoke`.

    Raises:
        ConfigError: with every mistake in the study and the overrides.
    """
    allow_plugins(plugins)
    spec = override(study if isinstance(study, StudySpec) else study_tree(str(study)), **overrides)
    return shrink(spec) if smoke else spec


def run_study(
    study: str | Path | StudySpec,
    *,
    out: str | Path = "runs",
    smoke: bool = False,
    fresh: bool = False,
    storage: str | None = None,
    searcher: Searcher | None = None,
    scheduler: Scheduler | None = None,
    listeners: Sequence[Listener] = (),
    model: Callable[..., object] | None = None,
    images: Callable[[str], object] | None = None,
    plugins: Iterable[str] = (),
    tracking_uri: str | None = None,
    tracking_later: bool = False,
    progress: bool = True,
    **overrides: Unpack[Overrides],
) -> StudyResult:
    """Search until the study's budget is used up, or continue a study that was interrupted.

    The result is complete if `result.finished`; after an interrupt (Ctrl-C, a kernel's stop button, SIGTERM) the
    running trials are saved, and the same call continues. Works in a script, a notebook and a thread; never ends the
    process.

    Args:
        study: the name of a shipped study, the path of a YAML file, or a `StudySpec`.
        out: the results folder; the study's own is below it, under its name.
        smoke: shrink the study to a few minutes on two cores.
        fresh: start anew as STUDY-2 beside a study that is there, instead of continuing it.
        storage: also store the study at a path, `s3://BUCKET/FOLDER` or `gs://...`.
        searcher, scheduler: objects to use instead of what the study names; the study records their class, and
            continues only with one of the same class.
        listeners: called with every event after it is on disk, from the thread that schedules trials.
        model, images: a class or function that builds the network or reads the images (docs/plugins.md), from a module
            that workers can import. The study records its dotted path.
        plugins: packages whose dotted paths (`kind: package:Name`) the study may name.
        tracking_uri: MLflow's; by default MLFLOW_TRACKING_URI, else `mlflow.db` in the results folder.
        tracking_later: start though MLflow is unreachable; it is written when it answers.
        progress: print progress and messages; otherwise warnings are log records.
        **overrides: as on the command line: `data`, `trials`, `epochs`, `hours`, `max_cost`, `prices`, `concurrent`,
            `cpus_per_trial`, `gpus_per_trial`, `seed`, and `sets`, a list of `"a.b=value"`.

    Raises:
        ConfigError: for bad input, before anything has started.
        KeyboardInterrupt: at a second interrupt; the journal is in order then, and the same call continues.

    Example:
        >>> result = search.run_study("digits_resnet8", trials=8)
        >>> result.best().config["optimizer"]
    """
    console = Console(quiet=not progress)
    out = Path(out).absolute()
    if model is not None:
        overrides["sets"] = [*overrides.get("sets", ()), f"model.kind={dotted_path('model', model)}"]
    if images is not None:
        overrides["data"] = dotted_path("data_source", images)
    spec = read_spec(study, smoke=smoke, plugins=plugins, **overrides)
    if searcher is not None:
        spec = spec.model_copy(update={"searcher": InstanceSettings.of(searcher)})
    if scheduler is not None:
        spec = spec.model_copy(update={"scheduler": InstanceSettings.of(scheduler)})
    place = study_storage(storage or os.environ.get(VARIABLE) or None, out / spec.study, smoke, fresh)
    spec, resumed = study_folder(spec, out, fresh, place)
    uri = tracking_uri or default_uri(out)
    if not (tracking_later or resumed):  # a study that is continued does not wait: MLflow catches up
        check_reachable(uri)
    warn = partial(say, console, style="yellow") if progress else logging.getLogger("search").warning
    with ray_ended():
        setup = set_up(spec, out, place, scheduler, console)
        folder, budget = out / setup.spec.study, setup.spec.budget
        mirror = None if place is None else Mirror(place.child(setup.spec.study), folder, warn)
        copy = "" if mirror is None else f" and {mirror.study.location}"
        line = (
            f"{budget.trials} trials of at most {budget.epochs} epochs, {setup.concurrent} at once, in {shown(folder)}"
        )
        say(console, f"{setup.spec.study}: {line}{copy}")
        tracker = MLflowTracker(uri, setup.spec, out, warn=warn)
        try:
            with lock(folder / "journal"), mirror or nullcontext():
                return _search(setup, folder, tracker, mirror, console, warn, searcher, scheduler, listeners)
        except BaseException:
            tracker.close(timeout=AT_ONCE)
            raise


def _search(
    setup: Setup, folder: Path, tracker: MLflowTracker, mirror: Mirror | None, console: Console,
    warn: Callable[[str], None], searcher: Searcher | None, scheduler: Scheduler | None, extra: Sequence[Listener],
) -> StudyResult:  # fmt: skip
    """Search a study whose folder and storage are locked."""
    spec, past = setup.spec, list(read(folder / "journal"))
    if past:
        spec = continued(spec, folder)  # another driver may have come and gone since it was checked
    earlier = StudyState.of(past)
    earlier.check_identity(spec)
    before = StudyResult.of(spec, earlier, folder)
    for event in past:
        tracker(event)
    if before.finished:
        return conclude(before, tracker, mirror)
    write_text(folder / "study.yaml", spec.dump())
    if mirror is not None:
        mirror.copy_study()
    started = session_start(spec, folder, setup.fingerprint)
    if past:
        for line in resumption(before, started):
            say(console, line)
    state = StudyState()
    progress = Progress(spec, state, console)
    storage = local_storage(folder) if mirror is None else mirror.study
    retention = Retention(storage, state.records, spec.objective.metric, spec.objective.mode)
    own = guarded([*study_listeners(spec), *extra], warn)
    if mirror is None:
        listeners: tuple[Listener, ...] = (tracker, retention, progress, own)
    else:  # what MLflow knows and what is deleted must not be ahead of the storage
        mirror.follow(tracker, retention)
        mirror.later(retention.sweep)
        listeners = (mirror, progress, own)
    searcher, scheduler = build_searcher(spec, searcher), build_scheduler(spec, scheduler)
    with open_session(spec, folder, past, searcher, scheduler, state, listeners, started) as session, progress:
        tracker.start()  # MLflow is loaded while Ray starts
        connect()
        context = TuneContext(
            session.driver, folder, session.number, spec.resources, setup.concurrent, setup.cache, setup.reserve, warn,
            mirror, setup.shared,
        )  # fmt: skip
        run_trials(context)
        session.trouble = context.trouble
    result = StudyResult.of(spec, state, folder)
    return conclude(replace(result, finished=session.driver.finished, trouble=session.trouble), tracker, mirror)


def plan_study(
    study: str | Path | StudySpec, *, smoke: bool = False, plugins: Iterable[str] = (), **overrides: Unpack[Overrides]
) -> Plan:
    """What `run_study` would do (`--dry-run`): check everything that it checks, and time a few steps.

    Raises:
        ConfigError: as `run_study`.
    """
    spec, concurrent = resolve(read_spec(study, smoke=smoke, plugins=plugins, **overrides), Console(quiet=True))
    check_inputs(spec, default_cache())
    calibration = calibrate(spec.trial_config({}), default_cache())
    nodes = nodes_now() if spec.resources.prices is not None else {}
    return Plan(spec, concurrent, calibration, nodes)


def open_study(study: str | Path, *, out: str | Path = "runs", plugins: Iterable[str] = ()) -> StudyResult:
    """The result of a study so far: also while it runs, and of one that was interrupted or killed.

    Args:
        study: its name below `out`, or the path of its folder.
        out: the results folder.
        plugins: packages whose dotted paths the study may name.

    Raises:
        ConfigError: if there is no such study, or its journal is damaged.
    """
    allow_plugins(plugins)
    folder = find_study(str(study), Path(out))
    spec, events = read_study(folder)
    return StudyResult.of(spec, StudyState.of(events), folder)
