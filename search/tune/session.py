"""One session of a search: Ray and MLflow are started, the study's trials run, and everything is written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from search.algorithms.schedulers.base import Scheduler
from search.algorithms.schedulers.registry import build_scheduler
from search.algorithms.searchers.base import Searcher
from search.algorithms.searchers.registry import build_searcher
from search.engine.listeners import Listener, guarded, study_listeners
from search.engine.session import conclude, open_session, resumption, session_start
from search.engine.study_folder import check_moved, continued
from search.journal.locks import lock
from search.journal.log import read
from search.journal.result import StudyResult
from search.journal.state import StudyState
from search.storage.checkpoints import Retention
from search.storage.mirror import Mirror
from search.storage.remote import RemoteFolder, local_storage
from search.study.spec import StudySpec
from search.tracking.tracker import MLflowTracker
from search.tune.adapters import TuneContext
from search.tune.connection import connect, ray_ended
from search.tune.run import run_trials
from search.tune.setup import Setup, set_up
from search.views.console import LastingConsole, say
from search.views.next_commands import shown
from search.views.plan import combinations_line
from search.views.progress import Progress
from trainables.data.store import described
from trainables.files import write_text

__all__ = ["Objects", "search_study"]

AT_ONCE = 1.0  # seconds that MLflow still gets when something went wrong, or the user does not want to wait


@dataclass(frozen=True)
class Objects:
    """What the caller passes as objects instead of naming it in the study."""

    searcher: Searcher | None = None
    scheduler: Scheduler | None = None
    listeners: Sequence[Listener] = ()


def search_study(
    spec: StudySpec, out: Path, place: RemoteFolder | None, uri: str, objects: Objects, console: LastingConsole
) -> StudyResult:
    """Search until the budget is used up, or something interrupts.

    Args:
        spec: the study, under the name of its folder below `out`.
        out: the results folder, absolute.
        place: where the study is stored beside this machine, if anywhere.
        uri: MLflow's.
        objects: used instead of what the study names.
        console: for messages and progress; if it is quiet, warnings are log records.

    Raises:
        ConfigError: before anything has started.
        KeyboardInterrupt: at a second signal.
    """
    warn = logging.getLogger("search").warning if console.quiet else partial(say, console, style="yellow")
    with ray_ended():
        setup = set_up(spec, out, place, objects.scheduler, console)
        folder, budget = out / setup.spec.study, setup.spec.budget
        mirror = None if place is None else Mirror(place.child(setup.spec.study), folder, warn)
        copy = "" if mirror is None else f" and {mirror.study.location}"
        line = (
            f"{budget.trials} trials of at most {budget.epochs} epochs, {setup.concurrent} at once, in {shown(folder)}"
        )
        say(console, f"{setup.spec.study}: {line}{copy}")
        if combinations := combinations_line(setup.spec):
            say(console, combinations)
        tracker = MLflowTracker(uri, setup.spec, out, warn=warn)
        try:
            with lock(folder / "journal"), mirror or nullcontext():
                return _search(setup, folder, tracker, mirror, objects, console, warn)
        except BaseException:
            tracker.close(timeout=AT_ONCE)
            raise


def _search(
    setup: Setup, folder: Path, tracker: MLflowTracker, mirror: Mirror | None, objects: Objects,
    console: LastingConsole, warn: Callable[[str], None],
) -> StudyResult:  # fmt: skip
    """Search a study whose folder and storage are locked."""
    spec, past = setup.spec, list(read(folder / "journal"))
    if past:
        spec = continued(spec, folder)  # another driver may have come and gone since it was checked
    earlier = StudyState.of(past)
    if earlier.started is not None:
        check_moved(spec, folder, earlier.started.fingerprint, setup.fingerprint)
    earlier.check_identity(spec)
    before = StudyResult.of(spec, earlier, folder)
    for event in past:
        tracker(event)
    if before.finished:
        return conclude(before, tracker, mirror)
    write_text(folder / "study.yaml", spec.dump())
    if mirror is not None:
        mirror.copy_study()
    started = session_start(spec, folder, setup.fingerprint, described(setup.images), setup.weights)
    if past:
        for line in resumption(before, started):
            say(console, line)
    state = StudyState()
    progress = Progress(spec, state, console)
    storage = local_storage(folder) if mirror is None else mirror.study
    retention = Retention(storage, state.records, spec.objective.metric, spec.objective.mode)
    own = guarded([*study_listeners(spec), *objects.listeners], warn)
    if mirror is None:
        listeners: tuple[Listener, ...] = (tracker, retention, progress, own)
    else:  # what MLflow knows and what is deleted must not be ahead of the storage
        mirror.follow(tracker, retention)
        mirror.later(retention.sweep)
        listeners = (mirror, progress, own)
    searcher, scheduler = build_searcher(spec, objects.searcher), build_scheduler(spec, objects.scheduler)
    with open_session(spec, folder, past, searcher, scheduler, state, listeners, started) as driver, progress:
        tracker.start()  # MLflow is loaded while Ray starts
        connect()
        context = TuneContext(
            driver, folder, storage, started.session, spec.resources, setup.concurrent, setup.cache, setup.reserve,
            warn, mirror, setup.shared,
        )  # fmt: skip
        run_trials(context)
    result = StudyResult.of(spec, state, folder)
    return conclude(replace(result, finished=driver.finished, trouble=driver.trouble), tracker, mirror)
