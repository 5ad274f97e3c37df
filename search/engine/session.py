"""One session of a study: journal, driver, tracking, Ray, and at the end the files a user takes away."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from search.algorithms.schedulers.registry import build_scheduler
from search.algorithms.searchers.optuna_tpe import optuna_study
from search.algorithms.searchers.registry import build_searcher
from search.engine.driver import StudyDriver
from search.engine.study_folder import continued
from search.journal.cost import Spending
from search.journal.error_text import first_line
from search.journal.events import Event, SessionEnded, SessionStarted
from search.journal.locks import lock
from search.journal.log import Journal, next_session, read
from search.journal.provenance import git_commit, version_changes, versions
from search.journal.records import TrialRecord
from search.journal.result import StudyResult
from search.journal.state import StudyState, identity_checksum
from search.storage.checkpoints import Retention
from search.storage.mirror import Mirror
from search.storage.remote import local_storage
from search.study.spec import StudySpec
from search.tracking.tracker import MLflowTracker
from search.views.console import say
from search.views.output_files import best_config, write_optuna, write_trials
from search.views.progress import Progress
from trainables.config import ConfigError
from trainables.files import write_text

__all__ = ["SessionOutcome", "run_session"]


@dataclass(frozen=True)
class SessionOutcome:
    """What a session left: the result, whether it is complete, and where best config and checkpoint are (if any).

    `trouble` says what kept the session from going on, other than the user; `spending` is that of all sessions.
    """

    result: StudyResult
    finished: bool
    best: TrialRecord | None
    best_path: Path | None
    checkpoint: Path | None
    trouble: str | None
    spending: Spending


def run_session(
    spec: StudySpec,
    out: Path,
    run_trials: Callable[[StudyDriver, Path, int], str | None],
    *,
    fingerprint: str | None,
    tracker: MLflowTracker,
    console: Console,
    mirror: Mirror | None = None,
) -> SessionOutcome:
    """Search until the budget is used up or an interrupt comes, then write every output.

    A study that was begun before goes on from its journal: what has ended stays, what was interrupted goes on, and
    searcher and scheduler stand where they stood. One that is finished is only written out again.

    Args:
        spec: the resolved study.
        out: absolute; the study's folder is `out/<study>`.
        run_trials: runs the driver's trials in the study's folder under a session number; returns what kept it from
            finishing, other than an interrupt.
        fingerprint: that of the prepared images, None without images.
        tracker: told every event of the study, and closed at the end.
        console: for progress and messages.
        mirror: copies the study's folder to a storage, in which its trials then keep their checkpoints.

    Raises:
        ConfigError: if another driver holds the study, its folder cannot be written, it holds another study, or its
            journal is damaged.
        KeyboardInterrupt: after a second interrupt; the journal is in order then, the other outputs are not written.
    """
    study = out / spec.study
    with lock(study / "journal"), mirror or nullcontext():
        past = list(read(study / "journal"))
        if past:
            spec = continued(spec, study)  # since it was checked, another driver may have come and gone
        earlier = StudyState.of(past)
        earlier.check_identity(spec)
        before = StudyResult.of(spec, earlier)
        for event in past:
            tracker.submit(event)
        if earlier.is_over(spec):
            return _conclude(spec, before, study, tracker, mirror, earlier.spending, finished=True)
        write_text(study / "study.yaml", spec.dump())
        if mirror is not None:
            _copy_study(mirror)
        number = next_session(study / "journal")
        started = SessionStarted(
            session=number,
            time=time.time(),
            versions=versions(),
            git=git_commit(),
            fingerprint=fingerprint,
            identity=identity_checksum(spec),
        )
        if past:
            _tell_resumed(before, started, console)
        journal = Journal(study / "journal", number)
        state = StudyState()
        progress = Progress(spec, state, console)
        files = local_storage(study) if mirror is None else mirror.study
        retention = Retention(files, state.records, spec.objective.metric, spec.objective.mode)
        listeners: tuple[Callable[[Event], None], ...] = (tracker.submit, retention, progress)
        if mirror is not None:
            mirror.follow(tracker.submit, retention)
            listeners = (mirror, progress)
        driver = StudyDriver(
            spec, journal, build_searcher(spec), build_scheduler(spec), state, listeners,
        )  # fmt: skip
        driver.replay(past)
        if mirror is not None:
            mirror.later(retention.sweep)
        driver.record(started)
        trouble: str | None = None
        try:
            with progress:
                trouble = run_trials(driver, study, number)
        finally:
            reason = "finished" if driver.finished else trouble or "interrupted"
            try:
                driver.record(SessionEnded(session=number, reason=reason, time=time.time()))
            except OSError as error:  # the next session takes this one for killed, which loses nothing
                trouble = trouble or f"the journal in {study} cannot be written ({error.strerror})"
            journal.close()
        result = StudyResult.of(spec, state)
        return _conclude(spec, result, study, tracker, mirror, state.spending, driver.finished, trouble)


def _conclude(
    spec: StudySpec, result: StudyResult, study: Path, tracker: MLflowTracker, mirror: Mirror | None, spent: Spending,
    finished: bool, trouble: str | None = None,
) -> SessionOutcome:  # fmt: skip
    best, best_path = result.best(), None
    if mirror is not None and not mirror.flush():  # MLflow is told what the storage has
        trouble = trouble or mirror.trouble or f"{mirror.study.location} lacks the end of the search"
    try:
        best_path = _write_outputs(spec, result, best, study, tracker)
    except ConfigError as error:  # the journal has everything; the same command writes them when there is room
        trouble = trouble or f"the search's files cannot be written ({error})"
    tracker.close(best_path)
    checkpoint = Path(best.checkpoint) if best is not None and best.checkpoint else None
    if mirror is not None and mirror.trouble is None:
        try:
            mirror.copy_outputs()
            checkpoint = mirror.fetch_checkpoint(best.checkpoint) if best is not None and best.checkpoint else None
        except OSError as error:
            checkpoint = None
            trouble = trouble or f"{mirror.study.location} does not take the search's files ({first_line(error)})"
    return SessionOutcome(result, finished and trouble is None, best, best_path, checkpoint, trouble, spent)


def _copy_study(mirror: Mirror) -> None:
    try:
        mirror.copy_outputs(["study.yaml"])
    except OSError as error:
        raise ConfigError.single(
            "--storage", mirror.study.location, f"must be writable ({first_line(error)})"
        ) from None


def _tell_resumed(before: StudyResult, started: SessionStarted, console: Console) -> None:
    ended = sum(record.status.ended for record in before.trials)
    waiting = len(before.trials) - ended
    lines = [f"going on: {ended} trials have ended, {waiting} go on where they were"]
    lines += [
        f"warning: {line}; numbers may differ from those of the trials before"
        for line in version_changes(before.versions, started.versions)
    ]
    if before.fingerprint != started.fingerprint and before.trials:
        lines.append("warning: the images have changed since the last session; trials before and after do not compare")
    for line in lines:
        say(console, line)


def _write_outputs(
    spec: StudySpec, result: StudyResult, best: TrialRecord | None, study: Path, tracker: MLflowTracker
) -> Path | None:
    write_trials(result.trials, study / "trials.parquet")
    write_optuna(optuna_study(spec, result.trials), study / "optuna.db")
    if best is None:
        return None
    path = study / "best_config.yaml"
    write_text(path, best_config(result, best, mlflow_run_id=tracker.run_id(best.number)))
    return path
