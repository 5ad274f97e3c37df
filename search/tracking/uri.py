"""Where MLflow keeps its runs: the default, and whether a place can be used, checked before a search starts."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from trainables.config import ConfigError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = [
    "SERVERS", "VIEW_TAG", "artifact_root", "check_reachable", "connect", "default_uri", "experiment_page",
    "holds_database", "mlflow_settings", "page_of_run", "reason", "redacted", "with_password",
]  # fmt: skip

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SERVERS = ("http", "https", "databricks")
SQLITE_HEADER = b"SQLite format 3\0"
VARIABLE = "MLFLOW_TRACKING_URI"
USERNAME, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
SWITCHES = {
    # MLflow would repeat a request that was carried out and whose answer was lost, and make a run twice.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",  # seconds
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # what it logs as an error it raises as well
}
NO_PROXY, LOOPBACK = ("NO_PROXY", "no_proxy"), ("localhost", "127.0.0.1", "::1")  # a proxy never leads back here
USERS_OWN = ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_LOGGING_LEVEL")  # stay where they are set already
TRAINING = "workflowType=machine_learning"
VIEW = "resnet_search"  # the name of the view of an experiment's table that front_page.py makes
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"  # where the experiment has it
MEANINGS = (  # of what SQLAlchemy raises
    (r"table \w+ already exists|no such table|found version None", (
        "it is half made, the program that made it was ended: move it away, then `search.track STUDY` writes it anew"
    )),
    (r"database is locked", "another program has locked it: end that program, or wait for it"),
)  # fmt: skip
REFUSAL = f"does not accept this user and password: set or correct {USERNAME} and {PASSWORD}"
NAMED = (VARIABLE, "correct or unset MLFLOW_TRACKING_URI, or start with --tracking-later")
DEFAULT = ("MLflow", "choose another --out, or start with --tracking-later")


def default_uri(out: Path) -> str:
    """MLFLOW_TRACKING_URI, else an SQLite file in `out`: never a folder made wherever the search was started."""
    return os.environ.get(VARIABLE) or sqlite_uri(out / "mlflow.db")


def sqlite_uri(path: Path) -> str:
    """The URI of an SQLite file."""
    return "sqlite:///" + str(path.resolve()).replace("%", "%25").replace("?", "%3F")


def _sqlite_path(uri: str) -> Path:
    return Path(unquote(uri.partition(":///")[2].partition("?")[0]))


def artifact_root(uri: str, out: Path) -> Path:
    """The folder for artifacts: beside an SQLite file, so that both can be moved; in `out` with another database."""
    return (_sqlite_path(uri).resolve().parent if uri.startswith("sqlite") else out.resolve()) / "mlartifacts"


def redacted(uri: str) -> str:
    """The URI without user, password and options (a database takes its password there, too), fit for a message.

    A password whose `/`, `?` or `#` are not percent-encoded, as they should be, is not shown either.
    """
    if uri.startswith("sqlite"):
        return uri
    return re.sub(r"://.*@", "://", uri, flags=re.DOTALL).partition("?")[0]


class _Settings:
    """`SWITCHES`, which MLflow reads from the environment only: set while any thread is inside, then as before."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._before: dict[str, str | None] = {}

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                settings = SWITCHES | {
                    name: ",".join([*filter(None, [os.environ.get(name)]), *LOOPBACK]) for name in NO_PROXY
                }
                self._before = {name: os.environ.get(name) for name in settings}
                own = {name for name in USERS_OWN if self._before[name] is not None}
                os.environ.update({name: value for name, value in settings.items() if name not in own})
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            for name, value in self._before.items() if not self._inside else ():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


mlflow_settings = _Settings()


def experiment_page(server: str, experiment_id: str, has_view: bool = True) -> str:
    """Where MLflow's server shows an experiment's trials, the best first; its plain address leads to pages on LLMs.

    MLflow refuses an address that names a view which the experiment does not have, as one of an older version of this
    package does not.
    """
    page = f"{redacted(server).rstrip('/')}/#/experiments/{experiment_id}/runs?{TRAINING}"
    return f"{page}&viewStateShareKey={VIEW}" if has_view else page


def page_of_run(experiment_id: str, run_id: str) -> str:
    """Where a run is, seen from MLflow's other pages."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?{TRAINING}"


def connect(uri: str) -> MlflowClient:
    """A client; the first one imports MLflow, which takes seconds. Call it within `mlflow_settings`.

    Credentials are those in the URI, else those that MLflow finds: its environment variables, or ~/.mlflow/credentials.
    """
    with mlflow_settings:
        from mlflow.tracking import MlflowClient

        if uri.startswith("sqlite:") and not holds_database(uri):
            _make_database(_sqlite_path(uri))
        return MlflowClient(with_password(uri))


def _make_database(path: Path) -> None:
    """Make an SQLite file with MLflow's tables, whole or not at all: it refuses one whose making was interrupted."""
    from mlflow.tracking import MlflowClient

    with tempfile.TemporaryDirectory(prefix=".mlflow-", dir=path.parent) as folder:
        made = Path(folder, path.name)
        MlflowClient(sqlite_uri(made)).search_experiments(max_results=1)
        with contextlib.suppress(OSError):  # another search was faster, or no hard links here: MLflow makes the tables
            os.link(made, path)


