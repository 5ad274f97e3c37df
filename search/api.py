"""The Python API: start a study, continue it, open it, and what `search.answers` makes of it.

`search.run` and the other verbs are options around it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from rich.console import Console

from search.algorithms.schedulers.base import Scheduler
from search.algorithms.searchers.base import Searcher
from search.answers import check_study, diagnose_model, explain_study, open_study, refit_study, report_study
from search.engine.comparing import Comparer
from search.engine.listeners import Listener
from search.engine.refit import Refitting
from search.engine.study_folder import study_folder
from search.engine.warm_start import earlier_studies, warm_started
from search.journal.result import StudyResult
from search.planning.calibration import Plan, calibrate
from search.planning.disk import largest_checkpoint
from search.planning.preflight import check_inputs, check_weights, coarse_stems
from search.planning.typical import typical
from search.storage.location import study_storage
from search.storage.remote import VARIABLE
from search.study.overrides import Overrides, override
from search.study.parse import study_tree
from search.study.settings import InstanceSettings
from search.study.smoke import shrink
from search.study.spec import StudySpec
from search.tracking.uri import check_reachable, default_uri
from search.views.console import LastingConsole
from trainables.config import ConfigError
from trainables.config.plugins import allow_plugins, dotted_path
from trainables.data.store import default_cache, described

if TYPE_CHECKING:
    from search.tune.setup import Setup

__all__ = [
    "Plan", "check_study", "diagnose_model", "explain_study", "open_study", "plan_study", "read_spec", "refit_study",
    "report_study", "run_study",
]  # fmt: skip


def read_spec(
    study: str | Path | StudySpec, *, smoke: bool = False, refit: bool = True, plugins: Iterable[str] = (),
    **overrides: Unpack[Overrides],
) -> StudySpec:  # fmt: skip
    """The study that `run_study` would run: read, with the overrides laid over it, shrunk if `smoke`.

    Raises:
        ConfigError: with every mistake in the study and the overrides.
    """
    allow_plugins(plugins)
    spec = override(study if isinstance(study, StudySpec) else study_tree(str(study)), **overrides)
    spec = shrink(spec) if smoke else spec
    if not refit and spec.proxy is not None:
        rule = f"must be left out: the search trains {spec.proxy.words}, and the refit alone the study's own network"
        raise ConfigError.single("--no-refit", True, rule)
    return spec if refit else spec.model_copy(update={"refit": None})


def run_study(
    study: str | Path | StudySpec, *, out: str | Path = "runs", smoke: bool = False, fresh: bool = False,
    refit: bool = True, warm_start: str | Path | Sequence[str | Path] = (), storage: str | None = None,
    searcher: Searcher | None = None, scheduler: Scheduler | None = None, listeners: Sequence[Listener] = (),
    model: Callable[..., object] | None = None, images: Callable[[str], object] | None = None,
    plugins: Iterable[str] = (), tracking_uri: str | None = None, tracking_later: bool = False, progress: bool = True,
    **overrides: Unpack[Overrides],
) -> StudyResult:  # fmt: skip
    """Search until the study's budget is used up, or continue a study that was interrupted.

    The result is complete if `result.finished`; after an interrupt (Ctrl-C, a kernel's stop button, SIGTERM) the
    running trials are saved, and the same call continues. Works in a script, a notebook and a thread; ends the process
    only if its local Ray was killed and a call into it hangs, as Ray itself would a minute later.

    Args:
        study: the name of a shipped study, the path of a YAML file, or a `StudySpec`.
        out: the results folder; the study's own is below it, under its name.
        smoke: shrink the study to a few minutes on two cores.
        fresh: start anew as STUDY-2 beside a study that is there, instead of continuing it.
        refit: False leaves out the study's last phase, in which its best trials get fresh seeds. A study with a proxy
            needs it.
        warm_start: earlier studies, by name or folder: of those of their trials that lie inside the space the searcher
            is told, or the best are tried first where images or epochs are others. They are recorded, so that the study
            can be continued without the earlier ones.
        storage: also store the study at a path, `s3://BUCKET/FOLDER` or `gs://...`.
        searcher, scheduler: used instead of what the study names; it continues only with one of the same class.
        listeners: called with every event after it is on disk, from the thread that schedules trials.
        model, images: a class or function that builds the network or reads the images (docs/plugins.md), from a module
            that workers can import. The study records its dotted path.
        plugins: packages whose dotted paths (`kind: package:Name`) the study may name.
        tracking_uri: MLflow's; by default MLFLOW_TRACKING_URI, else `mlflow.db` in the results folder.
        tracking_later: start even if MLflow is unreachable; it is written once it answers.
        progress: print progress; otherwise warnings are log records.
        **overrides: as on the command line: `data`, `trials`, `epochs`, `hours`, `max_cost`, `prices`, `concurrent`,
            `cpus_per_trial`, `gpus_per_trial`, `seed`, and `sets`, a list of `"a.b=value"`.

    Raises:
        ConfigError: for bad input, before anything has started.
        KeyboardInterrupt: at a second interrupt; the journal is in order then, and the same call continues.

    Example:
        >>> search.run_study("digits_resnet8", trials=8).winner().config["optimizer"]
    """
    console, out = LastingConsole(quiet=not progress), Path(out).absolute()
    spec = read_spec(study, smoke=smoke, refit=refit, plugins=plugins, **_by_path(overrides, model, images))
    spec = _with_objects(spec, searcher=searcher, scheduler=scheduler)
    place = study_storage(storage or os.environ.get(VARIABLE) or None, out / spec.study, smoke, fresh)
    spec, resumed = study_folder(spec, out, fresh, place)
    prior = earlier_studies(warm_start, spec, out, resumed)
    uri = tracking_uri or default_uri(out)
    if not (tracking_later or resumed):  # a study that is continued does not wait: MLflow catches up
        check_reachable(uri)
    from search.tune.session import Goal, Objects, search_study  # loads Ray, which takes seconds

    goal = Goal(_refitting, prior=prior)
    return search_study(spec, out, place, uri, Objects(searcher, scheduler, listeners), goal, console)


def _refitting(setup: Setup) -> Comparer | None:
    """What decides the refit at a search's end, if the study has one."""
    settings = setup.spec.refit
    return None if settings is None else Refitting(setup.spec, settings, setup.pool)


def _with_objects(spec: StudySpec, **given: Searcher | Scheduler | None) -> StudySpec:
    """The study with the classes of searcher and scheduler that were passed as objects."""
    return spec.model_copy(update={key: InstanceSettings.of(made) for key, made in given.items() if made is not None})


def _by_path(overrides: Overrides, model: object, images: object) -> Overrides:
    """The overrides with the dotted paths of a model and a source of images that were passed as objects."""
    if model is not None:
        overrides["sets"] = [*overrides.get("sets", ()), f"model.kind={dotted_path('model', model)}"]
    if images is not None:
        overrides["data"] = dotted_path("data_source", images)
    return overrides


def plan_study(
    study: str | Path | StudySpec, *, out: str | Path = "runs", smoke: bool = False, refit: bool = True,
    warm_start: str | Path | Sequence[str | Path] = (), plugins: Iterable[str] = (), **overrides: Unpack[Overrides],
) -> Plan:  # fmt: skip
    """What `run_study` would do (`--dry-run`) with a new study: check everything that it checks, and time a few steps.

    Raises:
        ConfigError: as `run_study`.
    """
    spec = read_spec(study, smoke=smoke, refit=refit, plugins=plugins, **overrides)
    earlier = earlier_studies(warm_start, spec, Path(out).absolute())
    from search.tune.setup import nodes_now, resolve  # loads Ray, which takes seconds

    spec, concurrent = resolve(spec, Console(quiet=True))
    images = check_inputs(spec, default_cache())
    weights = (*check_weights(spec, images, default_cache()), *coarse_stems(spec, images))
    fingerprint = next((store.fingerprint for store in reversed(images.values())), None)
    prior = warm_started(spec, earlier, fingerprint).lines if earlier else ()
    timed = ((phase, *typical(phase, images)) for phase in spec.phases)
    calibration, *own = (
        replace(
            calibrate(config, default_cache(), concurrent),
            of=name, checkpoint_bytes=largest_checkpoint(phase, default_cache()),
        )
        for phase, config, name in timed
    )  # fmt: skip
    nodes = nodes_now() if spec.resources.prices is not None else {}
    return Plan(spec, concurrent, calibration, nodes, described(images), weights, prior, *own)
