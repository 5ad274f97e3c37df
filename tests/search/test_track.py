"""`search.track`: any MLflow brought up to date from a journal holds what the search's own would."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from search.journal.events import EpochReported, Event
from search.journal.locks import lock
from search.track import track, track_study
from search.tracking.projection import RunProjection
from search.tracking.tracker import MLflowTracker, writer_lock
from search.tracking.uri import connect
from tests.conftest import Typed
from tests.search import killed_search
from tests.search.mlflow_contents import contents, runs_of
from tests.search.sample_study import sample_events, sample_spec, troubled_events, write_study
from trainables.config import ConfigError

SPEC = sample_spec(trials=5)
EVENTS = troubled_events(SPEC)


def tracked(folder: Path, uri: str) -> RunProjection:
    return track_study(folder, uri, "--tracking-uri", Console(file=io.StringIO()))[1]


def as_searched(uri: str, out: Path, events: Sequence[Event], attachments: Sequence[Path] = ()) -> dict[str, object]:
    """What a search itself writes to MLflow."""
    tracker = MLflowTracker(uri, SPEC, out)
    for event in events:
        tracker(event)
    assert tracker.close(attachments)
    return contents(uri)


@pytest.fixture
def other(tmp_path: Path, empty_store: Path) -> str:
    (tmp_path / "other").mkdir()
    shutil.copy(empty_store, tmp_path / "other" / "mlflow.db")
    return f"sqlite:///{tmp_path}/other/mlflow.db"


def test_the_verb_writes_what_the_search_would_have_and_twice_is_once(
    typed: Typed, store: str, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_study(tmp_path / "runs" / "sample", SPEC, EVENTS)
    (folder / "best_config.yaml").write_text("config: {}\n")
    searched = as_searched(store, tmp_path, EVENTS, [folder / "best_config.yaml"])
    done = typed(track, "sample", "--tracking-uri", other)
    assert (done.returncode, done.stderr) == (0, "")
    assert "holds 5 trials as the journal does, all written now" in done.stdout
    opened = done.stdout.splitlines()[1]
    assert opened.startswith("compare the trials: MLFLOW_TRACKING_URI=sqlite:///other/mlflow.db ")
    assert opened.endswith("python -m search.ui sample")
    assert contents(other) == searched
    runs = {run.info.run_id for run in runs_of(other)[1].values()}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
    done = typed(track, "sample")
    assert "holds 5 trials as the journal does, 0 of them written now" in done.stdout
    assert contents(other) == searched
    assert {run.info.run_id for run in runs_of(other)[1].values()} == runs
    parent, _ = runs_of(other)
    attached = connect(other).download_artifacts(parent.info.run_id, "best_config.yaml")
    assert Path(attached).read_text() == "config: {}\n"


@pytest.mark.parametrize("cut", [26, len(EVENTS) - 1])
def test_a_killed_study_is_shown_as_interrupted_and_continues(store: str, other: str, tmp_path: Path, cut: int) -> None:
    folder = write_study(tmp_path / "sample", SPEC, EVENTS[:cut])
    before = [path.read_bytes() for path in sorted((folder / "journal").glob("*.jsonl"))]
    tracked(folder, store)
    parent, children = runs_of(store)
    finished = cut == len(EVENTS) - 1
    assert parent.info.status == ("FINISHED" if finished else "KILLED")
    assert not [run for run in children.values() if run.info.status == "RUNNING"]
    assert finished == all(run.info.status != "SCHEDULED" for run in children.values())
    assert [path.read_bytes() for path in sorted((folder / "journal").glob("*.jsonl"))] == before
    for uri in (store, other):  # the search continues to its end, in the store that was tracked and in a new one
        projected = RunProjection(uri, SPEC, tmp_path / "mlartifacts", pytest.fail)
        for event in EVENTS:
            projected.take(event)
        projected.write()
    assert contents(store) == contents(other)


def test_a_study_that_is_searched_now_is_refused(typed: Typed, store: str, tmp_path: Path) -> None:
    folder = write_study(tmp_path / "runs" / "sample", SPEC, EVENTS[:4])
    with lock(folder / "journal"):
        done = typed(track, "sample", "--tracking-uri", store)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "wait for its end, or stop it, got 'sample'" in done.stderr
    assert f"process {os.getpid()}" in done.stderr
    assert connect(store).get_experiment_by_name("sample") is None


def test_another_writer_is_refused(store: str, tmp_path: Path) -> None:
    folder = write_study(tmp_path / "sample", SPEC, EVENTS)
    with writer_lock(folder), pytest.raises(ConfigError, match="by another process meanwhile"):
        tracked(folder, store)
    tracked(folder, store)
    assert len(runs_of(store)[1]) == 5


def test_an_unreachable_server_is_reported_in_a_line(typed: Typed, tmp_path: Path) -> None:
    write_study(tmp_path / "runs" / "sample", SPEC, EVENTS)
    done = typed(track, "sample", "--tracking-uri", "http://127.0.0.1:1")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "Connection refused); correct --tracking-uri, or start that server, got 'http://127.0.0.1:1'" in done.stderr


def test_a_store_that_goes_away_is_reported(store: str, tmp_path: Path) -> None:
    folder = write_study(tmp_path / "sample", SPEC, EVENTS)
    (tmp_path / "mlartifacts").write_text("in the way")
    with pytest.raises(ConfigError, match="5 trials are missing there, and the same command continues"):
        tracked(folder, store)
    (tmp_path / "mlartifacts").unlink()
    tracked(folder, store)
    assert len(runs_of(store)[1]) == 5


def test_what_mlflow_refuses_is_reported_and_the_rest_written(typed: Typed, store: str, tmp_path: Path) -> None:
    odd = [
        e.model_copy(update={"metrics": {**e.metrics, "no such / name?": 1.0}})
        if isinstance(e, EpochReported) and e.trial == 1
        else e
        for e in sample_events(SPEC)
    ]
    write_study(tmp_path / "runs" / "sample", SPEC, odd)
    done = typed(track, "sample", "--tracking-uri", store)
    assert done.returncode == 1
    assert "MLflow refuses trial 1" in done.stdout
    assert "holds 5 trials as the journal does" in done.stdout
    assert "it refused 1: 1" in done.stdout


@pytest.mark.slow
def test_a_real_search_while_it_runs_killed_and_ended(tmp_path: Path) -> None:
    tree = killed_search.synthetic_study("asha_promote", trials=4, epochs=3, study="sample")
    tree["trial"]["model"]["seconds_per_epoch"] = 0.5
    study, out = killed_search.written(tree, tmp_path), tmp_path / "runs"
    default, other = f"sqlite:///{out}/mlflow.db", f"sqlite:///{tmp_path}/other.db"
    driver = killed_search.begin(study, out, 6, name="sample")
    status = subprocess.run(
        [sys.executable, "-m", "search.status", "sample"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "running: session 1 for " in status.stdout
    with pytest.raises(ConfigError, match=f"process {driver.pid}"):
        tracked(out / "sample", other)
    driver.kill()
    driver.communicate()
    for uri in (default, other):
        tracked(out / "sample", uri)
        parent, children = runs_of(uri)
        assert (parent.info.status, len(children)) == ("KILLED", len(killed_search.result(out, "sample").trials))
        assert not [run for run in children.values() if run.info.status == "RUNNING"]
    assert contents(default) == contents(other)

    killed_search.run(out / "sample" / "study.yaml", out)
    tracked(out / "sample", other)
    assert contents(other) == contents(default)
    assert len(runs_of(other)[1]) == 4
