"""A search whose driver is killed and run again ends as if nothing had happened: real processes, real SIGKILL."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from search.journal.events import SessionStarted, TrialResumed
from search.journal.log import read
from search.journal.records import TrialStatus
from search.study.parse import load_study
from tests.search.killed_search import (
    begin,
    command,
    decisions,
    environment,
    result,
    run,
    run_with_kills,
    rungs,
    synthetic_study,
    trials,
    uninterrupted,
    written,
)
from tests.search.mlflow_contents import statuses


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
    found = statuses(f"sqlite:///{out}/mlflow.db", "killed")
    assert len(found) == len(result(out).trials) + 1
    assert not set(found) & {"RUNNING", "SCHEDULED"}


@pytest.mark.slow
@pytest.mark.parametrize(("scheduler", "kills", "most"), [("asha_promote", 2, 12), ("asha", 4, 6)])
def test_killed_at_random_moments_it_ends_as_if_never_stopped(
    tmp_path: Path, scheduler: str, kills: int, most: int
) -> None:
    tree = synthetic_study(scheduler)
    tree["trial"]["model"]["seconds_per_epoch"] = 0.1  # so that it is not over before it is killed
    study = written(tree, tmp_path)
    uninterrupted(study, tmp_path / "whole")
    run_with_kills(study, tmp_path / "killed", kills, 1 + kills, "--concurrent", "1", most=most)
    sessions = sum(isinstance(event, SessionStarted) for event in read(tmp_path / "killed" / "killed" / "journal"))
    assert sessions > kills // 2  # some are killed before they begin
    assert_same(tmp_path / "killed", tmp_path / "whole")
    assert_tracked(tmp_path / "killed")


@pytest.mark.slow
def test_with_four_at_a_time_no_trial_is_lost_or_repeated(tmp_path: Path) -> None:
    study = written(synthetic_study("asha_promote", trials=18), tmp_path)
    options = ("--concurrent", "4", "--cpus-per-trial", "0.25")
    run_with_kills(study, tmp_path, 2, 7, *options)
    found = result(tmp_path)
    assert [record.number for record in found.trials] == list(range(18))
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
    options = ("--trials", "4", "--epochs", "4", "--concurrent", "1", "--set", "data.train_samples=600")
    options += ("--no-refit", "--set", "resources.checkpoint_minutes=0.005")  # saved within epochs, too
    study = Path("digits_resnet8")
    run(study, tmp_path / "whole", *options)
    for lines in (3, 6):
        process = begin(study, tmp_path / "killed", lines, *options, name="digits_resnet8")
        assert process.poll() is None
        process.kill()
        process.communicate()
    run(study, tmp_path / "killed", *options)
    again, once = (result(tmp_path / name, "digits_resnet8") for name in ("killed", "whole"))
    assert list(trials(again)) == list(trials(once))
    assert decisions(tmp_path / "killed", "digits_resnet8") == decisions(tmp_path / "whole", "digits_resnet8")


@pytest.mark.slow
def test_the_first_signal_saves_the_trials_and_says_how_to_resume(tmp_path: Path) -> None:
    tree = synthetic_study("asha", trials=2, epochs=5)
    tree["trial"]["model"]["seconds_per_epoch"] = 3.0  # so that the signal comes in the middle of an epoch
    process = begin(written(tree, tmp_path), tmp_path, 4)  # the session, two trials and an epoch
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 130, text
    assert f"-m search.run {tmp_path}/killed/study.yaml --out {tmp_path}" in text
    waiting = [record for record in result(tmp_path).trials if record.status is TrialStatus.PENDING]
    assert waiting
    saved = list((tmp_path / "killed" / "checkpoints").glob("trial-*/leg-*/epoch-*-step-*.pt"))
    assert saved
    assert pq.read_table(tmp_path / "killed" / "trials.parquet").num_rows > 0
    text = run(tmp_path / "killed" / "study.yaml", tmp_path)
    assert "continuing:" in text
    legs = [event for event in read(tmp_path / "killed" / "journal") if isinstance(event, TrialResumed)]
    assert {leg.reason for leg in legs} == {"interrupted"}
    assert_tracked(tmp_path)


@pytest.mark.slow
def test_a_second_driver_is_refused_and_a_second_signal_stops_the_first_at_once(tmp_path: Path) -> None:
    tree = synthetic_study("asha", trials=4, epochs=9)
    tree["trial"]["model"]["seconds_per_epoch"] = 10.0
    study = written(tree, tmp_path)
    first = begin(study, tmp_path, 2)
    second = subprocess.run(
        command(study, tmp_path), env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert second.returncode == 2
    assert f"process {first.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    first.send_signal(signal.SIGINT)
    time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    text, _ = first.communicate(timeout=120)
    assert first.returncode != 0
    assert "Traceback" not in text
    assert any(read(tmp_path / "killed" / "journal"))


@pytest.mark.slow
def test_a_finished_study_grows_by_more_trials_and_keeps_what_it_has(tmp_path: Path) -> None:
    study = written(synthetic_study("asha", trials=4), tmp_path)
    uninterrupted(study, tmp_path, torch="1.0.0")
    before = list(trials(result(tmp_path)))
    text = run(study, tmp_path, "--trials", "6", "--concurrent", "1")
    assert "torch was 1.0.0 and is " in text
    assert list(trials(result(tmp_path)))[:4] == before
    assert len(result(tmp_path).trials) == 6
