"""MLflow as a projection: what it holds equals the journal, however often it is told and whatever happens to it."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from search.journal.events import (
    EpochReported,
    Event,
    SessionEnded,
    SessionStarted,
    TrialEnded,
    TrialStatus,
    TrialSuggested,
)
from search.journal.log import Journal
from search.journal.records import Epoch, TrialRecord
from search.tracking.lock import WriterLock
from search.tracking.projection import RunProjection
from search.tracking.tracker import MLflowTracker, check_reachable, default_uri, tracked_study
from search.tracking.uri import PASSWORD, USERNAME, connect, reason, redacted
from search.tracking.values import parameters, summary
from tests.search.mlflow_contents import Server, contents, runs_of
from tests.search.sample_study import ENDINGS, EPOCHS, START, metrics, sample_events, sample_spec
from trainables.config import ConfigError, load_config, parse_config
from trainables.result import METRICS

SPEC = sample_spec()
EVENTS = sample_events(SPEC)
SUGGESTED = {event.trial: event for event in EVENTS if isinstance(event, TrialSuggested)}


def projection(uri: str, out: Path, events: Iterable[Event], warn: Callable[[str], None] = print) -> RunProjection:
    projected = RunProjection(uri, tracked_study(SPEC), out / "mlartifacts", warn)
    for event in events:
        projected.take(event)
    return projected


def track(uri: str, out: Path, events: Iterable[Event]) -> None:
    projection(uri, out, events).write()


def test_every_trial_is_a_run_under_the_search(store: str, tmp_path: Path) -> None:
    track(store, tmp_path, EVENTS)
    parent, children = runs_of(store)
    assert sorted(children) == list(range(len(ENDINGS)))
    assert (parent.info.run_name, parent.info.status) == ("sample", "FINISHED")
    assert parent.data.tags["resnet_search.git"] == "abc123"
    assert parent.data.tags["resnet_search.fingerprint"] == "f00d"
    assert parent.data.tags["version.torch"] == "2.14.1"
    assert parent.data.params["objective.metric"] == "val_accuracy"
    assert parent.data.tags["best_trial"] == "4"
    assert parent.data.tags["best_run_id"] == children[4].info.run_id
    assert parent.data.metrics["best_objective"] == metrics(4, EPOCHS)["val_accuracy"]
    assert children[0].info.run_name == "0000 recipe:naive"
    assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in children.values())
    assert (children[1].info.start_time, children[1].info.end_time) == (int((START + 1) * 1e3), int((START + 2) * 1e3))


def test_endings_are_told_apart(store: str, tmp_path: Path) -> None:
    track(store, tmp_path, EVENTS)
    _, children = runs_of(store)
    told = [
        (run.info.status, run.data.tags["trial_state"], run.data.tags.get("stop_reason"))
        for _, run in sorted(children.items())
    ]
    assert told[:4] == [
        ("FINISHED", "COMPLETED", "epochs"), ("KILLED", "STOPPED", "rung 2"), ("FAILED", "DIVERGED", "diverged"),
        ("FAILED", "FAILED", None),
    ]  # fmt: skip
    assert children[3].data.tags["error"] == "RuntimeError: boom"


def test_parameters_metrics_and_config_are_the_trials_own(store: str, tmp_path: Path) -> None:
    track(store, tmp_path, EVENTS)
    _, children = runs_of(store)
    client, run = connect(store), children[4]
    assert run.data.params["optimizer.lr"] == "0.005"
    assert (run.data.params["optimizer.nesterov"], run.data.params["regularization.patience"]) == ("false", "null")
    for name in METRICS:
        history = client.get_metric_history(run.info.run_id, name)
        assert {m.step: m.value for m in history} == {e: metrics(4, e)[name] for e in range(1, EPOCHS + 1)}
    assert run.data.metrics["objective"] == run.data.metrics["final_val_accuracy"] == metrics(4, 4)["val_accuracy"]
    assert run.data.metrics["best_val_loss"] == min(metrics(4, e)["val_loss"] for e in range(1, EPOCHS + 1))
    assert run.data.metrics["generalization_gap"] == pytest.approx(0.1)
    assert math.isnan(children[2].data.metrics["train_loss"])
    config = Path(client.download_artifacts(run.info.run_id, "config.yaml"))
    assert load_config(config) == parse_config(SUGGESTED[4].config)


def test_a_journal_told_twice_makes_nothing_new(store: str, tmp_path: Path) -> None:
    track(store, tmp_path, EVENTS)
    once = contents(store)
    track(store, tmp_path, EVENTS)
    track(store, tmp_path, [event for event in EVENTS for _ in range(2)])
    assert contents(store) == once


@pytest.mark.parametrize("cut", [4, len(EVENTS) - 2])
def test_a_tracker_that_was_killed_is_caught_up_with(store: str, tmp_path: Path, cut: int) -> None:
    lone = tmp_path / "lone"
    lone.mkdir()
    shutil.copy(tmp_path / "mlflow.db", lone / "mlflow.db")
    track(store, tmp_path, EVENTS[:cut])
    track(store, tmp_path, EVENTS)
    track(default_uri(lone), lone, EVENTS)
    assert contents(store) == contents(default_uri(lone))


def test_a_running_trial_is_written_epoch_by_epoch(store: str, tmp_path: Path) -> None:
    projected, client = projection(store, tmp_path, EVENTS[:1]), connect(store)
    for event in EVENTS[1:5]:
        projected.take(event)
        projected.write()
        run = client.get_run(projected.run_ids[0])
        assert run.info.status == "RUNNING"
        if isinstance(event, EpochReported):
            assert run.data.metrics["val_loss"] == event.metrics["val_loss"]


def test_an_interrupted_search_leaves_nothing_running_and_goes_on(store: str, tmp_path: Path) -> None:
    first = sample_events(SPEC, (TrialStatus.COMPLETED, TrialStatus.RUNNING))
    track(store, tmp_path, first)
    parent, children = runs_of(store)
    assert (parent.info.status, children[1].info.status) == ("KILLED", "SCHEDULED")
    again: list[Event] = [
        SessionStarted(session=2, time=START + 200, versions={"torch": "3.0"}),
        EpochReported(trial=1, epoch=3, metrics=metrics(1, 3), time=START + 201),
    ]
    projected = projection(store, tmp_path, [*first, *again])
    projected.write()
    parent, children = runs_of(store)
    assert (parent.info.status, children[1].info.status) == ("RUNNING", "RUNNING")
    assert parent.data.tags["version.torch"] == "3.0"
    projected.take(TrialEnded(trial=1, status=TrialStatus.COMPLETED, stop_reason="epochs", time=START + 203))
    projected.take(SessionEnded(session=2, reason="finished", time=START + 204))
    projected.write()
    parent, children = runs_of(store)
    assert (parent.info.status, children[1].info.status, len(children)) == ("FINISHED", "FINISHED", 2)
    assert children[1].data.metrics["epochs"] == 3


def test_searches_of_one_name_are_kept_apart(store: str, tmp_path: Path) -> None:
    track(store, tmp_path, EVENTS)
    later = [e.model_copy(update={"time": START + 500}) if isinstance(e, SessionStarted) else e for e in EVENTS]
    track(store, tmp_path, later)
    experiment = connect(store).get_experiment_by_name("sample")
    assert experiment is not None
    assert len(connect(store).search_runs([experiment.experiment_id])) == 2 * (len(ENDINGS) + 1)


def test_the_best_config_is_kept_with_the_search(store: str, tmp_path: Path) -> None:
    (tmp_path / "best_config.yaml").write_text("config: {}\n")
    tracker = MLflowTracker(store, SPEC, tmp_path)
    for event in EVENTS:
        tracker.submit(event)
    assert tracker.run_id(0) is not None
    assert tracker.run_id(99) is None
    assert tracker.close(tmp_path / "best_config.yaml")
    parent, _ = runs_of(store)
    names = [file.path for file in connect(store).list_artifacts(parent.info.run_id)]
    assert sorted(names) == ["best_config.yaml", "study.yaml"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best_config.yaml", "mlartifacts", "mlflow.db", "sample"]


def test_an_outage_is_told_once_and_caught_up_with(store: str, tmp_path: Path) -> None:
    lines: list[str] = []
    (tmp_path / "mlartifacts").write_text("in the way")
    tracker = MLflowTracker(store, SPEC, tmp_path, warn=lines.append, interval=0.05)
    for event in EVENTS[:10]:
        tracker.submit(event)
    assert not tracker.flush()
    (tmp_path / "mlartifacts").unlink()
    for event in EVENTS[10:]:
        tracker.submit(event)
    assert tracker.close()
    assert [("is away" in line, "caught up" in line) for line in lines] == [(True, False), (False, True)]
    parent, children = runs_of(store)
    assert (parent.info.status, len(children)) == ("FINISHED", len(ENDINGS))


def test_what_did_not_arrive_is_told_in_one_line(tmp_path: Path) -> None:
    lines: list[str] = []
    tracker = MLflowTracker("http://me:secret@127.0.0.1:1", SPEC, tmp_path, warn=lines.append)
    for event in EVENTS:
        tracker.submit(event)
    assert tracker.run_id(0) is None
    assert not tracker.close(timeout=1)
    assert len(lines) == 2
    assert "6 trials are incomplete" in lines[1]
    assert not any("secret" in line for line in lines)


def test_a_trial_that_mlflow_refuses_does_not_hold_up_the_others(store: str, tmp_path: Path) -> None:
    lines: list[str] = []
    odd = [
        e.model_copy(update={"metrics": {"no such / name?": 1.0}})
        if isinstance(e, EpochReported) and e.trial == 1
        else e
        for e in EVENTS
    ]
    projected = projection(store, tmp_path, odd, lines.append)
    with pytest.raises(MlflowException, match="no such"):
        projected.write()
    for _ in range(2):
        projected.forget()
        projected.write()
    _, children = runs_of(store)
    assert sum("refuses trial 1" in line for line in lines) == 1
    assert [n for n, run in sorted(children.items()) if run.info.status == "RUNNING"] == [1]


DRIVER = """
import sys, time
from pathlib import Path
from search.journal.log import read
from search.tracking.tracker import MLflowTracker
from tests.search.sample_study import sample_spec

