"""Trials that take their steps together, in searches of their own: real Ray, real signals."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from search.journal.events import TrialResumed, WorkerLost
from search.journal.log import read
from search.journal.records import TrialRecord, TrialStatus
from tests.search.killed_search import command, environment, journal_lines, result, written
from trainables.config import parse_config
from trainables.trainable import build_trainable

STUDY: dict[str, Any] = {
    "study": "killed",
    "trial": {
        "model": {"kind": "cifar_resnet", "depth": 8},
        "data": {"source": "digits", "train_samples": 256, "val_samples": 128},
        "augment": {"flip": False},
        "batch_size": 32,
        "execution": {"precision": "fp32"},
    },
    "space": {"optimizer": {"lr": {"float": [0.0001, 0.001], "log": True}, "momentum": {"float": [0.5, 0.9]}}},
    "searcher": {"kind": "random"},
    "scheduler": {"kind": "none"},
    "budget": {"trials": 2, "epochs": 24},  # long enough to be interrupted after the host was killed
    "resources": {"fuse": True, "concurrent": 2},
}


def assert_as_alone(trial: TrialRecord, cache: Path) -> None:
    alone = list(build_trainable(parse_config(trial.config), cache).epochs())
    assert trial.status is TrialStatus.COMPLETED
    assert [epoch.epoch for epoch in trial.history] == [epoch.epoch for epoch in alone]
    # At these low learning rates what rounding makes of a loss stays below a thousandth; at 0.1 it is a tenth.
    for epoch, expected in zip(trial.history[:3], alone, strict=False):
        assert math.isclose(epoch.metrics["train_loss"], expected.train_loss, rel_tol=0.01)
        assert math.isclose(epoch.metrics["val_loss"], expected.val_loss, rel_tol=0.01)
    assert math.isclose(trial.history[-1].metrics["val_accuracy"], alone[-1].val_accuracy, abs_tol=0.03)


def host_of(folder: Path) -> int:
    """The process id of the host of the search that was told this folder in its environment."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            named = (process / "cmdline").read_bytes().startswith(b"ray::FusionHost")
            if named and f"SEARCHED_IN={folder}".encode() in (process / "environ").read_bytes().split(b"\0"):
                return int(process.name)
    raise AssertionError("there is no host")


def begin(study: Path, out: Path) -> subprocess.Popen[bytes]:
    """The search, told its folder in its environment, which its workers have from it."""
    settings = ("--set", "resources.checkpoint_minutes=0.005")  # saved within epochs, too
    told = environment() | {"SEARCHED_IN": str(out)}
    with (out / "said.txt").open("a") as said:
        return subprocess.Popen(command(study, out, *settings), env=told, stdout=said)


def wait_for_lines(process: subprocess.Popen[bytes], folder: Path, more: int) -> None:
    wanted = journal_lines(folder) + more
    while process.poll() is None and journal_lines(folder) < wanted:
        time.sleep(0.05)


@pytest.mark.slow
def test_fused_trials_report_what_each_reports_alone_though_killed_and_interrupted(tmp_path: Path) -> None:
    study, folder = written(STUDY, tmp_path), tmp_path / "killed"
    process = begin(study, tmp_path)
    wait_for_lines(process, folder, 4)
    os.kill(host_of(tmp_path), signal.SIGKILL)
    wait_for_lines(process, folder, 5)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130
    assert "take longer together than apart" in " ".join((tmp_path / "said.txt").read_text().split())
    assert begin(study, tmp_path).wait(240) == 0
    events = list(read(folder / "journal"))
    assert {event.cause for event in events if isinstance(event, WorkerLost)} == {"worker_died"}
    assert any(isinstance(event, TrialResumed) and event.reason == "interrupted" for event in events)
    trials = result(tmp_path).trials
    assert len(trials) == STUDY["budget"]["trials"]
    for trial in trials:
        assert_as_alone(trial, tmp_path / "cache")
