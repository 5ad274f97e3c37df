"""The machine of somebody who searches on a cluster: this checkout, the cluster's file, and nothing of the cluster."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

__all__ = ["ROOT", "Laptop", "until"]

ROOT = Path(__file__).parents[2]


class Laptop:
    """A machine with this checkout, the cluster's file, and nothing of the cluster."""

    def __init__(self, folder: Path, cluster: dict[str, Any]) -> None:
        self.folder, self.home = folder, folder / "home"
        (self.home / ".ray").mkdir(parents=True)
        self.cluster = folder / "lab.yaml"
        self.cluster.write_text(yaml.safe_dump(cluster))
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW"))
        }
        self.environment |= {
            "HOME": str(self.home), "RAY_TMPDIR": str(folder / "tmp"), "PYTHONPATH": str(ROOT), "COLUMNS": "160",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin", "/sbin"]),
        }  # fmt: skip

    def prepare(self) -> None:
        """What is done once before `ray up`: the wheel of this checkout, its versions, and the token."""
        source, dist = self.folder / "source", self.folder / "dist"
        for package in ("trainables", "spaces", "search"):
            shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
        for file in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / file, source)
        dist.mkdir()
        shutil.copy(ROOT / "constraints.txt", dist)
        self.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "dist", str(source)])
        self.ray("get-auth-token", "--generate")

    def ray(self, *arguments: str, timeout: float = 600) -> str:
        return self.run([sys.executable, "-m", "ray.scripts.scripts", *arguments], timeout)

    def run(self, command: list[str], timeout: float = 600, code: int = 0) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"{shlex.join(command)} gave {done.returncode}:\n{done.stdout}"
        return done.stdout

    def search(self, *arguments: str, code: int = 0, timeout: float = 900) -> str:
        return self.run(self.command(*arguments), timeout, code)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "search.run", *arguments, "--cluster", self.cluster.name]

    def start(self, *arguments: str) -> tuple[subprocess.Popen[bytes], Path]:
        """Begin a search, and go on with something else; what it prints is in the file."""
        printed = self.folder / f"printed-{time.monotonic_ns()}"
        with printed.open("wb") as file:
            process = subprocess.Popen(
                self.command(*arguments), cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
        return process, printed

    @contextmanager
    def ui(self, study: str) -> Iterator[str]:
        """MLflow's address as `search.ui` tells it, while it runs."""
        process = subprocess.Popen(
            [sys.executable, "-m", "search.ui", study, "--cluster", self.cluster.name], cwd=self.folder,
            env=self.environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            yield line.partition("open ")[2].strip()
        finally:
            process.terminate()
            assert process.wait(30) == 0


def until(what: Callable[[], object], seconds: float, running: subprocess.Popen[bytes], printed: Path) -> None:
    """Wait for something that happens while a search runs."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds:g} s:\n{printed.read_text()}"
        assert running.poll() is None, f"ended with {running.poll()}:\n{printed.read_text()}"
        time.sleep(0.5)
