"""deploy/mlflow-server.sh: it lets in only whom it knows, and credentials in a URI work without being anywhere else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.search.sample_study import sample_events, sample_spec, write_study

SCRIPT = Path(__file__).parents[1] / "deploy" / "mlflow-server.sh"
BOSS, ANN = "the-administrators-one", "ann's/%:?#one"


def environment(folder: Path, **variables: str) -> dict[str, str]:
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return plain | {"PATH": programs, "MLFLOW_SERVER_FOLDER": str(folder)} | variables


@pytest.mark.parametrize(
    ("username", "password", "says"),
    [
        ("", "long-enough-secret", "MLFLOW_TRACKING_USERNAME must be the administrator's name"),
        ("a:b", "long-enough-secret", "without a colon"),
        ("admin", "", "must be the administrator's password"),
        ("admin", "password1234", "must not be MLflow's default"),
        ("admin", "secret", "at least 12 characters"),
    ],
)
def test_no_server_without_a_password_of_its_own(tmp_path: Path, username: str, password: str, says: str) -> None:
    variables = {"MLFLOW_TRACKING_USERNAME": username, "MLFLOW_TRACKING_PASSWORD": password}
    done = subprocess.run(
        [SCRIPT], env=environment(tmp_path / "server", **variables), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A server's address, when it lets its administrator in."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = environment(tmp_path / "server", MLFLOW_TRACKING_USERNAME="boss", MLFLOW_TRACKING_PASSWORD=BOSS)
    with (tmp_path / "server.txt").open("wb") as output:
        process = subprocess.Popen(
            [SCRIPT, "--port", str(port)], env=variables, stdout=output, stderr=output, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 180
        while ask(f"http://127.0.0.1:{port}", "users/current", BOSS) != 200:
            assert process.poll() is None, (tmp_path / "server.txt").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGINT)
        process.wait(60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ask(uri: str, path: str, password: str, body: object = None) -> int:
    """The status that `boss` gets with a password; 0 while nobody answers."""
    headers = {"Authorization": f"Basic {b64encode(f'boss:{password}'.encode()).decode()}"}
    data = None if body is None else json.dumps(body).encode()
    headers |= {"Content-Type": "application/json"}
    connection = HTTPConnection(uri.removeprefix("http://"), timeout=30)
    try:
        connection.request("GET" if data is None else "POST", f"/api/2.0/mlflow/{path}", data, headers)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


@pytest.mark.slow
def test_only_who_is_known_gets_in_and_no_password_is_written_anywhere(tmp_path: Path, server: str) -> None:
    assert ask(server, "users/current", "password1234") == 401
    assert ask(server, "users/create", BOSS, {"username": "ann", "password": ANN}) == 200
    spec = sample_spec()
    write_study(tmp_path / "runs" / "sample", spec, sample_events(spec))
    inside = server.replace("://", f"://ann:{quote(ANN, safe='')}@")
    for uri, more, says in (
        (server, {}, "does not accept this user and password: set or correct MLFLOW_TRACKING_USERNAME and"),
        (server.replace("://", "://ann:wrong@"), {}, "does not accept this user and password"),
        (inside, {}, "holds 6 trials as the journal does, all written now"),
        (server.replace("://", "://ann@"), {"MLFLOW_TRACKING_PASSWORD": ANN}, "0 of them written now"),
        (server, {"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": ANN}, "0 of them written now"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "search.track", "sample"], cwd=tmp_path, capture_output=True, text=True, check=False,
            env=environment(tmp_path, MLFLOW_TRACKING_URI=uri, COLUMNS="400", **more),
        )  # fmt: skip
        assert says in done.stdout + done.stderr, done.stdout + done.stderr
        assert done.returncode == (0 if "holds" in says or "0 of" in says else 2)
        assert not any(secret in done.stdout + done.stderr for secret in (ANN, quote(ANN, safe=""), "wrong@"))
    assert f"open {server}/#/experiments/" in done.stdout
    shutil.rmtree(tmp_path / "runs" / "sample" / "journal")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"users.db", "mlflow.db", "auth.ini", "config.yaml"} <= {path.name for path in files}
    for password in (ANN, quote(ANN, safe=""), BOSS):
        assert not [path for path in files if password.encode() in path.read_bytes()]
