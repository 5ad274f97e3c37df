"""MLflow as a store of runs, in as few calls as it allows: what each costs is in benchmarks/mlflow_cost.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from search.tracking.artifacts import is_allowed, relocate, write_artifact
from search.tracking.uri import SERVERS, VIEW_TAG, connect, mlflow_settings, with_password

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["ENDED", "NOTE", "RUN_NAME", "SEARCH", "TRIAL", "MLflowExperiment", "RunState", "Value", "find_run_id"]

SEARCH, TRIAL = "resnet_search.search", "resnet_search.trial"
ENDED = ("FINISHED", "KILLED", "FAILED")
NOTE, OWN_NOTE = "mlflow.note.content", "resnet_search.note"  # what is shown, and what we have last written there
RUN_NAME = "mlflow.runName"  # where a run has its name, which changes with the tag
PAGE = 500

Value = tuple[str, float, float, int]  # name, value, when in seconds since 1970, step


@dataclass
class RunState:
    """A run, and what is known to be in it: `written` counts points of its curves, `files` has its texts by name."""

    run_id: str
    artifact_uri: str
    status: str = "RUNNING"
    tags: dict[str, str] = field(default_factory=dict)
    written: int = 0
    described: bool = False
    files: dict[str, str] = field(default_factory=dict)


class MLflowExperiment:
    """The experiment of one study with the runs of one search; made, or restored, if it is missing.

    Use it within `mlflow_settings`.

    Args:
        uri: MLflow's.
        study: the experiment's name.
        search: the value of the runs' tag `SEARCH`.
        artifact_root: folder for artifacts where `uri` is a database; a server has a place of its own.
        description: shown with the experiment until `describe` has more to say.
        view: of its table, as the Share button of its page would write it.
        warn: shows a line, once, where artifacts cannot be written as MLflow wants them.

    Attributes:
        id: MLflow's id of the experiment.
        runs: those of the search by their tag `TRIAL`.

    Raises:
        Exception: here and in every method, whatever the store raises.
    """

    def __init__(
        self, uri: str, study: str, search: str, artifact_root: Path, description: str, view: str,
        warn: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._client: MlflowClient = connect(uri)
        self._uri, self._search = uri, search
        self._warn: Callable[[str], None] | None = warn
        self._root = None if urlsplit(uri).scheme in SERVERS else artifact_root
        found = self._client.get_experiment_by_name(study)
        if found is None:
            location = None if self._root is None else (self._root / study).as_uri()
            self._tags = {VIEW_TAG: view, NOTE: description, OWN_NOTE: description}
            self.id: str = self._client.create_experiment(study, artifact_location=location, tags=self._tags)
        else:
            self._tags = dict(found.tags)
            self.id = found.experiment_id
            if self._root is not None:
                relocate(self._client, found, self._root / study)
            if found.lifecycle_stage == "deleted":
                self._client.restore_experiment(self.id)
            self._set_tag(VIEW_TAG, view)
        self._description = description
        self.runs: dict[str, RunState] = {} if found is None else self._find()

    def describe(self, text: str) -> None:
        """Show this with the experiment, unless a user has written something else there."""
        if self._tags.get(NOTE) in (None, self._description, self._tags.get(OWN_NOTE)):
            self._set_tag(NOTE, text)
            self._set_tag(OWN_NOTE, text)

    def _set_tag(self, name: str, value: str) -> None:
        if self._tags.get(name) != value:
            self._client.set_experiment_tag(self.id, name, value)
            self._tags[name] = value

    def _find(self) -> dict[str, RunState]:
        runs: dict[str, RunState] = {}
        token: str | None = None
        while token is None or token:
            page = self._client.search_runs(
                [self.id], f"tags.`{SEARCH}` = '{self._search}'", max_results=PAGE, page_token=token
            )
            for run in page:
                state = RunState(run.info.run_id, run.info.artifact_uri, run.info.status, dict(run.data.tags))
                runs[state.tags.get(TRIAL, "")] = state
            token = page.token or ""
        return runs

    def create(self, trial: str, name: str, started: float, tags: Mapping[str, str]) -> RunState:
        """A new run with all its tags in one call; `started` in seconds since 1970."""
        tags = {SEARCH: self._search, TRIAL: trial, RUN_NAME: name, **tags}
        run = self._client.create_run(self.id, start_time=_milliseconds(started), run_name=name, tags=tags)
        self.runs[trial] = RunState(run.info.run_id, run.info.artifact_uri, tags=tags)
        return self.runs[trial]

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
        """A text as an artifact, over an earlier one; but no file of this machine outside the root."""
        if run.files.get(name) == text:
            return
        run.files[name] = text
        if is_allowed(run.artifact_uri, self._root):
            write_artifact(with_password(self._uri), run.artifact_uri, name, text)
        elif self._warn is not None:
            below = f", outside {self._root}" if self._root is not None else ""
            self._warn(
                f"MLflow wants artifacts at {run.artifact_uri or 'no address'}, on this machine{below}: left out"
            )
            self._warn = None

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
    with mlflow_settings:
        client = connect(uri)
        experiment = client.get_experiment_by_name(study)
        if experiment is None:
            return None
        wanted = f"tags.`{SEARCH}` = '{started!r}' and tags.`{TRIAL}` = '{trial}'"
        found = client.search_runs([experiment.experiment_id], wanted, max_results=1)
    return str(found[0].info.run_id) if found else None


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
