"""Versions and commit: what made a result, said truly or not at all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import search.journal.provenance
from search.journal.provenance import git_commit, versions


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_versions_are_those_installed_and_nothing_is_imported_for_them() -> None:
    found = versions()
    assert found["torch"] == metadata.version("torch")
    assert {"python", "platform", "resnet-search", "torchvision", "ray", "optuna", "mlflow", "numpy", "pyarrow"} <= set(
        found
    )
    code = "import sys; from search.journal.provenance import versions; versions(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_commit_is_that_of_the_checkout(tmp_path: Path) -> None:
    copied = tmp_path / "search" / "journal" / "provenance.py"
    copied.parent.mkdir(parents=True)
    shutil.copy(search.journal.provenance.__file__, copied)
    assert git_commit(tmp_path) is None
    git(tmp_path, "init")
    assert git_commit(tmp_path) is None  # no commit yet
    (tmp_path / "theirs").touch()
    git(tmp_path, "add", "theirs")
    git(tmp_path, "commit", "-m", "m")
    assert git_commit(tmp_path) is None  # somebody else's checkout, around an environment with this code
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "m")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_commit(tmp_path) == commit
    (tmp_path / "untracked").touch()
    assert git_commit(tmp_path) == commit
    copied.write_text("changed")
    assert git_commit(tmp_path) == f"{commit}+dirty"
