from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from search.driver import StudyDriver
from search.events import Decided, EpochReported, Event, TrialEnded, TrialSuggested
from search.journal import Journal, read
from search.results import TrialStatus
from search.schedulers import build_scheduler
from search.searchers import build_searcher
from search.study import StudySpec, parse_study
from trainables.build import build_trainable
from trainables.config import parse_config

TREE: dict[str, Any] = {
    "study": "toy",
    "trial": {"model": {"kind": "synthetic"}},
    "space": {"optimizer": {"kind": {"choice": {"sgd": {"lr": {"float": [0.01, 10.0], "log": True}}, "adam": {}}}}},
    "recipes": {"bad": {"config": {"optimizer": {"kind": "sgd", "lr": 1e-4}}}},
    "searcher": {"kind": "random"},
    "scheduler": {"kind": "asha", "grace_period": 1, "reduction_factor": 3},
    "budget": {"trials": 20, "epochs": 9},
    "objective": {"metric": "val_accuracy", "mode": "max"},
}


def driver_for(
    tmp_path: Path, session: int = 1, clock: list[float] | None = None, **changes: Any
) -> tuple[StudyDriver, StudySpec, list[Event]]:
    spec = parse_study({**TREE, **changes})
    heard: list[Event] = []
    now = (lambda: clock[0]) if clock else (lambda: 1000.0)
    driver = StudyDriver(
        spec,
        Journal(tmp_path / "journal", session),
        build_searcher(spec),
        build_scheduler(spec),
        {},
        [heard.append],
        now=now,
    )
    return driver, spec, heard


def search_through(driver: StudyDriver) -> None:
    """One trial at a time, each epoch from the real synthetic trial."""
    while (suggested := driver.next_trial()) is not None:
        for result in build_trainable(parse_config(suggested.config), Path()).epochs():
            if driver.on_result(suggested.trial, result.epoch, result.metrics(), result.last, result.stop_reason):
                break


def lines(events: Iterable[Event]) -> list[str]:
    """As text, since a NaN equals nothing."""
    return [event.model_dump_json() for event in events]


def test_a_whole_search(tmp_path: Path) -> None:
    driver, _, heard = driver_for(tmp_path)
    search_through(driver)
    records = driver.records
    assert sorted(records) == list(range(20))
    assert driver.exhausted
    assert driver.running == 0
    assert all(record.status.ended for record in records.values())
    # The recipe is the worst of all, and runs to its end all the same.
    assert records[0].origin == "recipe:bad"
    assert records[0].status is TrialStatus.COMPLETED
    assert len(records[0].history) == 9
    states = {record.status for record in records.values()}
    assert {TrialStatus.COMPLETED, TrialStatus.STOPPED, TrialStatus.DIVERGED} == states
    assert lines(read(tmp_path / "journal")) == lines(heard)


def test_an_event_is_on_disk_before_anybody_hears_of_it(tmp_path: Path) -> None:
    spec = parse_study(TREE)
    behind: list[Event] = []

    def listener(event: Event) -> None:
        if lines([event])[0] not in lines(read(tmp_path / "journal")):
            behind.append(event)

    journal = Journal(tmp_path / "journal", 1)
    driver = StudyDriver(spec, journal, build_searcher(spec), build_scheduler(spec), {}, [listener], now=lambda: 1.0)
    search_through(driver)
    assert not behind


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["val_accuracy", "train_loss"])
def test_a_value_that_is_not_finite_never_reaches_a_rung(tmp_path: Path, bad: float, name: str) -> None:
    driver, _, heard = driver_for(tmp_path, recipes={})
    assert driver.next_trial() is not None
    metrics = {"val_accuracy": 0.5, "train_loss": 1.0, name: bad}
    assert driver.on_result(0, 1, metrics)
    assert driver.records[0].status is TrialStatus.DIVERGED
    assert not any(isinstance(event, Decided) for event in heard)


def test_a_repeated_epoch_changes_nothing(tmp_path: Path) -> None:
    driver, _, heard = driver_for(tmp_path)
    driver.next_trial()
    metrics = {"val_accuracy": 0.5, "train_loss": 1.0}
    assert not driver.on_result(0, 1, metrics)
    count = len(heard)
    assert not driver.on_result(0, 1, {"val_accuracy": 0.9, "train_loss": 1.0})
    assert len(heard) == count
    assert driver.records[0].value("val_accuracy") == 0.5


def test_nothing_more_is_taken_from_a_trial_that_has_ended(tmp_path: Path) -> None:
    driver, _, heard = driver_for(tmp_path)
    driver.next_trial()
    driver.on_error(0, "out of memory")
    assert driver.records[0].status is TrialStatus.FAILED
    assert driver.records[0].error == "out of memory"
    count = len(heard)
    assert driver.on_result(0, 1, {"val_accuracy": 0.5, "train_loss": 1.0})
    driver.on_error(0, "again")
    assert len(heard) == count
    assert driver.running == 0


def test_the_budget_in_hours_stops_what_runs_and_starts_nothing_more(tmp_path: Path) -> None:
    clock = [1000.0]
    driver, _, _ = driver_for(tmp_path, clock=clock, budget={"trials": 20, "epochs": 9, "hours": 0.5})
    driver.next_trial()
    metrics = {"val_accuracy": 0.5, "train_loss": 1.0}
    assert not driver.on_result(0, 1, metrics)
    clock[0] += 1800
    assert driver.on_result(0, 2, metrics)
    assert (driver.records[0].status, driver.records[0].stop_reason) == (TrialStatus.STOPPED, "hours")
    assert driver.next_trial() is None
    assert driver.exhausted


def test_a_grid_that_is_used_up_ends_the_search(tmp_path: Path) -> None:
    space = {"batch_size": {"choice": [32, 64]}}
    driver, _, _ = driver_for(tmp_path, searcher={"kind": "grid"}, space=space, recipes={})
    search_through(driver)
    assert [record.config["batch_size"] for record in driver.records.values()] == [32, 64]
    assert driver.exhausted


def test_every_rung_decision_is_written_with_its_cutoff(tmp_path: Path) -> None:
    driver, _, heard = driver_for(tmp_path)
    search_through(driver)
    decided = [event for event in heard if isinstance(event, Decided)]
    assert {event.rung for event in decided} == {1, 3}
    stopped = {event.trial for event in decided if event.action == "stop"}
    ended = {e.trial for e in heard if isinstance(e, TrialEnded) and e.status is TrialStatus.STOPPED}
    assert stopped == ended
    assert all(event.cutoff is not None and math.isfinite(event.cutoff) for event in decided)
    order = [type(event) for event in heard if getattr(event, "trial", None) == min(stopped)]
    assert order[0] is TrialSuggested
    assert order[-3:] == [EpochReported, Decided, TrialEnded]
