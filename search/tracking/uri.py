"""Where MLflow keeps its runs: the default, and whether a place can be used, told before a search starts."""

from __future__ import annotations

import os
import re
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from trainables.config import ConfigError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["check_reachable", "connect", "default_uri", "holds_database", "reason", "redacted", "sqlite_uri"]

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SERVERS = ("http", "https", "databricks")
SQLITE_HEADER = b"SQLite format 3\0"
VARIABLE = "MLFLOW_TRACKING_URI"
USERNAME, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
WAY_OUT = "correct or unset MLFLOW_TRACKING_URI, or start with --tracking-later"


def default_uri(out: Path) -> str:
    """MLFLOW_TRACKING_URI, else an SQLite file in `out`: never a folder made wherever the search was started."""
    return os.environ.get(VARIABLE) or sqlite_uri(out / "mlflow.db")


def sqlite_uri(path: Path) -> str:
    """The URI of an SQLite file."""
    return "sqlite:///" + str(path.resolve()).replace("%", "%25").replace("?", "%3F")


def redacted(uri: str) -> str:
    """The URI without user, password and options (a database takes its password there, too), fit for a message.

    A password whose `/`, `?` or `#` are not percent-encoded, as they should be, is not shown either.
    """
    if uri.startswith("sqlite"):
        return uri
    return re.sub(r"://.*@", "://", uri, flags=re.DOTALL).partition("?")[0]


def connect(uri: str) -> MlflowClient:
    """A client that neither retries, nor prints, nor calls home; the first one imports MLflow, which takes a second.

    MLflow's own retries are off: it repeats a request that was carried out and whose answer was lost, and a run would
    be made twice. Credentials are those that MLflow finds: its environment variables, or ~/.mlflow/credentials. Those
    in a server's URI are moved to the variables of this process, because MLflow repeats the URI in its messages.
    """
    _load_mlflow(uri)
    from mlflow.tracking import MlflowClient

    return MlflowClient(_without_credentials(uri))


def _load_mlflow(uri: str) -> None:
    """Import what a client of this URI needs, set as it should be: on a busy machine that takes many seconds."""
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "true"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")  # what it logs as an error it raises as well
    import mlflow.tracking

    if uri.startswith(DATABASES):
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 (which the client imports when it is made)


def _without_credentials(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return uri
    for variable, value in ((USERNAME, parts.username), (PASSWORD, parts.password)):
        if value:
            os.environ[variable] = unquote(value)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def check_reachable(uri: str, timeout: float = 8.0, option: str = VARIABLE, way_out: str = WAY_OUT) -> None:
    """Make sure that runs can be kept at `uri`, within `timeout` seconds.

    A file that does not exist yet is not made, and nothing heavy imported for it. A message names the URI by the
    `option` it was given with, and what to do about it.

    Raises:
        ConfigError: for a place that MLflow cannot use, a server that does not answer or that refuses the credentials.
    """
    shown = redacted(uri)
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        # The error may quote what is part of a password.
        told = "a user or password in it percent-encoded" if "@" in uri else error
        raise ConfigError.single(option, shown, f"must be a URI ({told}); {way_out}") from None
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
    path = Path(unquote(uri.partition(":///")[2].partition("?")[0]))
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
            connect(uri).search_experiments(max_results=1)
        except Exception as error:  # noqa: BLE001 (stores are plug-ins and raise what they like; it is told below)
            answers.append(error)
        else:
            answers.append(None)

    _load_mlflow(uri)  # its time is not the server's
    started = time.monotonic()
    thread = threading.Thread(target=ask, name="mlflow-check", daemon=True)
    thread.start()
    thread.join(timeout)
    if not answers:
        rule = f"must answer within {timeout:g} s and did not in {time.monotonic() - started:.0f} s; {way_out}"
        raise ConfigError.single(option, redacted(uri), rule)
    error = answers[0]
    if isinstance(error, ImportError):
        raise ConfigError.single(option, redacted(uri), f"needs a package: {error}; {way_out}") from None
    if error is not None and (refusal := _refusal(error)):
        raise ConfigError.single(option, redacted(uri), f"must let the search in, but it {refusal}") from None
    if error is not None:
        rule = f"must be a place where MLflow can keep runs ({reason(error)}); {way_out}"
        raise ConfigError.single(option, redacted(uri), rule) from None


def _refusal(error: BaseException) -> str | None:
    """What to do about the credentials, if these are what the server objects to."""
    status = getattr(error, "get_http_status_code", None)
    if status is None or status() != 401:
        return None
    from mlflow.utils.credentials import read_mlflow_creds

    if all(read_mlflow_creds()):
        return f"knows no such user with this password: correct {USERNAME} and {PASSWORD}"
    return f"wants a user and a password: set {USERNAME} and {PASSWORD}"


def reason(error: BaseException) -> str:
    """The root of an error of MLflow's in one line; its own text is long and repeats the URI with its credentials."""
    while (cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__)) is not None:
        error = cause
    if refusal := _refusal(error):
        return f"it {refusal}"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    lines = text.strip().splitlines() or [type(error).__name__]
    return re.sub(r"://\S*@", "://", lines[0])[:200]
