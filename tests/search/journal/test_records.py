"""A trial's record event by event, the best of many, and their table."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest

from search.journal.events import EpochReported, TrialEnded, TrialStatus
from search.journal.records import Epoch, TrialRecord, best_of, ranked
from search.journal.state import StudyState
from search.journal.table import rows
from tests.search.sample_study import EPOCHS, LR, metrics, sample_events, sample_spec, suggested, troubled_events
from trainables.result import METRICS

SPEC = sample_spec()
EVENTS = sample_events(SPEC, (*tuple(TrialStatus)[3:], TrialStatus.RUNNING))


def record(number: int, value: float, status: TrialStatus = TrialStatus.COMPLETED, epochs: int = 2) -> TrialRecord:
    history = tuple(Epoch(e, {"val_accuracy": value if e == epochs else 0.99}) for e in range(1, epochs + 1))
    error = "boom" if status is TrialStatus.FAILED else None
    return TrialRecord(number, "random", {}, {}, status, history=history, error=error)


def test_a_late_result_of_a_trial_that_has_ended_is_ignored() -> None:
    ended = record(1, 0.5)
    assert ended.after(EpochReported(trial=1, epoch=3, metrics={}, time=1)) is ended
    assert ended.after(TrialEnded(trial=1, status=TrialStatus.COMPLETED, time=1)) is ended


def test_searchers_see_averaged_values_until_a_trial_has_completed() -> None:
    history = (
        Epoch(1, {"val_accuracy": 0.2, "averaged_val_accuracy": 0.5, "lr": 0.1}),
        Epoch(2, {"val_accuracy": 0.3, "lr": 0.1}),
        Epoch(3, {"val_accuracy": 0.4, "averaged_val_accuracy": 0.6, "lr": 0.1}),
    )
    stopped = TrialRecord(0, "random", {}, {}, TrialStatus.STOPPED, history=history)
    assert stopped.seen("val_accuracy") == {1: 0.5, 2: 0.3, 3: 0.6}
    assert stopped.seen("lr") == {1: 0.1, 2: 0.1, 3: 0.1}
    assert stopped.value("val_accuracy") == 0.4
    completed = TrialRecord(0, "random", {}, {}, TrialStatus.COMPLETED, history=history)
    assert completed.seen("val_accuracy") == {1: 0.5, 2: 0.3, 3: 0.4}
    patient = TrialRecord(0, "random", {}, {}, TrialStatus.COMPLETED, history=history, best_epoch=1)
    assert patient.seen("val_accuracy")[1] == patient.value("val_accuracy") == 0.2


def test_failed_needs_an_error() -> None:
    with pytest.raises(ValueError, match="error"):
        TrialRecord(0, "random", {}, {}, TrialStatus.FAILED)


def test_the_best_is_the_last_value_of_a_trial_that_completed() -> None:
    stopped = record(0, 0.97, TrialStatus.STOPPED)
    longer = record(5, 0.1, TrialStatus.STOPPED, epochs=3)
    records = [stopped, record(1, 0.8), record(2, 0.9), record(3, 0.9), record(4, 0.98, TrialStatus.FAILED), longer]
    assert [r.number for r in ranked(records, "val_accuracy", "max")] == [2, 3, 1, 5, 4, 0]
    assert [r.number for r in ranked(records, "val_accuracy", "min")] == [1, 2, 3, 5, 0, 4]
    for mode, number in (("max", 2), ("min", 1)):
        best = best_of(records, "val_accuracy", mode)  # type: ignore[arg-type]
        assert best is not None
        assert best.number == number
    assert best_of([stopped], "val_accuracy", "max") is None
    assert best_of([record(0, 0.5)], "unknown", "max") is None


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_never_wins(mode: Any, value: float) -> None:
    best = best_of([record(0, value), record(1, 0.1)], "val_accuracy", mode)
    assert best is not None
    assert best.number == 1
    assert best_of([record(0, value)], "val_accuracy", mode) is None


def test_the_table_has_a_row_per_trial_and_epoch() -> None:
    table = rows(StudyState.of(EVENTS).trials)
    assert table.column_names[:5] == ["trial_id", "status", "stop_reason", "origin", "epoch"]
    assert table.column_names[5 : 5 + len(METRICS)] == list(METRICS)
    shape = list(zip(table["trial_id"].to_pylist(), table["epoch"].to_pylist(), strict=True))
    assert shape == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 1), (1, 2), (2, 1), (3, None), (4, 1), (4, 2)]
    assert table["status"].to_pylist()[6:8] == ["DIVERGED", "FAILED"]
    assert table["val_accuracy"].to_pylist()[3] == metrics(0, EPOCHS)["val_accuracy"]
    assert table["config.optimizer.lr"].to_pylist()[4:6] == [0.002, 0.002]
    assert table.schema.field("epoch").type == pa.int64()
    assert table.schema.field("config.optimizer.lr").type == pa.float64()
    assert table.schema.field("config.optimizer.nesterov").type == pa.bool_()
    empty = rows([])
    assert empty.num_rows == 0
    assert {"trial_id", "epoch", *METRICS} <= set(empty.column_names)


def test_columns_have_one_type_though_optimizers_differ() -> None:
    records = StudyState.of([suggested(SPEC, 0), suggested(SPEC, 1, kind="adamw", beta1=0.8)]).records
    odd: list[dict[str, Any]] = [
        {"x": 1, "y": 1, "z": True},
        {"x": "one", "y": 0.5, "z": None},
        {"y": 2**70, "w": [1, 2]},
    ]
    for number, config in enumerate(odd, 2):
        records[number] = TrialRecord(number, "random", {}, config)
    table = rows(records.values())
    assert table["config.optimizer.momentum"].to_pylist() == [0.9, None, None, None, None]
    assert table["config.optimizer.beta1"].to_pylist() == [None, 0.8, None, None, None]
    assert table["config.x"].to_pylist() == [None, None, "1", "one", None]
    assert table["config.y"].to_pylist() == [None, None, "1", "0.5", str(2**70)]
    assert table["config.z"].to_pylist() == [None, None, True, None, None]
    assert table["config.w"].to_pylist()[4] == "[1, 2]"
    assert table[f"config.{LR}"].type == pa.float64()


def test_a_stopped_trial_keeps_the_cutoff_it_was_compared_with() -> None:
    events = troubled_events(sample_spec())
    promoted = StudyState.of(events[:12]).records[1]
    assert (promoted.status, promoted.cutoff) == (TrialStatus.PAUSED, 0.5)
    after = StudyState.of(events).records
    assert (after[1].status, after[1].cutoff) == (TrialStatus.COMPLETED, None)
    assert (after[2].status, after[2].cutoff) == (TrialStatus.STOPPED, 0.5)
    stopped = StudyState.of(sample_events(sample_spec())).records[1]
    assert (stopped.status, stopped.stop_reason, stopped.cutoff) == (TrialStatus.STOPPED, "rung 2", 0.7)
