"""Where a run's artifacts are written: where MLflow says, but on this machine only below one folder."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from mlflow.entities import Experiment
    from mlflow.tracking import MlflowClient

__all__ = ["is_allowed", "local_path", "relocate", "write_artifact"]


def local_path(artifact_uri: str) -> Path | None:
    """The folder of this machine that an artifact URI names, links followed; None if it names another place."""
    parts = urlsplit(artifact_uri)
    return Path(unquote(parts.path)).resolve() if parts.scheme in ("", "file") else None


def is_allowed(artifact_uri: str, root: Path | None) -> bool:
    """Whether artifacts may be written there. A tracking server chooses the URI, and could name any file of the user's.

    Args:
        artifact_uri: of a run, as MLflow has it.
        root: the folder below which files of this machine may be written; None for none at all.
    """
    folder = local_path(artifact_uri)
    return folder is None or (root is not None and folder.is_relative_to(root.resolve()))


def write_artifact(tracking_uri: str, artifact_uri: str, name: str, text: str) -> None:
    """Write a text below `artifact_uri`, over an earlier one. MLflow's client would ask the server for it again."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_text(text, encoding="utf-8")
        repository: Any = get_artifact_repository(artifact_uri, tracking_uri=tracking_uri)
        repository.log_artifact(str(path))


def relocate(client: MlflowClient, experiment: Experiment, folder: Path) -> None:
    """Let an experiment in a database, whose results folder was moved or copied, have its artifacts in `folder`.

    MLflow stores absolute addresses and has no call that changes them; so this uses the tables of its store.

    Raises:
        Exception: whatever the store raises.
    """
    from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlRun

    before, after = experiment.artifact_location, folder.as_uri()
    was = local_path(before)
    if was is None or was == folder.resolve() or was.name != folder.name or not folder.exists():
        return
    with client._tracking_client.store.ManagedSessionMaker(read_only=False) as session:
        session.get(SqlExperiment, int(experiment.experiment_id)).artifact_location = after
        for run in session.query(SqlRun).filter_by(experiment_id=int(experiment.experiment_id)):
            if run.artifact_uri.startswith(before):
                run.artifact_uri = after + run.artifact_uri.removeprefix(before)
