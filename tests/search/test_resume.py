"""A search whose driver is killed and run again ends as if nothing had happened: real processes, real SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from search.journal.events import SessionStarted, TrialResumed
from search.journal.log import Journal, read
from search.journal.records import TrialStatus
from search.study.parse import load_study
from tests.search.killed_search import (
    command,
    decisions,
    environment,
    journal_lines,
    mlflow_statuses,
    result,
    run,
    run_with_kills,
    rungs,
    synthetic_study,
    trials,
    uninterrupted,
    written,
)

SCHEDULERS = ("asha", "asha_promote")


def assert_same(interrupted: Path, whole: Path) -> None:
    """Final trials, every rung, every decision and the best config are equal."""
    again, once = result(interrupted), result(whole)
    spec = load_study(str(whole / "killed" / "study.yaml"))
    assert list(trials(again)) == list(trials(once))
    assert rungs(again, spec) == rungs(once, spec)
    assert decisions(interrupted) == decisions(whole)
    best, expected = again.best(), once.best()
    assert best is not None
    assert expected is not None
    assert (best.number, best.config) == (expected.number, expected.config)


def assert_tracked(out: Path) -> None:
    statuses = mlflow_statuses(out)
    assert len(statuses) == len(result(out).trials) + 1
    assert not set(statuses) & {"RUNNING", "SCHEDULED"}


def kill_and_compare(tmp_path: Path, scheduler: str, kills: int, trials: int, most: int) -> None:
    study = written(synthetic_study(scheduler, trials=trials), tmp_path)
    uninterrupted(study, tmp_path / "whole")
    run_with_kills(study, tmp_path / "killed", kills, 1 + kills, "--concurrent", "1", most=most)
    sessions = sum(isinstance(event, SessionStarted) for event in read(tmp_path / "killed" / "killed" / "journal"))
    assert sessions > kills // 2  # some are killed before they begin
    assert_same(tmp_path / "killed", tmp_path / "whole")
    assert_tracked(tmp_path / "killed")


@pytest.mark.parametrize("scheduler", [pytest.param("asha", marks=pytest.mark.slow), "asha_promote"])
def test_killed_at_random_moments_it_ends_as_if_never_stopped(tmp_path: Path, scheduler: str) -> None:
    kill_and_compare(tmp_path, scheduler, kills=3, trials=12, most=12)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_killed_twenty_times_in_a_row_it_ends_as_if_never_stopped(tmp_path: Path, scheduler: str) -> None:
    kill_and_compare(tmp_path, scheduler, kills=20, trials=36, most=4)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_with_four_at_a_time_no_trial_is_lost_or_repeated(tmp_path: Path, scheduler: str) -> None:
    study = written(synthetic_study(scheduler, trials=24), tmp_path)
    options = ("--concurrent", "4", "--cpus-per-trial", "0.25")
    run_with_kills(study, tmp_path, 6, 7, *options, most=12)
    found = result(tmp_path)
    assert [record.number for record in found.trials] == list(range(24))
    assert all(record.status.ended for record in found.trials)
    for record in found.trials:
        assert [epoch.epoch for epoch in record.history] == list(range(1, len(record.history) + 1))
    made = Counter((trial, epoch, action) for trial, epoch, action, _, _ in decisions(tmp_path))
    assert max(made.values()) == 1
    spec = load_study(str(study))
    for level, rung in rungs(found, spec).items():
        arrived = {r.number for r in found.trials if len(r.history) >= level}
        assert set(rung) == arrived
    assert_tracked(tmp_path)


@pytest.mark.slow
def test_real_training_gives_the_same_numbers_however_often_it_was_killed(tmp_path: Path) -> None:
    options = ("--trials", "5", "--epochs", "9", "--concurrent", "1", "--set", "data.train_samples=600")
    settings = ("--set", "resources.checkpoint_minutes=0.005")  # saved within epochs, too
    study = Path("digits_resnet8")
    run(study, tmp_path / "whole", *options, *settings)
    folder = tmp_path / "killed" / "digits_resnet8"
    for lines in (3, 8, 5):
        before = journal_lines(folder)
        process = subprocess.Popen(command(study, tmp_path / "killed", *options, *settings), env=environment())
        while process.poll() is None and journal_lines(folder) < before + lines:
            time.sleep(0.05)
        process.kill()
        process.wait()
    run(study, tmp_path / "killed", *options, *settings)
    again, once = (result(tmp_path / name, "digits_resnet8") for name in ("killed", "whole"))
    assert list(trials(again)) == list(trials(once))
    assert decisions(tmp_path / "killed", "digits_resnet8") == decisions(tmp_path / "whole", "digits_resnet8")


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_the_first_signal_saves_the_trials_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    tree = synthetic_study("asha", trials=4, epochs=4)
    tree["trial"]["model"]["seconds_per_epoch"] = 3.0  # so that the signal comes in the middle of an epoch
    study = written(tree, tmp_path)
    process = subprocess.Popen(
        command(study, tmp_path), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while process.poll() is None and journal_lines(tmp_path / "killed") < 5:
        time.sleep(0.05)
    process.send_signal(number)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 130, text
    assert f"-m search.run {tmp_path}/killed/study.yaml --out {tmp_path}" in text
    waiting = [record for record in result(tmp_path).trials if record.status is TrialStatus.PENDING]
    assert waiting
    saved = list((tmp_path / "killed" / "checkpoints").glob("trial-*/leg-*/epoch-*-step-*.pt"))
    assert saved
    assert pq.read_table(tmp_path / "killed" / "trials.parquet").num_rows > 0
    text = run(tmp_path / "killed" / "study.yaml", tmp_path)
    assert "going on:" in text
    legs = [event for event in read(tmp_path / "killed" / "journal") if isinstance(event, TrialResumed)]
    assert {leg.reason for leg in legs} == {"interrupted"}
    assert_tracked(tmp_path)


@pytest.mark.slow
def test_the_second_signal_stops_at_once(tmp_path: Path) -> None:
    tree = synthetic_study("asha", trials=4, epochs=4)
    tree["trial"]["model"]["seconds_per_epoch"] = 5.0
    study = written(tree, tmp_path)
    process = subprocess.Popen(
        command(study, tmp_path), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while process.poll() is None and journal_lines(tmp_path / "killed") < 3:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in text
    assert any(read(tmp_path / "killed" / "journal"))


@pytest.mark.slow
def test_a_second_driver_is_refused_while_the_first_goes_on(tmp_path: Path) -> None:
    tree = synthetic_study("asha", trials=3, epochs=4)
    tree["trial"]["model"]["seconds_per_epoch"] = 2.0
    study = written(tree, tmp_path)
    first = subprocess.Popen(command(study, tmp_path), env=environment(), stdout=subprocess.DEVNULL)
    while first.poll() is None and journal_lines(tmp_path / "killed") < 2:
        time.sleep(0.05)
    second = subprocess.run(
        command(study, tmp_path), env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert second.returncode == 2
    assert f"process {first.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    assert first.wait(timeout=120) == 0


def made_with_another_torch(folder: Path) -> None:
    started, *events = read(folder)
    assert isinstance(started, SessionStarted)
    (folder / "000001.jsonl").unlink()
    versions = started.versions | {"torch": "1.0.0"}
    journal = Journal(folder, 1)
    for event in (started.model_copy(update={"versions": versions}), *events):
        journal.append(event)


@pytest.mark.slow
def test_a_finished_study_grows_by_more_trials_and_keeps_what_it_has(tmp_path: Path) -> None:
    study = written(synthetic_study("asha", trials=4), tmp_path)
    run(study, tmp_path, "--concurrent", "1")
    lines = journal_lines(tmp_path / "killed")
    text = run(study, tmp_path)  # nothing to do
    assert journal_lines(tmp_path / "killed") == lines
    assert "best config" in text
    before = list(trials(result(tmp_path)))
    made_with_another_torch(tmp_path / "killed" / "journal")
    text = run(study, tmp_path, "--trials", "6", "--concurrent", "1")
    assert "torch was 1.0.0 and is " in text
    assert list(trials(result(tmp_path)))[:4] == before
    assert len(result(tmp_path).trials) == 6
    shrunk = subprocess.run(
        command(study, tmp_path, "--trials", "5"), env=environment(), capture_output=True, text=True, check=False
    )
    assert shrunk.returncode == 2
    assert "--trials: may grow but not shrink" in shrunk.stderr
    other = subprocess.run(
        command(study, tmp_path, "--trials", "6", "--epochs", "5"), env=environment(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert other.returncode == 2
    assert "epochs: 9 -> 5" in other.stderr
    assert journal_lines(tmp_path / "killed") > lines


@pytest.mark.slow
def test_a_torn_last_line_is_no_event(tmp_path: Path) -> None:
    study = written(synthetic_study("asha_promote", trials=5), tmp_path)
    uninterrupted(study, tmp_path / "whole")
    run(study, tmp_path / "torn", "--concurrent", "1")
    segment = tmp_path / "torn" / "killed" / "journal" / "000001.jsonl"
    lines = segment.read_bytes().splitlines(keepends=True)
    kept = b"".join(lines[: len(lines) // 2])
    os.truncate(segment, len(kept) + len(lines[len(lines) // 2]) // 2)
    run(study, tmp_path / "torn", "--concurrent", "1")
    assert_same(tmp_path / "torn", tmp_path / "whole")
