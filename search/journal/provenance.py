"""What a search was made with: package versions and the commit of the code."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

__all__ = ["git_commit", "version_changes", "versions"]

PACKAGES = ("resnet-search", "torch", "torchvision", "ray", "optuna", "mlflow", "numpy", "pyarrow")


def versions() -> dict[str, str]:
    """Version by package name, and those of `python` and the `platform`. Reads metadata; imports none of them.

    A package that is not installed is left out.
    """
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def version_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """A line for every package (and Python, and the platform) that has changed."""
    return [
        f"{name} was {before.get(name, 'not there')} and is {now.get(name, 'not there')}"
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name)
    ]


def git_commit(folder: Path | None = None) -> str | None:
    """The commit of the checkout that this code runs from, with `+dirty` if tracked files were changed.

    None where the code is installed and not checked out (an environment inside somebody else's checkout is not that
    checkout's code), where there is no commit yet, or no git. `folder` asks about another checkout of this code.
    """
    here = Path(__file__).resolve()
    root = here.parents[2]
    folder = folder or root
    # Fails unless this very file is under version control there.
    commands = (
        ("ls-files", "--error-unmatch", "--", str(here.relative_to(root))),
        ("rev-parse", "HEAD"),
        ("status", "--porcelain", "--untracked-files=no"),
    )
    answers = []
    for command in commands:
        try:
            done = subprocess.run(  # noqa: S603 (fixed arguments)
                ["git", *command],  # noqa: S607 (git is wherever the user has it)
                cwd=folder, capture_output=True, text=True, timeout=10, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode:
            return None
        answers.append(done.stdout.strip())
    return answers[1] + ("+dirty" if answers[2] else "")
