"""A search on a real cluster of two machines (see `lab`), made by `ray up` from deploy/onprem.yaml and this checkout.

What the file says is followed to the letter but for addresses, login, one CPU a machine and its workers' priority. The
second machine says that it has a GPU, which it has not: trials are told to use none.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from mlflow.tracking import MlflowClient

from search.journal.events import EpochReported, TrialEnded, TrialSuggested, WorkerLost
from search.journal.log import read
from search.journal.records import TrialStatus
from search.journal.result import collect
from search.study.parse import load_study
from tests.search.lab import Lab, why_not
from tests.search.laptop import ROOT, Laptop, until

STUDY = {
    "study": "walk",
    "trial": {"model": {"kind": "synthetic", "seconds_per_epoch": 2.0}, "data": {"source": "synthetic"}},
    "space": {"optimizer": {"lr": {"float": [1e-4, 1.0], "log": True}}},
    "recipes": {"plain": {"description": "d", "source": "s", "config": {"optimizer": {"lr": 0.01}}}},
    "searcher": {"kind": "random"},
    "scheduler": {"kind": "none"},
    "budget": {"trials": 4, "epochs": 12},  # 4 epochs with --smoke
}

NO_GPU = ("--gpus-per-trial", "0")
# Two nodes share this machine: each is slow to come up, and its workers must not give way to all else. A machine that
# does not answer is given up after seconds, not a minute.
SETTINGS = (
    "RAY_agent_register_timeout_ms=300000 RAY_worker_niceness=0 RAY_health_check_period_ms=1000 "
    "RAY_health_check_timeout_ms=3000 RAY_health_check_failure_threshold=4"
)


def saved(study: Path) -> bool:
    """Whether each of two trials that run would go on from a checkpoint."""
    events = list(read(study / "journal"))
    ended = {event.trial for event in events if isinstance(event, TrialEnded)}
    live = {event.trial for event in events if isinstance(event, TrialSuggested)} - ended
    return len(live & {event.trial for event in events if isinstance(event, EpochReported) and event.checkpoint}) == 2


def ended(runs: Path) -> list[TrialEnded]:
    """The trials of the second search that are over."""
    events = [event for study in runs.glob("walk-*") for event in read(study / "journal")]
    return [event for event in events if isinstance(event, TrialEnded)]


def runs_in_mlflow(laptop: Laptop, study: str) -> int:
    with laptop.ui(study) as address:
        with urllib.request.urlopen(address.partition("#")[0], timeout=30) as page:  # noqa: S310 (this machine)
            assert b"MLflow" in page.read()
        experiment = address.partition("/#/experiments/")[2].partition("/")[0]
        return len(MlflowClient(address.partition("/#")[0]).search_runs([experiment]))


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
    for key, gpus in (("head_start_ray_commands", 0), ("worker_start_ray_commands", 1)):
        start = f"{SETTINGS} ray start --num-cpus=1 --num-gpus={gpus}"
        tree[key] = [command.replace("ray start", start) for command in tree[key]]
    laptop = Laptop(tmp_path / "laptop", tree)
    laptop.prepare()
    return laptop


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_search_on_two_machines_survives_what_happens_to_them(lab: Lab, laptop: Laptop) -> None:
    head, worker = lab.nodes
    runs = head.home / "resnet-search" / "runs"
    not_up = laptop.search("digits_resnet8", code=2)
    assert "--cluster" in not_up
    assert "ray up lab.yaml" in not_up
    assert "Traceback" not in not_up

    laptop.ray("up", "--yes", "lab.yaml")

    # The head would search on the GPU, has none to time an epoch on, and says so.
    assert "time: not known" in laptop.search("digits_resnet8", "--dry-run")

    # A search whose user closes the laptop, and whose second machine is lost.
    # Long enough for the lost machine to be noticed, after 30 to 45 s.
    options = ["digits_resnet8", "--trials", "5", "--epochs", "120", "--no-refit", *NO_GPU]
    options += ["--set", "scheduler.kind=none"]
    process, printed = laptop.start(*options)
    until(lambda: head.trains() and worker.trains(), 600, process, printed)
    process.kill()
    process.wait()
    process, printed = laptop.start(*options)
    until(lambda: "is followed" in printed.read_text(), 180, process, printed)
    until(lambda: saved(runs / "digits_resnet8") and worker.trains(), 180, process, printed)
    worker.kill()
    assert process.wait(900) == 0, printed.read_text()
    text = printed.read_text()
    assert "cluster: 2 nodes with 2 CPUs and 1 GPU" in text
    assert "lost its worker (worker_died), gets another" in text
    assert "cluster: 1 node with 1 CPU and 0 GPUs" in text
    assert "Traceback" not in text
    brought = laptop.folder / "runs" / "digits_resnet8"
    assert f"best config: {brought.relative_to(laptop.folder)}/best_config.yaml" in text
    events = list(read(brought / "journal"))
    (at,) = (number for number, event in enumerate(events) if isinstance(event, WorkerLost))
    later = [e.epoch for e in events[at:] if isinstance(e, EpochReported) and e.trial == events[at].trial]
    assert later[0] > 1
    assert later == list(range(later[0], 121))
    result = collect(load_study(str(brought / "study.yaml")), events)
    assert [trial.status for trial in result.trials] == [TrialStatus.COMPLETED] * 5
    best = result.best()
    assert best is not None
    assert best.checkpoint is not None
    (checkpoint,) = (brought / "checkpoints").rglob("*.pt")  # the best trial's, and no other
    assert best.checkpoint.endswith(str(checkpoint.relative_to(brought)))
    assert "next:" not in text  # what can be typed on the head
    assert "search.refit digits_resnet8" in text
    laptop.run([sys.executable, "-m", "trainables.evaluate", str(checkpoint), "--split", "test"])
    laptop.run([sys.executable, "-m", "search.status", "digits_resnet8"])
    assert runs_in_mlflow(laptop, "digits_resnet8") == 6  # the search and its trials

    # A smoke run whose head is lost; the machine that was away is back.
    worker.start()
    runs /= "smoke"
    study = laptop.folder / "walk.yaml"
    study.write_text(yaml.safe_dump(STUDY))
    process, printed = laptop.start("walk.yaml", "--smoke", "--fresh", *NO_GPU)
    until(lambda: len(ended(runs)) >= 2, 600, process, printed)
    head.kill()
    assert process.wait(180) == 1
    (again,) = re.findall(
        r"^  python -m (.*--smoke.*)   # follow it again; if the head is lost", printed.read_text(), re.M
    )
    for lost in ("runs", "mlflow", "cache"):  # what the search had left on its disk
        shutil.rmtree(head.home / "resnet-search" / lost)
    head.start()
    laptop.ray("up", "--yes", "lab.yaml")
    assert "continuing:" in laptop.run([sys.executable, "-m", *again.split()])
    (walk,) = runs.glob("walk-*")  # --fresh names a study after its job
    result = collect(load_study(str(walk / "study.yaml")), read(walk / "journal"))
    assert [trial.status for trial in result.trials] == [TrialStatus.COMPLETED] * 4
    assert (laptop.folder / "runs" / "smoke" / walk.name / "best_config.yaml").exists()
    assert runs_in_mlflow(laptop, walk.name) == 5

    laptop.ray("down", "--yes", "lab.yaml")
    assert not any("gcs_server" in line for line in head.processes())
