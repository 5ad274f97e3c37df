"""`python -m search.mlflow_server`: an MLflow for a team, which lets in only whom it knows.

MLflow's own server with its own basic authentication; what is added is that no secret is ever in a file, on a command
line or on the screen: the administrator's password, the database's and the key of its sessions go to the server through
its environment.
"""

from __future__ import annotations

import base64
import configparser
import contextlib
import importlib.util
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from search.tracking.uri import PASSWORD, USERNAME, VARIABLE, check_reachable, redacted, sqlite_uri
from search.views.next_commands import program, shown
from trainables.cli import run_verb
from trainables.config import ConfigError

__all__ = ["mlflow_server"]

SHORTEST = 12  # characters of a password, which MLflow demands
PATIENCE = 120.0  # seconds for the server to come up; on a new database it makes the tables first
GRACE = 10.0  # seconds for what it is doing when it is told to end
WORKERS = 2  # processes that answer; each takes 300 MB
# MLflow checks the password of each request, which is slow by design. A worker may remember for so many seconds that it
# was right; a password that was changed is good for as long.
REMEMBERED = 60
ELSEWHERE = (("192.0.2.1", socket.AF_INET), ("2001:db8::1", socket.AF_INET6))  # for documentation: nobody's


def mlflow_server(
    host: Annotated[str, typer.Option(help="the address to listen on; 0.0.0.0: all of this machine's")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
    folder: Annotated[
        Path, typer.Option(help="for the users, the artifacts, the log, and the runs unless they have a database")
    ] = Path("mlflow-server"),
    backend_store_uri: Annotated[
        str | None,
        typer.Option(envvar="MLFLOW_BACKEND_STORE_URI", help="the runs' database, any of SQLAlchemy", show_envvar=True),
    ] = None,
    allowed_hosts: Annotated[
        str | None,
        typer.Option(help="what others call it, separated by commas [default: its name and addresses]"),
    ] = None,
) -> None:
    """Serve MLflow with users and passwords, until Ctrl-C.

    The administrator's are read from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.
    """
    username, password = _administrator()
    if importlib.util.find_spec("flask_wtf") is None:
        rule = "needs what the extra `mlflow-server` installs: pip install 'resnet-search[mlflow-server]'"
        raise ConfigError.single("search.mlflow_server", "no Flask-WTF", rule)
    _check_free(host, port)
    folder = folder.absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = _write_config(folder)
    except OSError as error:
        raise ConfigError.single("--folder", str(folder), f"must be writable ({error.strerror})") from None
    database = backend_store_uri or sqlite_uri(folder / "mlflow.db")
    environment = _environment(username, password, config, database)  # before MLflow, which the check loads, changes it
    _check_database(database)
    command = _command(host, port, folder, allowed_hosts)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, _end)
    with (folder / "server.log").open("a", encoding="utf-8") as log, contextlib.suppress(KeyboardInterrupt):
        process = subprocess.Popen(  # noqa: S603 (our own command)
            command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        try:
            _wait_until_up(process, host, port, username, password, folder)
            _tell(host, port, username, folder, database)
            code = process.wait()
            typer.echo(f"error: MLflow has ended with exit code {code}: {shown(folder / 'server.log')}", err=True)
            raise SystemExit(1)
        finally:
            _stop(process)


def _administrator() -> tuple[str, str]:
    username, password = os.environ.get(USERNAME, ""), os.environ.get(PASSWORD, "")
    make = f"export {PASSWORD}=$({program('python')} -c 'import secrets; print(secrets.token_urlsafe())')"
    if not username or ":" in username:
        rule = f"must be the administrator's name, without a colon: export {USERNAME}=admin"
        raise ConfigError.single(USERNAME, username, rule)
    if not password:
        raise ConfigError.single(PASSWORD, "", f"must be the administrator's password. To make one: {make}")
    if len(password) < SHORTEST:
        rule = f"must have at least {SHORTEST} characters. To make one: {make}"
        raise ConfigError.single(PASSWORD, f"{len(password)} characters", rule)
    return username, password


def _check_free(host: str, port: int) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        rule = f"must be an address of this machine, and free ({error.strerror}): choose --host and --port"
        raise ConfigError.single("--host", f"{host}:{port}", rule) from None


def _check_database(uri: str) -> None:
    option = "--backend-store-uri"
    if uri.startswith(("http:", "https:", "databricks")):
        rule = "must be a database, such as postgresql://USER:PASSWORD@HOST/NAME, and not another server"
        raise ConfigError.single(option, redacted(uri), rule)
    check_reachable(uri, option=option, way_out="start that database, or correct the URI")


def _write_config(folder: Path) -> Path:
    """The settings that MLflow reads from a file only; each worker reads it again. No secret is among them."""
    config = configparser.ConfigParser(interpolation=None)
    config["mlflow"] = {
        # Trials of a study are in the experiment of its name, whoever searches it: everybody may add to it. To delete
        # takes the right to manage, which whoever began the experiment and administrators have.
        "default_permission": "EDIT",
        "database_uri": sqlite_uri(folder / "users.db").replace("%", "%%"),
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
        "auth_cache_ttl_seconds": str(REMEMBERED),
    }
    path = folder / "auth.ini"
    with path.open("w", encoding="utf-8") as file:
        config.write(file)
    return path


def _command(host: str, port: int, folder: Path, allowed_hosts: str | None) -> list[str]:
    names = _names(host, port, allowed_hosts)
    return [
        sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--host", host, "--port", str(port),
        "--workers", str(WORKERS), "--artifacts-destination", str(folder / "artifacts"),
        "--uvicorn-opts", "--log-level warning", "--allowed-hosts", ",".join(names),
        # MLflow takes its own pages for a stranger's unless they come from localhost.
        "--cors-allowed-origins", ",".join(f"{scheme}://{name}" for name in names for scheme in ("http", "https")),
    ]  # fmt: skip


def _environment(username: str, password: str, config: Path, database: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING_")} | {
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_AUTH_ADMIN_USERNAME": username,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
        "MLFLOW_BACKEND_STORE_URI": database,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # six processes for what a search has no use for
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


def _names(host: str, port: int, given: str | None) -> list[str]:
    """What browsers and clients may call this server: MLflow answers to no other name, against DNS rebinding."""
    names = ["localhost", "127.0.0.1", "[::1]", _in_url(host)]
    if given is not None:
        names += given.split(",")
    elif not _is_loopback(host):
        names += [socket.gethostname(), socket.getfqdn(), *_own_addresses()]
    return list(dict.fromkeys(name for bare in names for name in (bare, f"{bare}:{port}")))


def _own_addresses() -> Iterator[str]:
    """Those that this machine's name stands for, and the one that it reaches others from."""
    with contextlib.suppress(OSError):  # a name that stands for none
        yield from (_in_url(str(info[4][0])) for info in socket.getaddrinfo(socket.gethostname(), None))
    for address, family in ELSEWHERE:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))  # sends nothing
            yield _in_url(str(probe.getsockname()[0]))


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _wait_until_up(
    process: subprocess.Popen[bytes], host: str, port: int, username: str, password: str, folder: Path
) -> None:
    """Wait for the server, and make sure that it knows its administrator."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared)
    request = urllib.request.Request(f"http://{_in_url(reached)}:{port}/api/2.0/mlflow/users/current")
    credentials = base64.b64encode(f"{username}:{password}".encode()).decode()
    request.add_unredirected_header("Authorization", f"Basic {credentials}")
    # Without the proxies that the environment may name: the server is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            opener.open(request, timeout=10).close()
        except urllib.error.HTTPError as error:
            if error.code == 401:
                rule = (
                    f"must be the one that {shown(folder / 'users.db')} has for {username!r}, which was given at an "
                    "earlier start: start with that one. MLflow's AuthServiceClient.update_user_password changes it"
                )
                raise ConfigError.single(PASSWORD, "another password", rule) from None
            if error.code < 500:
                rule = f"must be an MLflow that answers, and this one says {error.code} ({error.reason})"
                raise ConfigError.single("--host", f"{host}:{port}", rule) from None
        except OSError:  # not up yet
            pass
        else:
            return
        time.sleep(0.2)
    told = (folder / "server.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    rule = f"must let MLflow start, and it does not ({''.join(told)[:200]}): see {shown(folder / 'server.log')}"
    raise ConfigError.single("--folder", str(folder), rule)


def _tell(host: str, port: int, username: str, folder: Path, database: str) -> None:
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host  # noqa: S104 (compared)
    address = f"http://{_in_url(name)}:{port}"
    lines = [
        f"MLflow: {address}, runs in {redacted(database)}, users and log in {shown(folder)}; Ctrl-C ends it",
        f"users are made by {username} at {address}/signup; each of them, before a search:",
        f"  export {VARIABLE}={address} {USERNAME}=NAME",
        f"  read -rs {PASSWORD}; export {PASSWORD}",
    ]
    if not _is_loopback(host):
        lines.append("warning: http sends passwords in the clear; on a network that is not yours put TLS in front")
    for line in lines:
        typer.echo(line)
    sys.stdout.flush()


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and its workers; those that do not want to, by force."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # once more must not leave it half ended
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    with contextlib.suppress(ProcessLookupError):  # as it should be: all of the group have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    run_verb(mlflow_server)