def with_password(uri: str) -> str:
    """The URI with the password of the environment, if it names a user alone, for whom MLflow would not use it."""
    parts = urlsplit(uri)
    password = os.environ.get(PASSWORD)
    if parts.scheme not in ("http", "https") or not parts.username or parts.password or not password:
        return uri
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username}:{quote(password, safe='')}@{host}"))


def check_reachable(uri: str, timeout: float = 8.0, named: tuple[str, str] | None = None) -> None:
    """Make sure that runs can be kept at `uri`, within `timeout` seconds.

    A file that does not exist yet is not made, and nothing heavy imported for it. `named` is the option that the URI
    was given with, and what to do about it; None: the variable, if that is set, else the default.

    Raises:
        ConfigError: for a place that MLflow cannot use, a server that does not answer or that refuses the credentials.
    """
    shown = redacted(uri)
    option, way_out = named or (NAMED if os.environ.get(VARIABLE) else DEFAULT)
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        # The error may quote what is part of a password.
        why = "a user or password in it percent-encoded" if "@" in uri else error
        raise ConfigError.single(option, shown, f"must be a URI ({why}); {way_out}") from None
    scheme = parts.scheme.partition("+")[0]
    if scheme in ("", "file"):
        rule = "must not be a folder, MLflow 3 keeps no runs there: use sqlite:////FOLDER/mlflow.db or a server's URL"
        raise ConfigError.single(option, shown, rule)
    if scheme not in DATABASES + SERVERS:
        known = ", ".join(f"{name}:" for name in SERVERS + DATABASES)
        raise ConfigError.single(option, shown, f"must begin with one of {known}")
    if scheme in ("http", "https") and (not parts.hostname or port == 0):
        raise ConfigError.single(option, shown, f"must name a host; {way_out}")
    if scheme == "sqlite" and not holds_database(uri, option):
        return
    _ask(uri, timeout, option, way_out)


def holds_database(uri: str, option: str = VARIABLE) -> bool:
    """Whether the SQLite file that `uri` names exists and holds something.

    Raises:
        ConfigError: if it could neither be opened nor made, or is no SQLite file.
    """
    path = _sqlite_path(uri)
    if path.name in ("", ":memory:"):
        rule = "must name a file (sqlite:////FOLDER/mlflow.db): what is in memory is lost with the search"
        raise ConfigError.single(option, uri, rule)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with tempfile.TemporaryFile(dir=path.parent):
                return False
        with path.open("r+b") as file:
            header = file.read(len(SQLITE_HEADER))
    except OSError as error:
        raise ConfigError.single(option, str(path), f"must be writable ({error.strerror})") from None
    if header and header != SQLITE_HEADER:
        raise ConfigError.single(option, str(path), "must be an SQLite file, and this one is not")
    return bool(header)


def _ask(uri: str, timeout: float, option: str, way_out: str) -> None:
    """One real request, on a thread that can be left behind: looking up names and connecting take their own time."""
    answers: list[Exception | None] = []

    def ask() -> None:
        try:
            with mlflow_settings:
                connect(uri).search_experiments(max_results=1)
        except Exception as error:  # noqa: BLE001 (stores are plug-ins and raise what they like; it is reported below)
            answers.append(error)
        else:
            answers.append(None)

    with mlflow_settings:  # loading takes time that is not the server's
        import_module("mlflow.tracking")
        import_module(f"mlflow.store.tracking.{'sqlalchemy' if uri.startswith(DATABASES) else 'rest'}_store")
    thread = threading.Thread(target=ask, name="mlflow-check", daemon=True)
    thread.start()
    thread.join(timeout)
    if not answers:
        rule = f"must answer within {timeout:g} s and did not; {way_out}"
    elif (error := answers[0]) is None:
        return
    elif isinstance(error, ImportError):
        rule = f"needs a package: {error}; {way_out}"
    elif _is_refusal(error):
        rule = f"must let the search in, but it {REFUSAL}"
    else:
        rule = f"must be a place where MLflow can keep runs ({reason(error)}); {way_out}"
    raise ConfigError.single(option, redacted(uri), rule) from None


def _other_version(revision: str) -> str:
    """What to do about a database of another MLflow, whose tables have this revision."""
    import mlflow

    if any(Path(mlflow.__file__).parent.glob(f"store/db_migrations/versions/{revision}_*.py")):
        return "an older MLflow made it: back it up, then `mlflow db upgrade` with its URI makes it one of this version"
    return f"a newer MLflow than {mlflow.__version__} made it, or another program: use that MLflow, or another place"


def _is_refusal(error: BaseException) -> bool:
    status = getattr(error, "get_http_status_code", None)
    return status is not None and status() == 401


def reason(error: BaseException) -> str:
    """The root of an error of MLflow's in one line; its own text is long and repeats the URI with its credentials."""
    while (cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__)) is not None:
        error = cause
    if _is_refusal(error):
        return f"it {REFUSAL}"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    for pattern, meaning in MEANINGS:
        if re.search(pattern, text):
            return meaning
    if found := re.search(r"out-of-date database schema \(found version (\w+)", text):
        return _other_version(found[1])
    lines = text.strip().splitlines() or [type(error).__name__]
    return re.sub(r"://\S*@", "://", lines[0])[:200]
