"""A search on a real cluster of two machines (see `lab`), made by `ray up` from deploy/onprem.yaml and this checkout.

What the file says is followed to the letter but for addresses, login, one CPU a machine and its workers' priority.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.tracking import MlflowClient

from search.events import TrialEnded, TrialLost
from search.journal import read
from search.results import TrialStatus, collect
from search.study import load_study
from tests.search.lab import Lab, Node, why_not

ROOT = Path(__file__).parents[2]
STUDY = {
    "study": "walk",
    "trial": {"model": {"kind": "synthetic", "seconds_per_epoch": 1.0}, "data": {"source": "synthetic"}},
    "space": {"optimizer": {"lr": {"float": [1e-4, 1.0], "log": True}}},
    "recipes": {"plain": {"description": "d", "source": "s", "config": {"optimizer": {"lr": 0.01}}}},
    "searcher": {"kind": "random"},
    "scheduler": {"kind": "none"},
    "budget": {"trials": 8, "epochs": 12},
}


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
            yield line.partition("open ")[2].partition(";")[0]
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0


def until(what: Callable[[], object], seconds: float, running: subprocess.Popen[bytes], printed: Path) -> None:
    """Wait for something that happens while a search runs."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds:g} s:\n{printed.read_text()}"
        assert running.poll() is None, f"ended with {running.poll()}:\n{printed.read_text()}"
        time.sleep(0.5)


def training(node: Node) -> bool:
    # Ray names its workers by what they do: the actor's class, and the method that runs.
    return any(re.match(r"ray::Res(NetTrial|ourceTrainable)", line) for line in node.processes())


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    if reason := why_not(tmp_path):
        pytest.skip(reason)
    with Lab(tmp_path / "lab") as lab:
        yield lab


@pytest.fixture
def laptop(tmp_path: Path, lab: Lab) -> Laptop:
    head, worker = lab.node("head"), lab.node("worker")
    tree = yaml.safe_load((ROOT / "deploy" / "onprem.yaml").read_text())
    tree["cluster_name"] = f"lab{os.getpid()}"
    tree["provider"] |= {"head_ip": head.address, "worker_ips": [worker.address]}
    tree["auth"] = {"ssh_user": "root", "ssh_private_key": str(lab.key)}
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        # Two nodes share this machine: each is slow to come up, and its workers must not give way to all else.
        start = "RAY_agent_register_timeout_ms=300000 RAY_worker_niceness=0 ray start --num-cpus=1"
        tree[key] = [command.replace("ray start", start) for command in tree[key]]
    folder = tmp_path / "laptop"
    folder.mkdir()
    laptop = Laptop(folder, tree)
    source = folder / "source"
    for package in ("trainables", "spaces", "search"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, source)
    (folder / "dist").mkdir()
    shutil.copy(ROOT / "constraints.txt", folder / "dist")
    laptop.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "dist", str(source)])
    laptop.ray("get-auth-token", "--generate")
    return laptop


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_search_on_two_machines_survives_what_happens_to_them(lab: Lab, laptop: Laptop) -> None:
    head, worker = lab._nodes
    shared = lab.folder / "shared" / "runs"
    not_up = laptop.search("digits_resnet8", code=2)
    assert "--cluster" in not_up
    assert "ray up lab.yaml" in not_up
    assert "Traceback" not in not_up

    laptop.ray("up", "--yes", "lab.yaml")

    # A search whose user closes the laptop, and whose second machine is lost.
    options = ("digits_resnet8", "--trials", "8", "--epochs", "20", "--set", "scheduler.kind=none")
    process, printed = laptop.start(*options)
    until(lambda: training(head) and training(worker), 600, process, printed)
    process.kill()
    process.wait()
    process, printed = laptop.start(*options)
    until(lambda: "is followed" in printed.read_text(), 180, process, printed)
    worker.kill()
    assert process.wait(900) == 0, printed.read_text()
    text = printed.read_text()
    assert "2 nodes with 2 CPUs" in text
    assert "cluster: 1 node with 1 CPU and" in text
    brought = laptop.folder / "runs" / "digits_resnet8"
    assert f"best config: {brought.relative_to(laptop.folder)}/best_config.yaml" in text
    events = list(read(brought / "journal"))
    assert any(isinstance(event, TrialLost) for event in events)
    result = collect(load_study(str(brought / "study.yaml")), events)
    assert [trial.status for trial in result.trials] == [TrialStatus.COMPLETED] * 8
    assert not (brought / "checkpoints").exists()
    laptop.run([sys.executable, "-m", "search.status", "digits_resnet8"])
    with laptop.ui("digits_resnet8") as address:
        with urllib.request.urlopen(address.partition("#")[0], timeout=30) as page:  # noqa: S310 (this machine)
            assert b"MLflow" in page.read()
        runs = MlflowClient(address.partition("/#")[0]).search_runs([address.rpartition("/")[2]])
        assert len(runs) == 9  # the search and its trials

    # A search whose head is lost; the machine that was away is back.
    worker.start()
    study = laptop.folder / "walk.yaml"
    study.write_text(yaml.safe_dump(STUDY))
    process, printed = laptop.start("walk.yaml")
    ended = lambda: [e for e in read(shared / "walk" / "journal") if isinstance(e, TrialEnded)]  # noqa: E731
    until(lambda: len(ended()) >= 2, 600, process, printed)
    head.kill()
    assert process.wait(180) == 1
    assert "the same command" in printed.read_text() or "follow it again" in printed.read_text()
    head.start()
    laptop.ray("up", "--yes", "lab.yaml")
    text = laptop.search("walk.yaml")
    assert "going on:" in text
    result = collect(load_study(str(shared / "walk" / "study.yaml")), read(shared / "walk" / "journal"))
    assert [trial.status for trial in result.trials] == [TrialStatus.COMPLETED] * 8
    assert (laptop.folder / "runs" / "walk" / "best_config.yaml").exists()

    laptop.ray("down", "--yes", "lab.yaml")
    assert not any("gcs_server" in line for line in head.processes())
