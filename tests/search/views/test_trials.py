"""All trials of a study, on a terminal and in a file."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from search.journal.records import COLLAPSED
from search.journal.result import StudyResult, collect
from search.trials import trials
from search.views.trials import sorted_trials, why_ended
from tests.conftest import Typed
from tests.search.sample_study import LR, metrics, sample_events, sample_spec, troubled_events, write_study
from trainables.config import ConfigError

SPEC = sample_spec()


@pytest.fixture
def result(tmp_path: Path) -> StudyResult:
    write_study(tmp_path / "runs" / "sample", SPEC, sample_events(SPEC))
    return collect(SPEC, sample_events(SPEC))


def numbers(result: StudyResult, by: str) -> list[int]:
    return [record.number for record in sorted_trials(result, by)]


def test_trials_are_sorted_as_is_asked(result: StudyResult) -> None:
    assert numbers(result, "best") == [4, 0, 5, 1, 2, 3]
    assert numbers(result, "trial") == [0, 1, 2, 3, 4, 5]
    assert numbers(result, "epochs") == [0, 4, 1, 5, 2, 3]
    by_loss = numbers(result, "val_loss")  # the lower is the better, and two have none
    assert (by_loss[0], by_loss[-2:]) == (4, [2, 3])
    assert numbers(result, LR) == numbers(result, "lr") == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ConfigError, match=r"--sort: must be one of best, trial, .*optimizer\.lr"):
        sorted_trials(result, "learning_rate")


def test_why_a_trial_ended(result: StudyResult) -> None:
    value = metrics(1, 2)["val_accuracy"]
    assert [why_ended(record, SPEC.objective) for record in result.trials] == [
        "epochs", f"rung 2: {value:.4f} < 0.7000", "diverged", "failed: RuntimeError: boom", "epochs",
        f"rung 2: {value + 0.04:.4f} < 0.7000",
    ]  # fmt: skip
    unpromoted = collect(SPEC, troubled_events(SPEC)).trials[2]  # it was above the cutoff when it was paused
    assert why_ended(unpromoted, SPEC.objective) == "rung 2"
    history = tuple(replace(epoch, collapsed="one class") for epoch in unpromoted.history)
    assert why_ended(replace(unpromoted, history=history), SPEC.objective) == "rung 2, collapsed (one class)"
    last = result.trials[1].history[-1]
    averaged = replace(last, metrics={**last.metrics, "averaged_val_accuracy": 0.61})
    record = replace(result.trials[1], history=(*result.trials[1].history[:-1], averaged))
    assert why_ended(record, SPEC.objective) == "rung 2: averaged 0.6100 < 0.7000"
    guarded = replace(unpromoted, history=history, stop_reason=COLLAPSED)
    assert why_ended(guarded, SPEC.objective) == "collapsed (one class)"


def test_the_table_fits_a_terminal(result: StudyResult, typed: Typed) -> None:
    lines = typed(trials, "sample").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    rows = [" ".join(line.split()) for line in lines]
    assert rows[:1] == ["sample: 6 trials; value is val_accuracy"]
    assert "4 random 0.6400 4 epochs 0.005" in rows
    assert "1 random 0.5600 rung 2 < 0.7000 0.002" in rows
    assert "2 random 0.5450 diverged, 1 0.003" in rows
    assert "more setting" not in rows[-1]
    best = [line.split()[0] for line in typed(trials, "sample", "--top", "2").stdout.splitlines()[5:7]]
    assert best == ["4", "0"]


def test_a_file_has_every_setting(tmp_path: Path, result: StudyResult, typed: Typed) -> None:
    assert typed(trials, "sample", "--to", "t.csv").stdout == "6 trials: t.csv\n"
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == ["4", "0", "5", "1", "2", "3"]
    assert (rows[3]["rung"], rows[3]["cutoff"], rows[3][LR]) == ("2", "0.7", "0.002")
    typed(trials, "sample", "--to", "t.parquet", "--sort", "trial")
    table = pq.read_table(tmp_path / "t.parquet")
    assert table.column_names == list(rows[0])
    assert table[LR].to_pylist() == [record.config["optimizer"]["lr"] for record in result.trials]
    assert table["cutoff"].to_pylist() == [None, 0.7, None, None, None, 0.7]
    typed(trials, "sample", "--to", "t.md")
    lines = (tmp_path / "t.md").read_text().splitlines()
    assert {line.count("|") for line in lines} == {len(rows[0]) + 1}
    assert "must end in .csv, .parquet or .md" in typed(trials, "sample", "--to", "t.xlsx").stderr
