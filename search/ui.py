"""`python -m search.ui STUDY`: a study in the browser, from results on this machine or a cluster's head."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Annotated
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import typer

from search.cluster.head import find_head
from search.journal.study_folder import find_study
from search.study.parse import load_study
from search.study_argument import started_studies
from search.tracking.uri import (
    VIEW_TAG,
    connect,
    default_uri,
    experiment_page,
    holds_database,
    mlflow_settings,
    redacted,
)
from search.views.forwarding import Forwarding
from search.views.next_commands import program, shown
from search.views.study_pages import MLFLOW, StudyPages
from trainables.cli import run_verb
from trainables.config import ConfigError
from trainables.config.plugins import as_recorded

__all__ = ["ui"]

THERE = 5000  # MLflow's port on a cluster's head
PATIENCE = 90.0  # seconds for a server to come up, which takes ten


def ui(
    study: Annotated[
        str, typer.Argument(help="the study's name, or the path of its YAML", autocompletion=started_studies)
    ],
    cluster: Annotated[Path | None, typer.Option(help="the file of the cluster that searches it")] = None,
    out: Annotated[Path, typer.Option(help="results folder of a search on this machine")] = Path("runs"),
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="of this machine [default: 5000 if free]")] = None,
) -> None:
    """Open a study's trials in MLflow, its report and optuna-dashboard: prints the address, and stays until Ctrl-C."""
    with as_recorded():
        name = load_study(study).study if study.endswith((".yaml", ".yml")) else study
    if cluster is not None:
        head = find_head(cluster)
        here = _free_port(port)
        tunnel = head.ssh("-N", "-oExitOnForwardFailure=yes", f"-L127.0.0.1:{here}:127.0.0.1:{THERE}")
        server = f"127.0.0.1:{here}"
        trouble = f"MLflow on {head.login} does not answer: ray up {cluster} starts it again"
        _serve(
            tunnel, server, name, trouble, lambda page: typer.echo(f"{name}, until Ctrl-C: open http://{server}{page}")
        )
        return
    uri = default_uri(out.absolute())
    if uri.startswith(("http:", "https:")):
        typer.echo(f"{name}: open {_page_at(uri, name)}")
        return
    if uri.startswith("sqlite:") and not holds_database(uri):
        rule = f"holds no MLflow database yet: {program('python')} -m search.run {study} makes it"
        raise ConfigError.single("--out", shown(out), rule)
    _open_here(name, _folder(name, out), uri, _free_port(port))


def _open_here(name: str, folder: Path | None, uri: str, port: int) -> None:
    """Serve the study's pages on `port`, among them MLflow's, which has a server of its own behind them."""
    there = _any_port()
    pages = StudyPages(name, folder, Forwarding(there))
    with make_server("127.0.0.1", port, pages, _Server, _QuietHandler) as server:
        threading.Thread(target=server.serve_forever, name="pages", daemon=True).start()

        def announce(page: str) -> None:
            pages.trials = page
            address = f"http://127.0.0.1:{port}"
            typer.echo(f"{name}, until Ctrl-C: open {address}")
            typer.echo(f"its trials in MLflow: {address}{MLFLOW}{page}")
            if find_spec("optuna_dashboard") is None:
                typer.echo("Optuna's view of them: pip install optuna-dashboard, and start this again")

        command = [sys.executable, "-m", "mlflow", "ui", "--port", str(there), "--workers", "1"]
        # Not on the command line, since a database's URI holds its password.
        variables = os.environ | {"MLFLOW_BACKEND_STORE_URI": uri}
        where = f"127.0.0.1:{there}{MLFLOW}"
        try:
            _serve(
                [*command, "--static-prefix", MLFLOW], where, name, f"MLflow cannot show {redacted(uri)}",
                announce, variables,
            )  # fmt: skip
        finally:
            server.shutdown()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base's name for it)
        """Not a line for each request."""


def _folder(name: str, out: Path) -> Path | None:
    try:
        return find_study(name, out)
    except ConfigError:  # MLflow may have it all the same
        return None


def _page_at(uri: str, study: str) -> str:
    """Where a server that is not ours shows the study; its plain address if it does not say."""
    try:
        with mlflow_settings:
            found = connect(uri).get_experiment_by_name(study)
    except Exception:  # noqa: BLE001 (away, or no access: the browser tells)
        found = None
    return redacted(uri) if found is None else experiment_page(uri, found.experiment_id, VIEW_TAG in found.tags)


def _any_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _free_port(asked: int | None) -> int:
    """The port to listen on: the one that was asked for, else MLflow's usual one, else any that is free."""
    for port in (asked,) if asked else (THERE, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if port == asked:
                    raise ConfigError.single("--port", port, f"must be free ({error.strerror})") from None
            else:
                return int(probe.getsockname()[1])
    raise ConfigError.single("--port", THERE, "must be free, and so is no other port")


def _serve(
    command: list[str], server: str, study: str, trouble: str, announce: Callable[[str], None],
    variables: dict[str, str] | None = None,
) -> None:  # fmt: skip
    """Run what makes MLflow answer at `server`, `announce` the study's page there, and stay until it ends or Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was run must not stay behind
    process = subprocess.Popen(  # noqa: S603 (our own command)
        command, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        page = _page(process, server, study)
        if page is None:
            raise ConfigError.single("STUDY", study, trouble)
        announce(page)
        if "#" not in page:
            typer.echo(f"MLflow has nothing of {study} yet")
        process.communicate()
    except KeyboardInterrupt:
        return
    finally:
        process.terminate()
        process.wait()


def _page(process: subprocess.Popen[str], server: str, study: str) -> str | None:
    """Where on the server the study's trials are, or its first page if it has none; None if it does not answer."""
    query = urllib.parse.urlencode({"experiment_name": study})
    url = f"http://{server}/api/2.0/mlflow/experiments/get-by-name?{query}"
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                found = json.load(answer)["experiment"]
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return "/"
        except OSError:  # not up yet
            pass
        else:
            tags = {tag["key"] for tag in found.get("tags", [])}
            return experiment_page("", found["experiment_id"], VIEW_TAG in tags)
        time.sleep(0.5)
    return None


if __name__ == "__main__":
    run_verb(ui)
