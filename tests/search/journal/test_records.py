"""Records folded from events, the best of them, and their table."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.journal.events import EpochReported, Event, SessionEnded, SessionStarted, TrialEnded, TrialStatus
from search.journal.records import BEST_RULE, Epoch, TrialRecord, best_of, collect, fold, rows
from tests.search.sample_study import EPOCHS, LR, metrics, sample_events, sample_spec, suggested, trial_events
from trainables.config import ConfigError
from trainables.result import METRICS

SPEC = sample_spec()
EVENTS = [
    e for e in sample_events(SPEC, (*tuple(TrialStatus)[3:], TrialStatus.RUNNING))
    if not isinstance(e, EpochReported) or not math.isnan(e.metrics["train_loss"])
]  # fmt: skip


def folded(events: list[Event], records: dict[int, TrialRecord] | None = None) -> dict[int, TrialRecord]:
    records = {} if records is None else records
    for event in events:
        fold(records, event)
    return records


def record(number: int, value: float, status: TrialStatus = TrialStatus.COMPLETED, epochs: int = 2) -> TrialRecord:
    history = tuple(Epoch(e, {"val_accuracy": value if e == epochs else 0.99}) for e in range(1, epochs + 1))
    error = "boom" if status is TrialStatus.FAILED else None
    return TrialRecord(number, "random", {}, {}, status, history=history, error=error)


def test_each_status_is_what_the_journal_told() -> None:
    records = folded(EVENTS[:-1])
    assert [r.status for r in records.values()] == [
        TrialStatus.COMPLETED, TrialStatus.STOPPED, TrialStatus.DIVERGED, TrialStatus.FAILED, TrialStatus.RUNNING,
    ]  # fmt: skip
    assert [r.stop_reason for r in records.values()] == ["epochs", "rung 2", "diverged", None, None]
    assert [e.epoch for e in records[0].history] == [1, 2, 3, 4]
    assert records[0].history[3].metrics == metrics(0, 4)
    assert records[3].error == "RuntimeError: boom"
    assert records[0].started is not None
    assert records[0].ended == records[0].started + 1


@given(st.integers(0, len(EVENTS)))
def test_folding_a_prefix_and_then_the_rest_is_folding_all(cut: int) -> None:
    assert folded(EVENTS[cut:], folded(EVENTS[:cut])) == folded(EVENTS)


@given(st.data())
def test_a_repeated_event_of_a_trial_changes_nothing(data: st.DataObject) -> None:
    events = list(EVENTS)
    told = [i for i, event in enumerate(EVENTS) if not isinstance(event, SessionStarted | SessionEnded)]
    for _ in range(data.draw(st.integers(1, 6))):
        index = data.draw(st.sampled_from(told))
        again = data.draw(st.integers(events.index(EVENTS[index]) + 1, len(events)))
        events.insert(again, EVENTS[index])
    assert folded(events) == folded(EVENTS)


def test_an_interrupted_trial_waits_and_goes_on() -> None:
    running = [*EVENTS[:1], *trial_events(SPEC, 0, TrialStatus.RUNNING)]
    records = folded(running)
    assert records[0].status == "RUNNING"
    fold(records, SessionStarted(session=2, time=1, versions={}))
    assert records[0].status == "PENDING"
    fold(records, EpochReported(trial=0, epoch=3, metrics={}, checkpoint="c3", time=1))
    assert (records[0].status, records[0].checkpoint, len(records[0].history)) == (TrialStatus.RUNNING, "c3", 3)


def test_a_late_result_of_a_trial_that_has_ended_is_ignored() -> None:
    records = folded(EVENTS)
    before = dict(records)
    fold(records, EpochReported(trial=1, epoch=3, metrics={}, time=1))
    fold(records, TrialEnded(trial=1, status=TrialStatus.COMPLETED, time=1))
    assert records == before


def test_a_result_without_a_beginning_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"beginning.*trial 7"):
        fold({}, EpochReported(trial=7, epoch=1, metrics={}, time=1))


def test_failed_needs_an_error() -> None:
    with pytest.raises(ValueError, match="error"):
        TrialRecord(0, "random", {}, {}, TrialStatus.FAILED)


def test_the_best_is_the_last_value_of_a_trial_that_ran_to_its_end() -> None:
    stopped = record(0, 0.97, TrialStatus.STOPPED)
    records = [stopped, record(1, 0.8), record(2, 0.9), record(3, 0.9), record(4, 0.98, TrialStatus.FAILED)]
    best = best_of(records, "val_accuracy", "max")
    assert best is not None
    assert best.number == 2
    worst = best_of(records, "val_accuracy", "min")
    assert worst is not None
    assert worst.number == 1
    assert best_of([stopped], "val_accuracy", "max") is None
    assert best_of([record(0, 0.5)], "unknown", "max") is None


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_never_wins(mode: str, value: float) -> None:
    best = best_of([record(0, value), record(1, 0.1)], "val_accuracy", mode)  # type: ignore[arg-type]
    assert best is not None
    assert best.number == 1
    assert best_of([record(0, value)], "val_accuracy", "max") is None


def test_a_result_knows_what_made_it() -> None:
    result = collect(SPEC, EVENTS)
    assert [r.number for r in result.trials] == [0, 1, 2, 3, 4]
    assert (result.git, result.fingerprint, result.versions["torch"]) == ("abc123", "f00d", "2.14.1")
    best = result.best()
    assert best is not None
    assert best.number == 0
    assert "highest val_accuracy" in BEST_RULE.format(mode="highest", metric="val_accuracy")


def test_the_table_has_a_row_per_trial_and_epoch() -> None:
    table = rows(folded(EVENTS).values())
    assert table.column_names[:5] == ["trial_id", "status", "stop_reason", "origin", "epoch"]
    assert table.column_names[5 : 5 + len(METRICS)] == list(METRICS)
    shape = list(zip(table["trial_id"].to_pylist(), table["epoch"].to_pylist(), strict=True))
    assert shape == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 1), (1, 2), (2, None), (3, None), (4, 1), (4, 2)]
    assert table["status"].to_pylist()[6:8] == ["DIVERGED", "FAILED"]
    assert table["val_accuracy"].to_pylist()[3] == metrics(0, EPOCHS)["val_accuracy"]
    assert table["config.optimizer.lr"].to_pylist()[4:6] == [0.002, 0.002]
    assert table.schema.field("epoch").type == pa.int64()
    assert table.schema.field("config.optimizer.lr").type == pa.float64()
    assert table.schema.field("config.optimizer.nesterov").type == pa.bool_()


def test_columns_have_one_type_though_optimizers_differ() -> None:
    records = folded([suggested(SPEC, 0), suggested(SPEC, 1, kind="adamw", beta1=0.8)])
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
    assert table[LR.join(("config.", ""))].type == pa.float64()


def test_no_trials_give_an_empty_table() -> None:
    table = rows([])
    assert table.num_rows == 0
    assert {"trial_id", "epoch", *METRICS} <= set(table.column_names)
