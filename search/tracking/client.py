"""MLflow as a store of runs, in as few calls as it allows: what each costs is in benchmarks/mlflow_cost.py."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from search.tracking.uri import connect

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["ENDED", "SEARCH", "TRIAL", "MLflowExperiment", "RunState", "Value", "find_run_id"]

SEARCH, TRIAL = "resnet_search.search", "resnet_search.trial"
ENDED = ("FINISHED", "KILLED", "FAILED")
PAGE = 500

Value = tuple[str, float, float, int]  # name, value, when in seconds since 1970, step


@dataclass
class RunState:
    """A run, and what this process knows to be in it."""

    run_id: str
    artifacts: str
    status: str = "RUNNING"
    epochs: int = 0
    described: bool = False
    tags: dict[str, str] = field(default_factory=dict)


class MLflowExperiment:
    """The experiment of one study; made, or brought back, if it is missing.

    Args:
        uri: MLflow's.
        study: the experiment's name.
        artifact_root: folder for artifacts where `uri` is a database; a server has a place of its own.
        description: shown with a new experiment.

    Raises:
        Exception: here and in every method, whatever the store raises.
    """

    def __init__(self, uri: str, study: str, artifact_root: Path, description: str) -> None:
        self._client: MlflowClient = connect(uri)
        found = self._client.get_experiment_by_name(study)
        if found is None:
            is_server = urlsplit(uri).scheme in ("http", "https", "databricks")
            location = None if is_server else (artifact_root / study).as_uri()
            tags = {"mlflow.note.content": description} if description else {}
            self._experiment = self._client.create_experiment(study, artifact_location=location, tags=tags)
            return
        self._experiment = found.experiment_id
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)

    def find(self, search: str) -> dict[str, RunState]:
        """The runs of a search by their tag `TRIAL`."""
        runs: dict[str, RunState] = {}
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self._experiment], f"tags.`{SEARCH}` = '{search}'", max_results=PAGE, page_token=token
            )
            for run in page:
                stored = RunState(run.info.run_id, run.info.artifact_uri, run.info.status, tags=dict(run.data.tags))
                runs[run.data.tags.get(TRIAL, "")] = stored
            token = page.token
            if not token:
                return runs

    def create(self, name: str, started: float, tags: Mapping[str, str]) -> RunState:
        """A new run with all its tags in one call; `started` in seconds since 1970."""
        run = self._client.create_run(
            self._experiment, start_time=_milliseconds(started), run_name=name, tags=dict(tags)
        )
        return RunState(run.info.run_id, run.info.artifact_uri, tags=dict(tags))

    def log(
        self, run: RunState, values: Iterable[Value] = (), params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Metrics, parameters and tags in one call, or none. What the run holds already is not added again.

        A value that is not finite is logged as NaN: MLflow stores infinity as 1.8e308, which flattens every chart.
        """
        from mlflow.entities import Metric, Param, RunTag

        metrics = [
            Metric(name, value if math.isfinite(value) else math.nan, _milliseconds(when), step)
            for name, value, when, step in values
        ]
        new = {name: value for name, value in (tags or {}).items() if run.tags.get(name) != value}
        if not (metrics or params or new):
            return
        self._client.log_batch(
            run.run_id,
            metrics=metrics,
            params=[Param(name, value) for name, value in (params or {}).items()],
            tags=[RunTag(name, value) for name, value in new.items()],
        )
        run.tags |= new

    def keep(self, run: RunState, name: str, text: str) -> None:
        """A text as an artifact, over an earlier one."""
        parts = urlsplit(run.artifacts)
        if parts.scheme not in ("", "file"):
            self._client.log_text(run.run_id, text, name)
            return
        # A folder on this machine: the client would look the run up first and copy the text through another file.
        folder = Path(unquote(parts.path)) if parts.scheme else Path(run.artifacts)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")

    def set_status(self, run: RunState, status: str, ended: float | None) -> None:
        """Change the run's status, if it is another; one of `ENDED` takes the time `ended`, in seconds since 1970."""
        if status in ENDED:
            self._client.set_terminated(run.run_id, status, end_time=_milliseconds(ended or 0.0))
        elif status != run.status:
            self._client.update_run(run.run_id, status=status)
        run.status = status


def find_run_id(uri: str, study: str, started: float, trial: int) -> str | None:
    """The id of a trial's run, given when its search started (the journal's first session); None if there is none.

    Raises:
        Exception: whatever the store raises.
    """
    client = connect(uri)
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        return None
    wanted = f"tags.`{SEARCH}` = '{started!r}' and tags.`{TRIAL}` = '{trial}'"
    found = client.search_runs([experiment.experiment_id], wanted, max_results=1)
    return str(found[0].info.run_id) if found else None


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