out = Path(sys.argv[1])
tracker = MLflowTracker(sys.argv[2], sample_spec(), out)
for event in read(out / "journal"):
    tracker.submit(event)
time.sleep(1)
print(tracker._process.pid, flush=True)
time.sleep(600)
"""


def test_what_a_killed_driver_had_told_arrives(store: str, tmp_path: Path) -> None:
    Journal(tmp_path / "journal", 1).append(*EVENTS[:-1])
    root = Path(__file__).parents[3]
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path), store], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert driver.stdout is not None
    writer = int(driver.stdout.readline())
    driver.kill()
    driver.wait()
    for _ in range(600):
        if not Path(f"/proc/{writer}").exists():
            break
        time.sleep(0.1)
    parent, children = runs_of(store)
    assert parent.info.status == "RUNNING"
    assert sorted(children) == list(range(len(ENDINGS)))
    assert all(run.info.status in ("FINISHED", "KILLED", "FAILED") for run in children.values())
    track(store, tmp_path, EVENTS)
    assert runs_of(store)[0].info.status == "FINISHED"


def test_two_do_not_write_one_study_at_once(store: str, tmp_path: Path) -> None:
    other = WriterLock(tmp_path / "sample" / "journal")
    assert other.acquire()
    tracker = MLflowTracker(store, SPEC, tmp_path, interval=0.05)
    for event in EVENTS:
        tracker.submit(event)
    assert not tracker.flush(timeout=1)
    assert connect(store).get_experiment_by_name("sample") is None
    other.release()
    assert tracker.flush()
    assert not other.acquire()
    assert tracker.close()
    assert len(runs_of(store)[1]) == len(ENDINGS)
    assert other.acquire()
    idle = MLflowTracker(store, SPEC, tmp_path)  # of a driver that is refused the study: it does not wait for a turn
    assert idle.close(timeout=20)
    other.release()


def test_the_end_of_its_process_is_told(store: str, tmp_path: Path) -> None:
    lines: list[str] = []
    tracker = MLflowTracker(store, SPEC, tmp_path, warn=lines.append)
    tracker._process.kill()
    tracker._process.wait()
    for event in EVENTS:
        tracker.submit(event)
    assert not tracker.flush()
    assert not tracker.close()
    assert ["process has ended" in line for line in lines] == [True]


def test_a_deleted_experiment_is_brought_back(store: str, tmp_path: Path) -> None:
    track(store, tmp_path, EVENTS)
    client = connect(store)
    experiment = client.get_experiment_by_name("sample")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    track(store, tmp_path, EVENTS)
    assert len(runs_of(store)[1]) == len(ENDINGS)


def test_odd_folder_names_work(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    out = tmp_path / "odd %20 name?#ü"
    out.mkdir()
    shutil.copy(empty_store, out / "mlflow.db")
    track(default_uri(out), out, EVENTS)
    assert sorted(p.name for p in out.iterdir()) == ["mlartifacts", "mlflow.db"]
    _, children = runs_of(default_uri(out))
    path = connect(default_uri(out)).download_artifacts(children[0].info.run_id, "config.yaml")
    assert load_config(Path(path)) == parse_config(SUGGESTED[0].config)


def test_submitting_is_quick_and_imports_nothing() -> None:
    code = (
        "import sys, search.tracking, search.export, search.status, search.track\n"
        "print([m for m in ('mlflow', 'torch', 'ray', 'optuna', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_a_summary_is_one_row() -> None:
    history = tuple(
        Epoch(e, {"val_accuracy": v, "val_loss": 1 - v, "train_accuracy": 0.9, "seconds": 2.0})
        for e, v in enumerate((0.5, 0.7, 0.6), 1)
    )
    row = summary(TrialRecord(0, "random", {}, {}, history=history), "val_accuracy", "max")
    assert row == pytest.approx(
        {
            "objective": 0.6, "epochs": 3, "best_val_accuracy": 0.7, "final_val_accuracy": 0.6, "best_val_loss": 0.3,
            "final_val_loss": 0.4, "generalization_gap": 0.3, "trial_seconds": 6.0,
        }
    )  # fmt: skip
    assert summary(TrialRecord(0, "random", {}, {}), "val_accuracy", "max") == {}


def test_parameters_are_flat_text() -> None:
    tree = {"a": {"b": None, "c": True, "d": 1e-5, "e": "x" * 9000}, "f": [1, 2]}
    assert parameters(tree) == {"a.b": "null", "a.c": "true", "a.d": "1e-05", "a.e": "x" * 6000, "f": "[1, 2]"}


def test_the_default_is_a_file_in_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert default_uri(Path("runs")) == f"sqlite:///{tmp_path}/runs/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there")
    assert default_uri(Path("runs")) == "http://there"


def test_a_new_file_is_not_made_by_asking(tmp_path: Path) -> None:
    check_reachable(default_uri(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("./mlruns", "MLflow 3 keeps no runs there"),
        ("file:///tmp/mlruns", "MLflow 3 keeps no runs there"),
        ("htp://localhost:5000", "must begin with"),
        ("http://", "must name a host"),
        ("http://[", "must be a URI"),
        ("http://localhost:99999", "must be a URI"),
        ("sqlite://", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("sqlite:///{tmp}/text.db", "must be an SQLite file"),
        ("sqlite:///{tmp}/text.db/mlflow.db", "must be writable"),
        ("sqlite:////proc/mlflow.db", "must be writable"),
        ("postgresql://me:secret@127.0.0.1:1/db", "needs a package|Connection refused"),
        ("http://me:secret@127.0.0.1:1", "Connection refused"),
        ("http://no-such-host.invalid", "must be a place where MLflow can keep runs"),
    ],
)
def test_a_place_that_cannot_be_used_is_told(tmp_path: Path, uri: str, says: str) -> None:
    (tmp_path / "text.db").write_text("some text that is no database")
    with pytest.raises(ConfigError, match=says) as error:
        check_reachable(uri.format(tmp=tmp_path))
    assert len(str(error.value).splitlines()) == 1
    assert "secret" not in str(error.value)


def test_a_server_that_says_nothing_is_given_up_on(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(ConfigError, match="must answer within 1 s"):
            check_reachable(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=1)


def test_a_store_of_another_version_is_told(store: str, tmp_path: Path) -> None:
    import sqlite3

    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'from_the_future'")
    database.close()
    with pytest.raises(ConfigError, match="out-of-date database schema"):
        check_reachable(store)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://me:secret@host:5000/x", "https://host:5000/x"),
        ("http://me:secret@[", "http://["),
        ("http://me:a/secret@host:5000", "http://host:5000"),
        ("http://me:a#secret@host", "http://host"),
        ("http://me:a secret@b?c@host", "http://host"),
        ("postgresql://me:secret@host/runs?sslmode=require", "postgresql://host/runs"),
        ("postgresql://host/runs?user=me&password=secret", "postgresql://host/runs"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
    ],
)
def test_credentials_are_not_shown(uri: str, shown: str) -> None:
    assert redacted(uri) == shown


@pytest.mark.parametrize("uri", ["http://me:a/secret@127.0.0.1:1", "http://me:a#secret@127.0.0.1:1", "http://secret@["])
def test_credentials_that_are_not_encoded_are_told_without_showing_them(uri: str) -> None:
    with pytest.raises(ConfigError, match="percent-encoded") as error:
        check_reachable(uri)
    assert "secret" not in str(error.value)


def test_credentials_in_a_uri_go_to_mlflows_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (USERNAME, PASSWORD):
        monkeypatch.setenv(variable, "another")
    assert connect("http://me:a%2Fsecret@127.0.0.1:1/x").tracking_uri == "http://127.0.0.1:1/x"
    assert (os.environ[USERNAME], os.environ[PASSWORD]) == ("me", "a/secret")
    connect("http://127.0.0.1:1")
    connect("http://you@127.0.0.1:1")
    assert (os.environ[USERNAME], os.environ[PASSWORD]) == ("you", "a/secret")


def test_credentials_are_cut_out_of_errors() -> None:
    assert reason(ValueError("no 'http://me:secret@host/x', sorry")) == "no 'http://host/x', sorry"


@pytest.mark.slow  # the server takes ten seconds to start, and it is started twice
def test_a_server_gone_in_the_middle_is_caught_up_with(server: Server, tmp_path: Path, store: str) -> None:
    lines: list[str] = []
    server.start()
    check_reachable(server.uri)
    tracker = MLflowTracker(server.uri, SPEC, tmp_path, warn=lines.append, interval=0.05)
    for event in EVENTS[:8]:
        tracker.submit(event)
    assert tracker.flush()
    server.stop()
    for event in EVENTS[8:]:
        tracker.submit(event)
    assert not tracker.flush()
    with pytest.raises(ConfigError, match="Connection refused"):
        check_reachable(server.uri)
    server.start()
    assert tracker.close()
    assert ["is away" in lines[0], "caught up" in lines[1], len(lines)] == [True, True, 2]
    track(store, tmp_path, EVENTS)
    assert json.dumps(contents(server.uri), sort_keys=True) == json.dumps(contents(store), sort_keys=True)
    track(server.uri, tmp_path, EVENTS)
    assert len(runs_of(server.uri)[1]) == len(ENDINGS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mlartifacts", "mlflow.db", "sample"]
