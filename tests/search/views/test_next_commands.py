"""What a user is told to type can be typed."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from search.views.next_commands import elsewhere, open_mlflow, program, resume, shown, verb


def test_paths_are_as_short_as_they_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "runs" / "a b") == "'runs/a b'"
    assert shown(Path("runs")) == "runs"
    assert shown(tmp_path.parent) == str(tmp_path.parent)
    assert elsewhere(Path("runs")) == elsewhere(tmp_path / "runs") == ""
    assert elsewhere(tmp_path / "other one") == " --out 'other one'"


def test_the_commands_that_go_on_and_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shlex.split(resume(tmp_path / "runs" / "s"))[1:] == ["-m", "search.run", "runs/s/study.yaml"]
    assert shlex.split(verb("report", tmp_path / "a b", "--open"))[1:] == [
        "-m",
        "search.report",
        "a b",
        "--open",
        "--out",
        ".",
    ]
    assert shlex.split(resume(tmp_path / "s"))[3:] == ["s/study.yaml", "--out", "."]


def test_programs_are_those_of_this_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program("python") == str(Path(sys.executable).with_name("python"))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert program("python") == "python"


def test_how_to_open_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    birds = tmp_path / "runs" / "birds"
    assert open_mlflow("https://me:secret@host:5000", birds, "7").startswith(
        "open https://host:5000/#/experiments/7/runs?"
    )
    for uri in (
        f"sqlite:///{tmp_path}/runs/mlflow.db", "https://me:secret@host:5000", "postgresql://me:secret@host/db",
    ):  # fmt: skip
        assert shlex.split(open_mlflow(uri, birds))[1:] == ["-m", "search.ui", "birds"]
    assert open_mlflow(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "birds").endswith("search.ui birds --out .")
    other = open_mlflow(f"sqlite:///{tmp_path}/other.db", birds)
    assert other.startswith("MLFLOW_TRACKING_URI=sqlite:///other.db ")
