"""Artifacts are where results are, also after a move, and never where a tracking server would like them to be."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from search.tracking.artifacts import is_allowed
from search.tracking.projection import RunProjection
from search.tracking.uri import artifact_root, connect, default_uri
from tests.search.mlflow_contents import Server, runs_of
from tests.search.sample_study import sample_events, sample_spec

SPEC = sample_spec()


def projected(uri: str, out: Path, count: int | None = None) -> list[str]:
    """What projecting the first events of the sample study says."""
    lines: list[str] = []
    projection = RunProjection(uri, SPEC, artifact_root(uri, out), lines.append)
    for event in sample_events(SPEC)[:count]:
        projection.take(event)
    projection.write()
    return lines


@pytest.mark.parametrize(
    ("artifact_uri", "allowed"),
    [
        ("{root}/study/1/artifacts", True),
        ("file://{root}/study", True),
        ("s3://bucket/x", True),
        ("mlflow-artifacts:/1/2/artifacts", True),
        ("file://{root}/../elsewhere", False),
        ("file://{root}/%2e%2e/elsewhere", False),
        ("FILE:///etc", False),
        ("{root}/link/x", False),
        ("", False),
        ("artifacts", False),
    ],
)
def test_files_of_this_machine_are_written_below_the_root_only(
    tmp_path: Path, artifact_uri: str, allowed: bool
) -> None:
    root = tmp_path / "mlartifacts"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    assert is_allowed(artifact_uri.format(root=root), root) is allowed
    remote = artifact_uri.startswith(("s3:", "mlflow-artifacts:"))
    assert is_allowed(artifact_uri.format(root=root), None) is remote  # a server's runs have no place here


@pytest.mark.parametrize("copied", [False, True])
def test_results_that_were_moved_or_copied_have_their_artifacts_where_they_are(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    (tmp_path / "mlflow.db").rename(before / "mlflow.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert projected(default_uri(before), before, 20) == []
    files = sorted(path.relative_to(before) for path in before.rglob("*.yaml"))
    if copied:
        shutil.copytree(before, after)
    else:
        before.rename(after)
    assert projected(default_uri(after), after) == []
    assert before.exists() is copied
    assert sorted(path.relative_to(before) for path in before.rglob("*.yaml")) == (files if copied else [])
    client = connect(default_uri(after))
    parent, children = runs_of(default_uri(after))
    for run in (parent, *children.values()):
        names = [file.path for file in client.list_artifacts(run.info.run_id)]
        assert names
        for name in names:
            assert Path(client.download_artifacts(run.info.run_id, name)).exists()


@pytest.mark.slow
def test_a_server_cannot_have_files_of_this_machine_written(tmp_path: Path) -> None:
    victim, out = tmp_path / "victim", tmp_path / "out"
    out.mkdir()
    server = Server(tmp_path, "--no-serve-artifacts", "--default-artifact-root", victim.as_uri())
    try:
        server.start()
        lines = projected(server.uri, out)
        assert len(lines) == 1
        assert f"MLflow wants artifacts at {victim.as_uri()}" in lines[0]
        assert not victim.exists()
        assert list(out.iterdir()) == []
        assert len(runs_of(server.uri)[1]) > 2  # all else is there
    finally:
        server.stop()
