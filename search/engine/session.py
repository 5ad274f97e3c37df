"""One session of a study: the driver between its first and last entry in the journal, and the files it leaves."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from search.algorithms.optuna_export import optuna_study
from search.algorithms.schedulers.base import Scheduler
from search.algorithms.searchers.base import Searcher
from search.engine.comparing import Comparer
from search.engine.driver import StudyDriver
from search.engine.listeners import Listener
from search.journal.error_text import first_line
from search.journal.events import Event, SessionEnded, SessionStarted
from search.journal.log import Journal, next_session
from search.journal.provenance import git_commit, version_changes, versions
from search.journal.result import StudyResult
from search.journal.state import StudyState, identity_checksum
from search.storage.mirror import Mirror
from search.study.spec import StudySpec
from search.tracking.tracker import ATTACHED, MLflowTracker
from search.views.output_files import best_config, write_optuna, write_trials
from search.views.refit import chosen_trial
from search.views.report.page import REPORT, write_report
from trainables.config import ConfigError
from trainables.files import write_text

__all__ = ["conclude", "open_session", "resumption", "session_start"]


@contextmanager
def open_session(
    spec: StudySpec, folder: Path, past: Sequence[Event], searcher: Searcher, scheduler: Scheduler, state: StudyState,
    listeners: Sequence[Listener], started: SessionStarted, comparer: Comparer | None = None, searching: bool = True,
) -> Iterator[StudyDriver]:  # fmt: skip
    """The driver of a study, where its journal ends; on exit the journal says how the session ended.

    Args:
        spec: the study, with everything decided that it left to the machine.
        folder: the study's; its lock is held by the caller.
        past: every event of the journal.
        searcher, scheduler: fresh; they are replayed the past.
        state: empty; the driver fills it, and listeners may read it.
        listeners: called with every event after it is on disk.
        started: the event that begins the session.
        comparer, searching: see `StudyDriver`.
    """
    journal = Journal(folder / "journal", started.session)
    driver = StudyDriver(spec, journal, searcher, scheduler, state, listeners, comparer=comparer, searching=searching)
    driver.replay(past)
    driver.record(started)
    try:
        yield driver
    finally:
        finished = "finished" if searching or comparer is None else f"{comparer.kind} finished"
        reason = finished if driver.finished else driver.trouble or "interrupted"
        try:
            driver.record(SessionEnded(session=started.session, reason=reason, time=time.time()))
        except OSError as error:  # the next session takes this one for killed, which loses nothing
            driver.interrupt(f"the journal in {folder} cannot be written ({error.strerror})")
        journal.close()


def session_start(
    spec: StudySpec, folder: Path, fingerprint: str | None, images: tuple[str, ...] = (), weights: tuple[str, ...] = ()
) -> SessionStarted:
    """The event that begins the next session of the study in `folder`, with what it runs on."""
    return SessionStarted(
        session=next_session(folder / "journal"), time=time.time(), versions=versions(), git=git_commit(),
        fingerprint=fingerprint, images=images, weights=weights, identity=identity_checksum(spec),
    )  # fmt: skip


def resumption(before: StudyResult, started: SessionStarted, searching: bool = True) -> Iterator[str]:
    """Lines for the user when a study is continued: how its search stands, if it goes on; what has changed since."""
    ended = sum(record.status.ended for record in before.trials)
    if searching:
        left = len(before.trials) - ended
        going = "1 resumes where it was" if left == 1 else f"{left} resume where they were"
        yield f"continuing: {ended} trial{' has' if ended == 1 else 's have'} ended{f', {going}' if left else ''}"
    for line in version_changes(before.versions, started.versions):
        yield f"warning: {line}; numbers may differ from those of the trials before"
    if before.fingerprint != started.fingerprint and before.trials:
        yield "warning: the images have changed since the last session; trials before and after do not compare"


def conclude(result: StudyResult, tracker: MLflowTracker, mirror: Mirror | None) -> StudyResult:
    """Write what a study leaves beside its journal, here, to MLflow and to its storage; the result says what failed."""
    trouble, best = result.trouble, result.best()
    if mirror is not None and not mirror.flush():  # MLflow only gets what the storage has
        trouble = trouble or mirror.trouble or f"{mirror.study.location} lacks the end of the search"
    attachments: list[Path] = []
    try:
        attachments = _write_outputs(result, tracker)
    except ConfigError as error:  # the journal has everything; the same command writes them when there is room
        trouble = trouble or f"the search's files cannot be written ({error})"
    tracker.close(attachments)
    if mirror is not None and mirror.trouble is None:
        try:
            mirror.copy_outputs()
            if best is not None and best.checkpoint:
                mirror.fetch_checkpoint(best.checkpoint)
        except OSError as error:
            trouble = trouble or f"{mirror.study.location} does not take the search's files ({first_line(error)})"
    return replace(result, finished=result.finished and trouble is None, trouble=trouble)


def _write_outputs(result: StudyResult, tracker: MLflowTracker) -> list[Path]:
    """Write the files of the study's folder; those that MLflow keeps are returned."""
    folder = result.folder
    if folder is None:
        raise ValueError("a study that is not on disk has no files")
    write_trials(result.trials, folder / "trials.parquet")
    write_optuna(optuna_study(result.spec, result.trials), folder / "optuna_journal.log")
    if (found := chosen_trial(result)) is not None:
        record, chosen, refit = found
        path, run_id = folder / "best_config.yaml", tracker.run_id(record.number)
        write_text(path, best_config(result, record, chosen=chosen, refit=refit, mlflow_run_id=run_id))
    write_report([result], folder / REPORT, thorough=False)  # in a second, since somebody waits for the end
    return [path for name in ATTACHED if (path := folder / name).exists()]
