"""MLflow for a team: it lets in whom it knows, searches run with it, and the passwords are nowhere to be found."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from search.mlflow_server import mlflow_server
from tests.search.killed_search import synthetic_study
from trainables.config import ConfigError

ADMINISTRATOR = "boss"
NAME = "mlflow.example.org"
TIMEOUT = 240


@pytest.mark.parametrize(
    ("username", "password", "says"),
    [
        (None, "long-enough-secret", "MLFLOW_TRACKING_USERNAME: must be the administrator's name"),
        ("a:b", "long-enough-secret", "MLFLOW_TRACKING_USERNAME: .* without a colon"),
        ("boss", None, "MLFLOW_TRACKING_PASSWORD: .*import secrets"),
        ("boss", "secret", "at least 12 characters.*import secrets"),
    ],
)
def test_no_server_without_an_administrator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, username: str | None, password: str | None, says: str
) -> None:
    for variable, value in (("MLFLOW_TRACKING_USERNAME", username), ("MLFLOW_TRACKING_PASSWORD", password)):
        monkeypatch.delenv(variable, raising=False)
        if value is not None:
            monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=says) as error:
        mlflow_server(folder=tmp_path / "server")
    assert "got 'secret'" not in str(error.value)
    assert "long-enough" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADMINISTRATOR)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", secrets.token_urlsafe())


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("http://me:secret@127.0.0.1:1", "must be a database"),
        ("postgresql://me:secret@127.0.0.1:1/runs?password=secret", "needs a package|Connection refused"),
        ("mongodb://me:secret@127.0.0.1", "must begin with"),
    ],
)
@pytest.mark.usefixtures("credentials")
def test_a_database_that_is_none_is_told_without_its_password(tmp_path: Path, uri: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        mlflow_server(port=free_port(), folder=tmp_path, backend_store_uri=uri)
    assert "--backend-store-uri" in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.usefixtures("credentials")
def test_a_place_that_cannot_be_had_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--folder: must be writable"):
        mlflow_server(port=free_port(), folder=tmp_path / "file")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"must be an address of this machine, and free.*127.0.0.1:{port}"):
            mlflow_server(port=port, folder=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def heed_interrupts() -> None:
    """As in a terminal: what a shell has put into the background, as it may have these tests, ignores SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Team:
    """A server, those who use it, and all that they write: below one folder, whose path is short enough for Ray."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        # With what must be encoded in a URI.
        self.passwords = {name: f"{secrets.token_urlsafe()}/%:?#" for name in (ADMINISTRATOR, "ann")}
        self.seen: set[bytes] = set()
        self._started = 0
        for name in ("home", "tmp", "ray", "said"):
            (folder / name).mkdir()
        tree = synthetic_study("asha", trials=4, epochs=3, study="shared")
        (folder / "study.yaml").write_text(yaml.safe_dump(tree))

    def start(self, *arguments: str, **environment: str) -> tuple[subprocess.Popen[bytes], Path]:
        """Start a module; also returns the file of what it says."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING_")}
        places = {"HOME": "home", "TMPDIR": "tmp", "RAY_TMPDIR": "ray", "RESNET_SEARCH_CACHE": "cache"}
        kept |= {name: str(self.folder / value) for name, value in places.items()} | {"COLUMNS": "400"}
        self._started += 1
        said = self.folder / "said" / f"{self._started}.txt"
        with said.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments], env=kept | environment, cwd=self.folder, stdout=output,
                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, preexec_fn=heed_interrupts,
            )  # fmt: skip
        return process, said

    def run(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Run a module to its end; its exit code and what it said. All command lines meanwhile are kept."""
        process, said = self.start(*arguments, **environment)
        try:
            ends = time.monotonic() + TIMEOUT
            while process.poll() is None and time.monotonic() < ends:
                self.seen |= set(command_lines())
                time.sleep(0.1)
        finally:
            process.kill()
        return process.wait(), said.read_text()

    def search(self, **environment: str) -> tuple[int, str]:
        return self.run("search.run", "study.yaml", "--fresh", **environment)

    def serve(self, password: str) -> tuple[subprocess.Popen[bytes], Path]:
        """Start the server; returns when it is up, or has ended."""
        process, said = self.start(
            "search.mlflow_server", "--port", str(self.port), "--folder", "server", "--allowed-hosts", NAME,
            **variables(ADMINISTRATOR, password),
        )  # fmt: skip
        ends = time.monotonic() + TIMEOUT
        while process.poll() is None and "Ctrl-C ends it" not in said.read_text() and time.monotonic() < ends:
            time.sleep(0.1)
        self.seen |= set(command_lines())
        return process, said

    def ask(self, path: str, told: object, **headers: str) -> int:
        """The status that the administrator gets."""
        headers["Authorization"] = f"Basic {basic(ADMINISTRATOR, self.passwords[ADMINISTRATOR])}"
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST", path, json.dumps(told), headers | {"Content-Type": "application/json"})
        status = connection.getresponse().status
        connection.close()
        return status

    def secrets(self) -> Iterator[bytes]:
        """What must be nowhere: each password, as it is, encoded for a URI, and as HTTP sends it."""
        for name, password in self.passwords.items():
            # The part before what is encoded is random already, and stands in every form but HTTP's.
            yield from (password.partition("/")[0].encode(), basic(name, password).encode())


def variables(name: str, password: str) -> dict[str, str]:
    return {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password}


def basic(name: str, password: str) -> str:
    return base64.b64encode(f"{name}:{password}".encode()).decode()


def command_lines() -> Iterator[bytes]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes()
        except OSError:  # ended meanwhile
            continue


def alive(part: Path) -> list[bytes]:
    """The command lines of living processes that name something in a folder."""
    return [line for line in command_lines() if os.fsencode(part) in line]


def holding(files: Iterable[Path], wanted: Iterable[bytes]) -> list[tuple[str, bytes]]:
    """Each file and secret that it holds; a file's name counts, too."""
    texts = tuple(wanted)
    return [(str(p), text) for p in files for text in texts if text in p.read_bytes() or text in os.fsencode(p)]


@pytest.fixture
def team() -> Iterator[Team]:
    folder = Path(tempfile.mkdtemp(prefix="team-", dir="/tmp"))
    yield Team(folder)
    shutil.rmtree(folder)


@pytest.mark.slow
def test_only_who_is_known_searches_and_no_password_is_written_anywhere(team: Team) -> None:
    server, said = team.serve(team.passwords[ADMINISTRATOR])
    try:
        assert "signup" in said.read_text()
        assert team.ask("/api/2.0/mlflow/users/create", {"username": "ann", "password": team.passwords["ann"]}) == 200
        pages_are_for_the_names_it_has(team)
        known = variables(ADMINISTRATOR, team.passwords[ADMINISTRATOR])
        refused_before_anything_started(team)

        code, text = team.search(MLFLOW_TRACKING_URI=team.uri, **known)
        assert code == 0, text
        assert "is away" not in text
        # In the experiment that somebody else began, and with credentials in the URI.
        inside = team.uri.replace("://", f"://ann:{quote(team.passwords['ann'], safe='')}@")
        code, text = team.search(MLFLOW_TRACKING_URI=inside)
        assert code == 0, text
        assert "is away" not in text
        assert f"open {team.uri}   # compare the trials" in text
        assert any(b"search.tracking.worker" in line for line in team.seen)

        for study in ("shared", "shared-2"):
            code, text = team.run("search.track", study, MLFLOW_TRACKING_URI=inside)
            assert (code, "holds 4 trials as the journal does, 0 of them written now" in text) == (0, True), text
        home = Path(tempfile.mkdtemp(prefix="home-", dir="/tmp"))
        (home / ".mlflow").mkdir()
        (home / ".mlflow" / "credentials").write_text(
            f"[mlflow]\nmlflow_tracking_username = ann\n"
            f"mlflow_tracking_password = {team.passwords['ann'].replace('%', '%%')}\n"
        )
        code, text = team.run("search.track", "shared", MLFLOW_TRACKING_URI=team.uri, HOME=str(home))
        shutil.rmtree(home)
        assert (code, "holds 4 trials" in text) == (0, True), text
        assert team.run("search.ui", "shared", MLFLOW_TRACKING_URI=inside) == (0, f"shared: open {team.uri}\n")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    assert server.returncode == 0
    assert not alive(team.folder / "server")

    files = [path for path in team.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    names = {str(path.relative_to(team.folder)) for path in files}
    assert {"server/users.db", "server/mlflow.db", "server/server.log", "runs/shared/best_config.yaml"} <= names
    assert sum(name.startswith("server/artifacts/") for name in names) > 8
    assert sum(name.startswith("ray/") and "/logs/" in name for name in names) > 20
    assert not holding(files, team.secrets())
    # The search for it does find what is there.
    assert holding([team.folder / "study.yaml"], [b"weight_decay"])
    assert not [line for line in team.seen for secret in team.secrets() if secret in line]


def pages_are_for_the_names_it_has(team: Team) -> None:
    search, all_runs = "/ajax-api/2.0/mlflow/runs/search", {"experiment_ids": ["0"]}
    assert team.ask(search, all_runs, Host=NAME, Origin=f"https://{NAME}") == 200
    assert team.ask(search, all_runs, Host="evil.example.org") == 403
    assert team.ask(search, all_runs, Host=NAME, Origin="https://evil.example.org") == 403


def refused_before_anything_started(team: Team) -> None:
    wrong = variables(ADMINISTRATOR, "not-the-password")
    for more, says in (({}, "wants a user and a password: set"), (wrong, "knows no such user with this password")):
        code, text = team.search(MLFLOW_TRACKING_URI=team.uri, **more)
        assert code == 2
        assert says in text
        assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in text
        assert len(text.splitlines()) == 1
    assert not [path for path in team.folder.glob("runs/**/*") if path.is_file()]
    assert not list(team.folder.glob("ray/*"))


@pytest.mark.slow
def test_another_password_for_the_administrator_is_told(team: Team) -> None:
    server, _ = team.serve(team.passwords[ADMINISTRATOR])
    server.send_signal(signal.SIGINT)
    assert server.wait(60) == 0
    server, said = team.serve("another-password")
    assert server.wait(60) == 2, said.read_text()
    assert "server/users.db has for 'boss'" in said.read_text()
    assert "another-password" not in said.read_text()
    assert not alive(team.folder / "server")
