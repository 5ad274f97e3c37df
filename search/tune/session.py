"""One session of a search: Ray and MLflow are started, the study's trials run, and everything is written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from search.algorithms.schedulers.base import Scheduler
from search.algorithms.schedulers.none import NoStopping
from search.algorithms.schedulers.registry import build_scheduler
from search.algorithms.searchers.base import Searcher
from search.algorithms.searchers.random import RandomSearcher
from search.algorithms.searchers.registry import build_searcher
from search.engine.comparing import Comparer, contenders_line
from search.engine.driver import StudyDriver
from search.engine.held_out import score_on_test
from search.engine.listeners import Listener, guarded, study_listeners
from search.engine.session import conclude, open_session, resumption, session_start
from search.engine.study_folder import check_moved, continued
from search.engine.warm_start import warm_started
from search.journal.comparisons import newest
from search.journal.locks import lock
from search.journal.log import read
from search.journal.records import TrialRecord
from search.journal.result import StudyResult
from search.journal.state import StudyState
from search.planning.plausibility import implausible_trials
from search.storage.checkpoints import Retention, checkpoint_at
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
from trainables.config import ConfigError
from trainables.data.store import described
from trainables.files import write_text

__all__ = ["Goal", "Objects", "search_study"]

AT_ONCE = 1.0  # seconds that MLflow still gets when something went wrong, or the user does not want to wait


@dataclass(frozen=True)
class Objects:
    """What the caller passes as objects instead of naming it in the study."""

    searcher: Searcher | None = None
    scheduler: Scheduler | None = None
    listeners: Sequence[Listener] = ()


@dataclass(frozen=True)
class Goal:
    """What a session is for: the search, or without `searching` a comparison alone.

    `comparer` makes what decides the comparison, if one is wanted, from what `set_up` found. The searcher of a new
    study is told of the trials of the `prior` ones.
    """

    comparer: Callable[[Setup], Comparer | None]
    searching: bool = True
    prior: Sequence[StudyResult] = ()


def search_study(
    spec: StudySpec, out: Path, place: RemoteFolder | None, uri: str, objects: Objects, goal: Goal,
    console: LastingConsole,
) -> StudyResult:  # fmt: skip
    """Work on a study until its goal is reached and the budget used up, or something interrupts.

    Args:
        spec: the study, under the name of its folder below `out`.
        out: the results folder, absolute.
        place: where the study is stored beside this machine, if anywhere.
        uri: MLflow's.
        objects: used instead of what the study names.
        goal: what is to be done.
        console: for messages and progress; if it is quiet, warnings are log records.

    Raises:
        ConfigError: before anything has started.
        KeyboardInterrupt: at a second signal.
    """
    warn = logging.getLogger("search").warning if console.quiet else partial(say, console, style="yellow")
    with ray_ended():
        setup = set_up(spec, out, place, objects.scheduler, console, goal.searching)
        folder = out / setup.spec.study
        mirror = None if place is None else Mirror(place.child(setup.spec.study), folder, warn)
        tracker = MLflowTracker(uri, setup.spec, out, warn=warn)
        session = _Session(setup, folder, tracker, mirror, objects, goal, console, warn)
        try:
            with lock(folder / "journal"), mirror or nullcontext():
                return session.run()
        except BaseException:
            tracker.close(timeout=AT_ONCE)
            raise


@dataclass(frozen=True)
class _Session:
    """A session of a study whose folder and storage are locked."""

    setup: Setup
    folder: Path
    tracker: MLflowTracker
    mirror: Mirror | None
    objects: Objects
    goal: Goal
    console: LastingConsole
    warn: Callable[[str], None]

    def run(self) -> StudyResult:
        """See `search_study`."""
        setup, folder, tracker, mirror = self.setup, self.folder, self.tracker, self.mirror
        spec, past = setup.spec, list(read(folder / "journal"))
        if past:
            spec = continued(spec, folder)  # another driver may have come and gone since it was checked
        earlier, comparer = StudyState.of(past), self.goal.comparer(replace(setup, spec=spec))
        if earlier.started is not None:
            check_moved(spec, folder, earlier.started.fingerprint, setup.fingerprint)
        earlier.check_identity(spec)
        before = StudyResult.of(spec, earlier, folder)
        for event in past:
            tracker(event)
        if self.goal.searching and before.finished:
            return conclude(replace(before, finished_before=True), tracker, mirror)
        self._announce(spec, earlier, comparer)
        is_warm = bool(self.goal.prior) and not earlier.trials
        warm = warm_started(spec, self.goal.prior, setup.fingerprint) if is_warm else None
        for line in warm.lines if warm else ():
            say(self.console, line)
        write_text(folder / "study.yaml", spec.dump())
        if mirror is not None:
            mirror.copy_study()
        started = session_start(spec, folder, setup.fingerprint, described(setup.images), setup.weights)
        for line in resumption(before, started, self.goal.searching) if past else ():
            say(self.console, line)
        state = StudyState()
        progress = Progress(spec, state, self.console)
        deciders = self._deciders(spec)
        listeners = self._listeners(spec, state, progress)
        with (
            open_session(spec, folder, past, *deciders, state, listeners, started, comparer, self.goal.searching)
            as driver, progress,
        ):  # fmt: skip
            if warm is not None:
                driver.record(warm)
            tracker.start()  # MLflow is loaded while Ray starts
            connect()
            context = TuneContext(
                driver, folder, self._storage(), started.session, spec.resources, setup.concurrent, setup.cache,
                setup.reserve, self.warn, mirror, setup.shared,
            )  # fmt: skip
            run_trials(context)
            self._open_test(driver)
        result = StudyResult.of(spec, state, folder)
        finished = driver.finished if self.goal.searching else result.finished
        return conclude(replace(result, finished=finished, trouble=driver.trouble), tracker, mirror)

    def _announce(self, spec: StudySpec, earlier: StudyState, comparer: Comparer | None) -> None:
        """Say what is about to be done.

        Raises:
            ConfigError: if there is nothing to compare.
        """
        copy = "" if self.mirror is None else f" and {self.mirror.study.location}"
        where = f"{self.setup.concurrent} at once, in {shown(self.folder)}{copy}"
        if self.goal.searching:
            budget = spec.budget
            epochs = f"{budget.epochs} epochs" + (f" {spec.proxy.words}" if spec.proxy is not None else "")
            say(self.console, f"{spec.study}: {budget.trials} trials of at most {epochs}, {where}")
            if combinations := combinations_line(spec):
                say(self.console, combinations)
            for line in implausible_trials(spec):
                self.warn(f"warning: {line}")
        elif comparer is not None:
            say(self.console, f"{spec.study}: {contenders_line(comparer, earlier)}, {where}")

    def _storage(self) -> RemoteFolder:
        return local_storage(self.folder) if self.mirror is None else self.mirror.study

    def _deciders(self, spec: StudySpec) -> tuple[Searcher, Scheduler]:
        if self.goal.searching:
            return build_searcher(spec, self.objects.searcher), build_scheduler(spec, self.objects.scheduler)
        return RandomSearcher(spec.parsed_space, spec.seed), NoStopping()  # which are not asked

    def _listeners(self, spec: StudySpec, state: StudyState, progress: Progress) -> tuple[Listener, ...]:
        retention = Retention(self._storage(), state, spec.objective.metric, spec.objective.mode)
        own = guarded([*study_listeners(spec), *self.objects.listeners], self.warn)
        if self.mirror is None:
            return self.tracker, retention, progress, own
        # What MLflow knows and what is deleted must not be ahead of the storage.
        self.mirror.follow(self.tracker, retention)
        self.mirror.later(retention.sweep)
        return self.mirror, progress, own

    def _open_test(self, driver: StudyDriver) -> None:
        """Score the winner of a refit that has ended; what hinders it leaves that to the next session."""
        refit = newest(driver.state.comparisons, "refit", ended=True)
        if not driver.finished or refit is None or refit.is_over or driver.state.trained_since(refit):
            return
        say(self.console, "scoring the winner on the test split")
        try:
            settings = self.setup.spec.refit
            samples = None if settings is None else settings.test_samples
            score_on_test(driver, refit, self._checkpoint, self.setup.cache, samples)
        except KeyboardInterrupt:
            driver.finished = False
            driver.interrupt()
        except (ConfigError, OSError) as error:
            driver.finished = False
            driver.interrupt(str(error))

    def _checkpoint(self, record: TrialRecord) -> Path | None:
        if record.checkpoint is None:
            return None
        if self.mirror is not None:
            return self.mirror.fetch_checkpoint(record.checkpoint)
        path = self.folder / checkpoint_at(record.checkpoint)
        return path if path.exists() else None
