"""Where MLflow keeps runs: checked before a search starts, and named without its password."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import threading
from pathlib import Path

import pytest

from search.tracking.uri import (
    SWITCHES,
    check_reachable,
    connect,
    default_uri,
    experiment_page,
    mlflow_settings,
    reason,
    redacted,
)
from trainables.config import ConfigError


def test_the_default_is_a_file_in_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert default_uri(Path("runs")) == f"sqlite:///{tmp_path}/runs/mlflow.db"
    check_reachable(default_uri(tmp_path))
    assert list(tmp_path.iterdir()) == []  # asking makes no file
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there")
    assert default_uri(Path("runs")) == "http://there"


def test_odd_folder_names_work(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    out = tmp_path / "odd %20 name?#ü"
    out.mkdir()
    shutil.copy(empty_store, out / "mlflow.db")
    client = connect(default_uri(out))
    client.create_experiment("sample")
    with sqlite3.connect(out / "mlflow.db") as database:
        assert ("sample",) in database.execute("SELECT name FROM experiments").fetchall()
    assert [p.name for p in out.iterdir()] == ["mlflow.db"]


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("./mlruns", "MLflow 3 keeps no runs there"),
        ("file:///tmp/mlruns", "MLflow 3 keeps no runs there"),
        ("htp://localhost:5000", "must begin with"),
        ("http://", "must name a host"),
        ("http://localhost:99999", "must be a URI"),
        ("sqlite:///:memory:", "must name a file"),
        ("sqlite:///{tmp}/text.db", "must be an SQLite file"),
        ("sqlite:///{tmp}/text.db/mlflow.db", "must be writable"),
        ("postgresql://me:secret@127.0.0.1:1/db", "needs a package|Connection refused"),
        ("http://me:secret@127.0.0.1:1", "Connection refused"),
        ("http://no-such-host.invalid", "must be a place where MLflow can keep runs"),
        ("http://me:a/secret@127.0.0.1:1", "percent-encoded"),
        ("http://me:a#secret@127.0.0.1:1", "percent-encoded"),
        ("http://secret@[", "percent-encoded"),
    ],
)
def test_a_place_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path, uri: str, says: str) -> None:
    (tmp_path / "text.db").write_text("some text that is no database")
    before = dict(os.environ)
    with pytest.raises(ConfigError, match=says) as error:
        check_reachable(uri.format(tmp=tmp_path))
    assert len(str(error.value).splitlines()) == 1
    assert "secret" not in str(error.value)
    assert dict(os.environ) == before


def test_a_server_that_does_not_answer_is_given_up_on() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(ConfigError, match="must answer within 1 s"):
            check_reachable(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE alembic_version SET version_num = 'from_the_future'", "a newer MLflow than .* made it"),
        (
            "UPDATE alembic_version SET version_num = '451aebb31d03'",
            "older MLflow made it: back it up, then `mlflow db",
        ),
        ("DROP TABLE alembic_version", "it is half made, .*: move it away, then `search.track STUDY`"),
    ],
)
def test_a_store_of_another_version_or_half_made_is_refused(store: str, tmp_path: Path, change: str, says: str) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute(change)
    database.close()
    with pytest.raises(ConfigError, match=f"^MLflow: .*{says}.*/mlflow.db'$"):
        check_reachable(store)


def test_a_store_whose_making_was_interrupted_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("CREATE TABLE evaluation_datasets (dataset_id VARCHAR(36))")
    database.close()
    with pytest.raises(ConfigError, match="it is half made"):
        check_reachable(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "intranet")
    with mlflow_settings:
        assert os.environ["no_proxy"] == "intranet,localhost,127.0.0.1,::1"
    assert os.environ["no_proxy"] == "intranet"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://me:secret@host:5000/x", "https://host:5000/x"),
        ("http://me:a/secret@host:5000", "http://host:5000"),
        ("http://me:a secret@b?c@host", "http://host"),
        ("postgresql://me:secret@host/runs?sslmode=require", "postgresql://host/runs"),
        ("postgresql://host/runs?user=me&password=secret", "postgresql://host/runs"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
    ],
)
def test_credentials_are_not_shown(uri: str, shown: str) -> None:
    assert redacted(uri) == shown


def test_credentials_are_cut_out_of_errors_and_pages() -> None:
    assert reason(ValueError("no 'http://me:secret@host/x', sorry")) == "no 'http://host/x', sorry"
    page = experiment_page("https://me:secret@host/mlflow/", "7")
    assert (
        page == "https://host/mlflow/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=resnet_search"
    )


def test_switches_are_set_within_and_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    monkeypatch.setenv("DO_NOT_TRACK", "0")
    before = dict(os.environ)
    left = threading.Event()

    def another() -> None:  # ends after the first
        with mlflow_settings:
            left.wait()

    with mlflow_settings, mlflow_settings:
        assert os.environ.items() >= {**SWITCHES, "MLFLOW_HTTP_REQUEST_TIMEOUT": "7"}.items()
        thread = threading.Thread(target=another)
        thread.start()
    left.set()
    thread.join()
    assert dict(os.environ) == before
