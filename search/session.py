"""One session of a study: journal, driver, tracking, Ray, and at the end the files a user takes away."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from search.driver import StudyDriver
from search.journal import Journal, SessionEnded, SessionStarted, lock, next_session
from search.outputs import best_config, write_optuna, write_text, write_trials
from search.progress import Progress
from search.provenance import git_commit, versions
from search.results import StudyResult, TrialRecord, fold
from search.schedulers import build_scheduler
from search.searchers import build_searcher
from search.study import StudySpec
from search.tpe import optuna_study
from search.tracking import MLflowTracker
from trainables.config import ConfigError

__all__ = ["SessionOutcome", "run_session"]


@dataclass(frozen=True)
class SessionOutcome:
    """What a session left: the result, whether it is complete, and where the best config is (if there is one)."""

    result: StudyResult
    finished: bool
    best: TrialRecord | None
    best_path: Path | None


def run_session(
    spec: StudySpec,
    out: Path,
    run_trials: Callable[[StudyDriver, Path, int], bool],
    *,
    fingerprint: str | None,
    tracker: MLflowTracker,
    console: Console,
) -> SessionOutcome:
    """Search until the budget is used up or an interrupt comes, then write every output.

    Args:
        spec: the resolved study.
        out: absolute; the study's folder is `out/<study>`.
        run_trials: runs the driver's trials in the study's folder under a session number; false if interrupted.
        fingerprint: that of the prepared images, None without images.
        tracker: told every event, and closed at the end.
        console: for progress and messages.

    Raises:
        ConfigError: if another driver holds or held the study, or its folder cannot be written.
    """
    study = out / spec.study
    with lock(study / "journal"):
        session = next_session(study / "journal")
        if session != 1:  # since it was checked, another driver came and went
            raise ConfigError.single("--out", str(study), "must not hold this study yet; --fresh starts a new one")
        write_text(study / "study.yaml", spec.dump())
        journal = Journal(study / "journal", session)
        started = SessionStarted(
            session=session, time=time.time(), versions=versions(), git=git_commit(), fingerprint=fingerprint
        )
        journal.append(started)
        tracker.submit(started)
        records: dict[int, TrialRecord] = {}
        progress = Progress(spec, records, console)
        driver = StudyDriver(
            spec, journal, build_searcher(spec), build_scheduler(spec), records, (tracker.submit, progress)
        )
        finished = False
        try:
            with progress:
                finished = run_trials(driver, study, session)
        finally:
            reason = "finished" if finished else "interrupted"
            ended = SessionEnded(session=session, reason=reason, time=time.time())
            journal.append(ended)
            journal.close()
            fold(records, ended)
            tracker.submit(ended)
            trials = [records[number] for number in sorted(records)]
            result = StudyResult(spec, trials, started.versions, started.git, started.fingerprint)
            best, best_path = _write_outputs(spec, result, study, tracker)
            tracker.close(best_path)
    return SessionOutcome(result, finished, best, best_path)


def _write_outputs(
    spec: StudySpec, result: StudyResult, study: Path, tracker: MLflowTracker
) -> tuple[TrialRecord | None, Path | None]:
    write_trials(result.trials, study / "trials.parquet")
    write_optuna(optuna_study(spec, result.trials), study / "optuna.db")
    best = result.best()
    if best is None:
        return None, None
    path = study / "best_config.yaml"
    write_text(path, best_config(result, best, mlflow_run_id=tracker.run_id(best.number)))
    return best, path
