"""Every accident that docs/reliability.md lists, made to happen: real workers killed, real disks filled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from search.journal.events import WorkerLost
from search.journal.log import read
from search.journal.records import TrialRecord, TrialStatus
from search.storage.checkpoints import checkpoints
from search.storage.remote import local_storage
from tests.search.faulty_search import MEMORY
from tests.search.killed_search import (
    begin,
    command,
    decisions,
    environment,
    journal_lines,
    result,
    run,
    synthetic_study,
    trials,
    uninterrupted,
    written,
)
from tests.search.mlflow_contents import statuses
from trainables.checkpoints.checkpoint import load_checkpoint, save_checkpoint

ROOT = Path(__file__).parents[2]


def small_study(epochs: int = 6, **resources: Any) -> dict[str, Any]:
    """Three trials without a scheduler; the first is the recipe, and each epoch is saved at its end."""
    tree = synthetic_study("asha", trials=3, epochs=epochs)
    tree["scheduler"] = {"kind": "none"}
    tree["trial"]["model"] |= {"seconds_per_epoch": 0.05, "diverge_above": 10.0}
    return tree | {"resources": {"concurrent": 1, **resources}}


def run_faulty(
    study: Path, out: Path, fault: str, times: int, trial: int = 1, epoch: int = 3, **variables: str
) -> subprocess.CompletedProcess[str]:
    """A search in which the worker of `trial` has the accident `times` times, before it can report `epoch`."""
    folder = out / "accidents"
    folder.mkdir(parents=True)
    arguments = [fault, str(trial), str(epoch), str(times), str(folder), str(study), "--out", str(out)]
    return subprocess.run(
        [sys.executable, "-m", "tests.search.faulty_search", *arguments], cwd=ROOT, capture_output=True, text=True,
        timeout=240, check=False, env=environment() | {"PYTHONPATH": str(ROOT), **variables},
    )  # fmt: skip


def losses(out: Path) -> list[WorkerLost]:
    return [event for event in read(out / "killed" / "journal") if isinstance(event, WorkerLost)]


def first(out: Path) -> TrialRecord:
    """The trial that had the accidents."""
    return result(out).trials[1]


def assert_as_without_accidents(study: Path, out: Path) -> None:
    """The trials are those of the same search as the driver alone makes it."""
    uninterrupted(study, out / "undisturbed")
    assert list(trials(result(out))) == list(trials(result(out / "undisturbed")))


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "cause"), [("die", "worker_died"), ("hang", "timeout")])
def test_a_trial_that_loses_its_worker_once_gets_another_and_ends_as_if_nothing_had_happened(
    tmp_path: Path, fault: str, cause: str
) -> None:
    study = written(small_study(timeout_minutes=0.1), tmp_path)
    done = run_faulty(study, tmp_path, fault, times=1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [loss.cause for loss in losses(tmp_path)] == [cause]
    assert_as_without_accidents(study, tmp_path)
    assert f"trial   1 tpe            lost its worker ({cause})" in done.stdout


@pytest.mark.slow
def test_an_error_that_stays_fails_the_trial_after_max_failures_and_the_others_go_on(tmp_path: Path) -> None:
    done = run_faulty(written(small_study(epochs=3, max_failures=1), tmp_path), tmp_path, "raise", times=99)
    assert done.returncode == 0, done.stdout + done.stderr
    failed = first(tmp_path)
    assert failed.status is TrialStatus.FAILED
    assert "ValueError: the disk of the images has a bad block" in str(failed.error)
    assert [loss.cause for loss in losses(tmp_path)] == ["error"] * 2
    assert [record.status for record in result(tmp_path).trials].count(TrialStatus.COMPLETED) == 2
    assert statuses(f"sqlite:///{tmp_path}/mlflow.db", "killed") == ["FAILED", "FINISHED", "FINISHED", "FINISHED"]


@pytest.mark.slow
def test_a_trial_that_takes_all_memory_is_ended_and_tells_so(tmp_path: Path) -> None:
    memory = {
        name: int(amount.split()[0]) * 1024
        for name, amount in (line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    }
    # Ray ends workers above it; the accident takes twice as much, and other work on this machine leaves it alone.
    threshold = 1 - (memory["MemAvailable"] - MEMORY / 2) / memory["MemTotal"]
    if memory["MemAvailable"] < 1.5 * MEMORY:
        pytest.skip(f"needs {1.5 * MEMORY / 1e9:.0f} GB of free memory")
    variables = {"RAY_memory_usage_threshold": f"{threshold:.4f}"}
    done = run_faulty(written(small_study(), tmp_path), tmp_path, "memory", times=1, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [loss.cause for loss in losses(tmp_path)] == ["worker_died"]
    assert "low on memory" in losses(tmp_path)[0].error
    assert first(tmp_path).status is TrialStatus.COMPLETED


def checkpoint_paths(out: Path, trial: int) -> list[Path]:
    return [out / "killed" / name for name in checkpoints(local_storage(out / "killed"), trial)]


@pytest.mark.slow
def test_checkpoints_that_cannot_be_used_cost_the_epochs_since_the_one_before(tmp_path: Path) -> None:
    tree = small_study(epochs=16)
    tree["trial"]["model"]["seconds_per_epoch"] = 0.5
    tree["budget"]["trials"] = 1
    process = begin(written(tree, tmp_path), tmp_path, 13)  # an epoch was saved after five seconds
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=90)
    assert process.returncode == 130, text
    newest, second, *_ = checkpoint_paths(tmp_path, 0)
    state = load_checkpoint(newest)
    state["config"]["optimizer"]["lr"] *= 2
    save_checkpoint(state, newest)
    os.truncate(second, second.stat().st_size // 2)
    (before,) = result(tmp_path).trials
    text = run(tmp_path / "killed" / "study.yaml", tmp_path)
    assert "trial 0 resumes from an earlier checkpoint" in text
    assert newest.name in text
    assert second.name in text
    (after,) = result(tmp_path).trials
    assert after.status is TrialStatus.COMPLETED
    assert after.history[: len(before.history)] == before.history
    assert [epoch.epoch for epoch in after.history] == list(range(1, 17))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 80 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"a file system of its own needs the right to mount one: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_interrupts_the_search_and_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    tree = small_study()
    tree["trial"]["model"]["seconds_per_epoch"] = 0.4
    study = written(tree, tmp_path)
    out = small_disk / "runs"
    process = begin(study, out, 9)
    filler = small_disk / "filler"
    with filler.open("wb") as file:
        try:
            while True:
                file.write(b"x" * 65536)
                file.flush()
        except OSError:
            pass  # it is full
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 1, text
    assert "Traceback" not in text
    assert "No space left on device" in text or "must stay free" in text
    assert "continues without a checkpoint" in text
    assert list(trials(result(out)))
    filler.unlink()
    run(study, out)
    uninterrupted(study, tmp_path / "whole")
    assert list(trials(result(out))) == list(trials(result(tmp_path / "whole")))
    assert decisions(out) == decisions(tmp_path / "whole")


def test_too_little_disk_is_told_before_the_search(small_disk: Path, tmp_path: Path) -> None:
    (small_disk / "filler").write_bytes(b"x" * 60_000_000)
    done = subprocess.run(
        command(written(small_study(), tmp_path), small_disk / "runs"), env=environment(), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "must have about" in done.stderr
    assert not journal_lines(small_disk / "runs" / "killed")


@pytest.mark.slow
def test_the_trials_of_a_lost_node_go_on_elsewhere(tmp_path: Path) -> None:
    tree = small_study(epochs=40, concurrent=2)  # so long that the second begins before the first has ended
    tree["trial"]["model"]["seconds_per_epoch"] = 0.5
    tree["budget"]["trials"] = 2
    tree["recipes"] = {}
    study = written(tree, tmp_path)
    soon = {"health_check_period_ms": 1000, "health_check_timeout_ms": 2000, "health_check_failure_threshold": 3}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "_system_config": soon})
    try:
        lost = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        process = begin(study, tmp_path, 1, RAY_ADDRESS=cluster.address)
        while process.poll() is None and not both_under_way(tmp_path):
            time.sleep(0.2)
        cluster.remove_node(lost, allow_graceful=False)
        text, _ = process.communicate(timeout=300)
    finally:
        cluster.shutdown()
    assert process.returncode == 0, text
    assert {loss.cause for loss in losses(tmp_path)} == {"worker_died"}
    found = result(tmp_path).trials
    assert [record.status for record in found] == [TrialStatus.COMPLETED] * 2
    for record in found:
        assert [epoch.epoch for epoch in record.history] == list(range(1, 41))


def both_under_way(out: Path) -> bool:
    """Whether both trials have come so far that there are checkpoints of them."""
    return all(checkpoint_paths(out, trial) for trial in (0, 1))
