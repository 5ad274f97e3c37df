"""`python -m search.ui STUDY`: MLflow's pages of a study, from results on this machine or a cluster's head."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from search.cluster.head import find_head
from search.study.parse import load_study
from search.tracking.uri import default_uri, experiment_page, holds_database, redacted
from search.views.next_commands import program, shown
from trainables.cli import run_verb
from trainables.config import ConfigError

__all__ = ["ui"]

THERE = 5000  # MLflow's port on a cluster's head
PATIENCE = 90.0  # seconds for a server to come up, which takes ten


def ui(
    study: Annotated[str, typer.Argument(help="the study's name, or the path of its YAML")],
    cluster: Annotated[Path | None, typer.Option(help="the file of the cluster that searches it")] = None,
    out: Annotated[Path, typer.Option(help="results folder of a search on this machine")] = Path("runs"),
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="of this machine [default: 5000 if free]")] = None,
) -> None:
    """Open MLflow on a study's trials: prints the address, and stays until Ctrl-C."""
    name = load_study(study).study if study.endswith((".yaml", ".yml")) else study
    if cluster is not None:
        head = find_head(cluster)
        here = _free_port(port)
        tunnel = head.ssh("-N", "-oExitOnForwardFailure=yes", f"-L127.0.0.1:{here}:127.0.0.1:{THERE}")
        _serve(tunnel, here, name, lambda: f"MLflow on {head.login} does not answer: ray up {cluster} starts it again")
        return
    uri = default_uri(out.absolute())
    if uri.startswith(("http:", "https:")):
        typer.echo(f"{name}: open {redacted(uri)}")
        return
    if uri.startswith("sqlite:") and not holds_database(uri):
        rule = f"holds no MLflow database yet: {program('python')} -m search.run {study} makes it"
        raise ConfigError.single("--out", shown(out), rule)
    here = _free_port(port)
    command = [sys.executable, "-m", "mlflow", "ui", "--port", str(here), "--workers", "1"]
    # Not on the command line, since a database's URI holds its password.
    variables = os.environ | {"MLFLOW_BACKEND_STORE_URI": uri}
    _serve(command, here, name, lambda: f"MLflow cannot show {redacted(uri)}", variables)


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
    command: list[str], port: int, study: str, trouble: Callable[[], str], variables: dict[str, str] | None = None
) -> None:
    """Run what makes MLflow answer on `port`, print where the study is, and stay until it ends or Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was run must not stay behind
    process = subprocess.Popen(  # noqa: S603 (our own command)
        command, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        experiment = _experiment(process, port, study)
        if experiment is None:
            raise ConfigError.single("STUDY", study, trouble())
        server = f"http://127.0.0.1:{port}"
        page = experiment_page(server, experiment) if experiment else f"{server} (MLflow has nothing of it yet)"
        typer.echo(f"{study}, until Ctrl-C: open {page}")
        process.communicate()
    except KeyboardInterrupt:
        return
    finally:
        process.terminate()
        process.wait()


def _experiment(process: subprocess.Popen[str], port: int, study: str) -> str | None:
    """The study's experiment, "" if there is none; None if MLflow does not answer in time."""
    query = urllib.parse.urlencode({"experiment_name": study})
    url = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get-by-name?{query}"
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return str(json.load(answer)["experiment"]["experiment_id"])
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return ""
        except OSError:  # not up yet
            pass
        time.sleep(0.5)
    return None


if __name__ == "__main__":
    run_verb(ui)
