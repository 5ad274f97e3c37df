"""What a store says about the sample study, in a form that compares, and a real server to say it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from mlflow.entities import Run

from search.tracking.uri import connect

os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"  # `contents` downloads what tests of output would see


def runs_of(uri: str, study: str = "sample") -> tuple[Run, dict[int, Run]]:
    """The search's run, and those of its trials by number."""
    client = connect(uri)
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], max_results=500)
    children = {int(r.data.tags["resnet_search.trial"]): r for r in found if "mlflow.parentRunId" in r.data.tags}
    (parent,) = [r for r in found if "mlflow.parentRunId" not in r.data.tags]
    assert len(children) == len(found) - 1
    return parent, children


def statuses(uri: str, study: str) -> list[str]:
    """Of all runs, the search's among them."""
    parent, children = runs_of(uri, study)
    return sorted(run.info.status for run in (parent, *children.values()))


def contents(uri: str) -> dict[str, object]:
    """All that a store says about the search, ids and the artifacts' places apart."""
    parent, children = runs_of(uri)
    client = connect(uri)
    names = {parent.info.run_id: "parent", **{run.info.run_id: number for number, run in children.items()}}
    found_in: dict[str, object] = {}
    for run in (parent, *children.values()):
        tags = {tag: without_ids(text, names) for tag, text in run.data.tags.items()}
        histories = {
            name: sorted((m.step, m.timestamp, repr(m.value)) for m in client.get_metric_history(run.info.run_id, name))
            for name in run.data.metrics
        }
        files = {
            f.path: without_ids(Path(client.download_artifacts(run.info.run_id, f.path)).read_text(), names)
            for f in client.list_artifacts(run.info.run_id)
        }
        times = (run.info.start_time, run.info.end_time)
        found_in[str(names[run.info.run_id])] = (run.info.status, times, tags, run.data.params, histories, files)
    return found_in


def without_ids(text: str, names: Mapping[str, object]) -> str:
    """A text that is the same in every store; best_config.yaml names the run of the one that the search wrote to."""
    for run_id, name in names.items():
        text = text.replace(run_id, str(name))
    return re.sub(r"mlflow_run_id: \w+", "mlflow_run_id: of a store", text)


class Server:
    """An MLflow server over a store in `folder`; the same one each time it is started."""

    def __init__(self, folder: Path, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._folder, self._options = folder, options or ("--artifacts-destination", str(folder / "artifacts"))
        self._process: subprocess.Popen[bytes] | None = None
        self.uri = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port),
                "--workers", "1", "--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db",
                *self._options,
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd=self._folder,
        )  # fmt: skip
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self._port}/health", timeout=5).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise TimeoutError(f"{self.uri} does not answer")

    def stop(self) -> None:
        """Kill it and all its workers."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
