from __future__ import annotations

import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from mlflow.tracking import MlflowClient
from rich.console import Console

from search.engine.driver import StudyDriver
from search.engine.session import SessionOutcome, run_session
from search.journal.events import SessionEnded
from search.journal.log import read
from search.journal.records import TrialStatus
from search.journal.result import collect
from search.study.overrides import override
from search.study.parse import load_study
from search.study.spec import StudySpec
from search.tracking.tracker import MLflowTracker
from trainables.config import ConfigError

METRICS = {"val_accuracy": 0.5, "train_loss": 1.0}


def session(tmp_path: Path, spec: StudySpec) -> SessionOutcome:
    """A session that is interrupted when its last trial has been suggested and the first one has ended."""

    def run_trials(driver: StudyDriver, folder: Path, number: int) -> str | None:
        for _ in range(3):
            driver.next_leg()
        driver.on_result(0, 1, METRICS)
        driver.on_result(0, 2, METRICS, last=True, stop_reason="epochs")
        return None

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    console = Console(file=io.StringIO())
    tracker = MLflowTracker(uri, spec, tmp_path)
    return run_session(spec, tmp_path, run_trials, fingerprint=None, tracker=tracker, console=console)


def test_an_interrupt_after_the_last_suggestion_is_reported_as_one(tmp_path: Path) -> None:
    spec = override(load_study("synthetic"), trials=3, epochs=4)
    outcome = session(tmp_path, spec)
    assert not outcome.finished
    folder = tmp_path / "synthetic"
    events = list(read(folder / "journal"))
    assert isinstance(events[-1], SessionEnded)
    assert events[-1].reason == "interrupted"
    # Every view of the journal says the same.
    states = [TrialStatus.COMPLETED, TrialStatus.PENDING, TrialStatus.PENDING]
    assert [record.status for record in outcome.result.trials] == states
    assert [record.status for record in collect(spec, events).trials] == states
    table = pq.read_table(folder / "trials.parquet").to_pydict()
    assert set(zip(table["trial_id"], table["status"], strict=True)) == set(enumerate(map(str, states)))
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("synthetic")
    assert experiment is not None
    assert "RUNNING" not in {run.info.status for run in client.search_runs([experiment.experiment_id])}


def test_a_study_that_differs_is_not_continued(tmp_path: Path) -> None:
    spec = override(load_study("synthetic"), trials=3, epochs=4)
    session(tmp_path, spec)
    before = [path.read_bytes() for path in sorted((tmp_path / "synthetic" / "journal").glob("*.jsonl"))]
    with pytest.raises(ConfigError, match=r"seed: 0 -> 7.*--fresh"):
        session(tmp_path, override(spec, seed=7))
    edited = tmp_path / "synthetic" / "study.yaml"
    edited.write_text(edited.read_text().replace("\nseed: 0\n", "\nseed: 7\n"))
    with pytest.raises(ConfigError, match=r"study.yaml: was edited after its search started.*--fresh"):
        session(tmp_path, override(spec, seed=7))
    assert [path.read_bytes() for path in sorted((tmp_path / "synthetic" / "journal").glob("*.jsonl"))] == before
