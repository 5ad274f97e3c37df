from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.algorithms.optuna_export import optuna_study
from search.algorithms.schedulers.registry import build_scheduler
from search.algorithms.searchers.registry import build_searcher
from search.engine.driver import Leg, StudyDriver
from search.engine.reports import Details, details
from search.journal.events import (
    Cause,
    CostCounted,
    Decided,
    EpochReported,
    Event,
    SessionEnded,
    SessionStarted,
    TrialEnded,
    TrialEvent,
    TrialResumed,
    TrialSuggested,
)
from search.journal.log import Journal, read
from search.journal.records import TrialStatus, best_of
from search.journal.state import StudyState
from search.study.parse import parse_study
from search.study.spec import StudySpec
from trainables.config import parse_config
from trainables.result import ClassReport
from trainables.trainable import build_trainable

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

GOOD = {"val_accuracy": 0.5, "train_loss": 1.0}


def driver_for(
    tmp_path: Path,
    session: int = 1,
    clock: list[float] | None = None,
    first: Callable[[Event], None] = lambda event: None,
    **changes: Any,
) -> tuple[StudyDriver, StudySpec, list[Event]]:
    spec = parse_study({**TREE, **changes})
    events: list[Event] = []
    now = (lambda: clock[0]) if clock else (lambda: 1000.0)
    journal, deciders = Journal(tmp_path / "journal", session), (build_searcher(spec), build_scheduler(spec))
    driver = StudyDriver(spec, journal, *deciders, StudyState(), [first, events.append], now=now)
    return driver, spec, events


def search_through(driver: StudyDriver) -> None:
    """One trial at a time, each epoch from the real synthetic trial; a later leg repeats the epochs before."""
    while (leg := driver.next_leg()) is not None:
        for result in build_trainable(parse_config(leg.config), Path()).epochs():
            told = result.epoch, result.metrics(), result.last, result.stop_reason, None, details(result)
            if driver.on_result(leg.trial, *told):
                break


def lines(events: Iterable[Event]) -> list[str]:
    """As text, since a NaN equals nothing."""
    return [event.model_dump_json() for event in events]


@pytest.mark.parametrize(("weights", "promoted"), [("averaged", 0), ("current", 1)])
def test_trials_are_compared_by_their_averaged_weights(weights: str, promoted: int, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "recipes": {}, "scheduler": {"kind": "asha_promote"},
        "objective": {"metric": "val_accuracy", "rung_weights": weights},
    }  # fmt: skip
    driver, _, _ = driver_for(tmp_path, **changes)
    for own, averaged in ((0.3, 0.6), (0.4, 0.5), (0.2, 0.1)):
        leg = driver.next_leg()
        assert leg is not None
        told = {"averaged_val_accuracy": averaged} if 1 in driver.averaged_at(leg.trial) else {}
        driver.on_result(leg.trial, 1, {**GOOD, "val_accuracy": own, **told})
    again, _, _ = driver_for(tmp_path, session=2, **changes)
    again.replay(read(tmp_path / "journal"))
    for each in (driver, again):
        leg = each.next_leg()
        assert leg is not None
        assert (leg.trial, leg.number) == (promoted, 2)


def test_a_whole_search(tmp_path: Path) -> None:
    behind: list[Event] = []

    def compare(event: Event) -> None:
        if lines([event])[0] not in lines(read(tmp_path / "journal")):
            behind.append(event)

    driver, _, events = driver_for(tmp_path, first=compare)
    search_through(driver)
    assert not behind  # an event is on disk before any listener knows of it
    records = driver.records
    assert sorted(records) == list(range(20))
    assert driver.finished
    assert driver.running == 0
    assert all(record.status.ended for record in records.values())
    # The recipe is the worst of all, and runs to its end all the same.
    assert records[0].origin == "recipe:bad"
    assert records[0].status is TrialStatus.COMPLETED
    assert len(records[0].history) == 9
    states = {record.status for record in records.values()}
    assert {TrialStatus.COMPLETED, TrialStatus.STOPPED, TrialStatus.DIVERGED} == states
    assert lines(read(tmp_path / "journal")) == lines(events)
    # Each decision at a rung is recorded with its cutoff, before what follows from it.
    decided = [event for event in events if isinstance(event, Decided)]
    assert {event.rung for event in decided} == {1, 3}
    assert all(event.cutoff is not None and math.isfinite(event.cutoff) for event in decided)
    stopped = {event.trial for event in decided if event.action == "stop"}
    assert stopped == {e.trial for e in events if isinstance(e, TrialEnded) and e.status is TrialStatus.STOPPED}
    order = [type(event) for event in events if isinstance(event, TrialEvent) and event.trial == min(stopped)]
    assert order[0] is TrialSuggested
    assert order[-3:] == [EpochReported, Decided, TrialEnded]


def test_a_trial_with_patience_is_worth_its_best_epoch(tmp_path: Path) -> None:
    trial = {"model": {"kind": "synthetic"}, "regularization": {"patience": 1}}
    changes: dict[str, Any] = {"trial": trial, "scheduler": {"kind": "none"}, "budget": {"trials": 8, "epochs": 40}}
    driver, spec, _ = driver_for(tmp_path, **changes)
    search_through(driver)
    stopped = [record for record in driver.records.values() if record.stop_reason == "patience"]
    assert len(stopped) > 4
    for record in stopped:
        losses = [epoch.metrics["val_loss"] for epoch in record.history]
        assert record.value("val_loss") == min(losses) <= losses[-1]
        assert record.best_epoch == record.last_epoch - 1
    again, _, _ = driver_for(tmp_path, session=2, **changes)
    again.replay(read(tmp_path / "journal"))
    assert again.records == driver.records
    best = best_of(driver.records.values(), "val_accuracy", "max")
    assert best is not None
    optuna = optuna_study(spec, list(driver.records.values()))
    assert optuna.best_value == best.value("val_accuracy")


REPORT = ClassReport.of(("a", "b"), [[3, 1], [0, 4]], 0.1)


def test_the_journal_keeps_the_class_reports_of_trials_that_were_the_best(tmp_path: Path) -> None:
    driver, _, _ = driver_for(tmp_path, scheduler={"kind": "none"}, budget={"trials": 4, "epochs": 1})
    for value in (0.5, 0.3, 0.5, 0.7):
        leg = driver.next_leg()
        assert leg is not None
        told = {"val_accuracy": value, "train_loss": 1.0}
        driver.on_result(leg.trial, 1, told, last=True, details={"report": replace(REPORT, calibration_error=value)})
    kept = [record.report for record in StudyState.of(read(tmp_path / "journal")).trials]
    assert [report and report.calibration_error for report in kept] == [0.5, None, None, 0.7]


@pytest.mark.parametrize("guard", ["tell", "stop"])
def test_a_trial_that_has_collapsed_is_told_and_stopped_if_asked(tmp_path: Path, guard: str) -> None:
    guards = {"guards": {"collapsed": guard}}
    driver, _, _ = driver_for(tmp_path, scheduler={"kind": "none"}, budget={"trials": 2, "epochs": 9}, **guards)
    leg = driver.next_leg()
    assert leg is not None
    bad: Details = {"collapsed": "one class"}
    # From one such epoch trials recover.
    ends = [driver.on_result(0, epoch, GOOD, details=told) for epoch, told in enumerate([bad, {}, bad, bad], start=1)]
    assert ends == [False, False, False, guard == "stop"]
    record = driver.records[0]
    assert record.collapsed == "one class"
    if guard == "stop":
        assert (record.status, record.stop_reason) == (TrialStatus.STOPPED, "collapsed")
    assert StudyState.of(read(tmp_path / "journal")).records == driver.records


@pytest.mark.parametrize("kind", ["random", "tpe", "grid"])
def test_a_small_space_ends_the_search_and_no_config_is_trained_twice(tmp_path: Path, kind: str) -> None:
    space = {"optimizer": {"lr": {"choice": [0.01, 0.1]}}, "batch_size": {"choice": [32, 64]}}
    recipes = {name: {"config": {"optimizer": {"lr": 0.1}, "batch_size": 32}} for name in ("known", "again")}
    driver, _, _ = driver_for(tmp_path, space=space, recipes=recipes, searcher={"kind": kind}, seed=2**32 - 1)
    search_through(driver)
    configs = [record.config for record in driver.records.values()]
    assert driver.finished
    assert [config["seed"] for config in configs] == [2**32 - 1, 0, *[2**32 - 1] * 3]
    assert len({(config["optimizer"]["lr"], config["batch_size"]) for config in configs}) == 4


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["val_accuracy", "train_loss"])
def test_a_value_that_is_not_finite_never_reaches_a_rung(tmp_path: Path, bad: float, name: str) -> None:
    driver, _, events = driver_for(tmp_path, recipes={}, resources={"max_failures": 5})
    assert driver.next_leg() is not None
    assert driver.on_result(0, 1, {**GOOD, name: bad})
    assert driver.records[0].status is TrialStatus.DIVERGED
    assert not any(isinstance(event, Decided) for event in events)
    handed = driver.next_leg()  # it is never tried again
    assert handed is not None
    assert handed.trial == 1


def test_a_repeated_epoch_and_anything_after_a_trials_end_change_nothing(tmp_path: Path) -> None:
    driver, _, events = driver_for(tmp_path, resources={"max_failures": 0})
    driver.next_leg()
    assert not driver.on_result(0, 1, GOOD)
    count = len(events)
    assert not driver.on_result(0, 1, GOOD | {"val_accuracy": 0.9})
    assert (len(events), driver.records[0].value("val_accuracy")) == (count, 0.5)
    driver.on_worker_lost(0, "error", "out of memory", None)
    assert (driver.records[0].status, driver.records[0].error) == (TrialStatus.FAILED, "out of memory")
    count = len(events)
    assert driver.on_result(0, 2, GOOD)
    driver.on_worker_lost(0, "error", "again", None)
    assert (len(events), driver.running) == (count, 0)


def test_an_error_is_tried_again_as_often_as_asked_for(tmp_path: Path) -> None:
    driver, _, events = driver_for(tmp_path, resources={"max_failures": 2})
    for leg in (1, 2, 3):
        handed = driver.next_leg()
        assert handed is not None
        assert (handed.trial, handed.number) == (0, leg)
        driver.on_worker_lost(0, "error", f"boom {leg}", f"checkpoint {leg}")
    assert (driver.records[0].status, driver.records[0].error) == (TrialStatus.FAILED, "boom 3")
    assert [event.reason for event in events if isinstance(event, TrialResumed)] == ["worker lost: error"] * 2
    handed = driver.next_leg()
    assert handed is not None
    assert handed.trial == 1


def test_a_preempted_trial_is_retried_without_end_as_long_as_it_makes_progress(tmp_path: Path) -> None:
    driver, _, _ = driver_for(tmp_path)
    for leg in range(1, 30):
        driver.next_leg()
        driver.on_worker_lost(0, "worker_died", "node gone", f"checkpoint {leg}")
    assert driver.records[0].status is TrialStatus.PENDING
    assert driver.records[0].leg == 29


@pytest.mark.parametrize("checkpoint", [None, "the same"])
@pytest.mark.parametrize("cause", ["worker_died", "timeout"])
def test_three_losses_without_a_newer_checkpoint_are_a_failure(
    tmp_path: Path, cause: Cause, checkpoint: str | None
) -> None:
    driver, _, _ = driver_for(tmp_path)
    for _ in range(3):
        assert driver.next_leg() is not None
        assert driver.records[0].status is TrialStatus.RUNNING
        driver.on_worker_lost(0, cause, "killed", checkpoint)
    assert driver.records[0].status is TrialStatus.FAILED
    assert "3 times in a row" in str(driver.records[0].error)


def test_an_interrupted_driver_hands_nothing_out_and_the_next_resumes_all(tmp_path: Path) -> None:
    driver, _, events = driver_for(tmp_path)
    for _ in range(3):
        driver.next_leg()
    driver.on_result(1, 1, GOOD)
    driver.interrupt()
    assert driver.next_leg() is None
    assert not driver.finished
    for trial in range(3):
        driver.release(trial)
    assert driver.running == 0
    again, _, _ = driver_for(tmp_path, session=2)
    again.replay(events)
    again.record(SessionStarted(session=2, time=1.0, versions={}))
    handed = [again.next_leg() for _ in range(4)]
    assert [(leg.trial, leg.number) for leg in handed if leg] == [(0, 2), (1, 2), (2, 2), (3, 1)]


@pytest.mark.parametrize(
    ("searcher", "scheduler"), [("random", "asha"), ("random", "hyperband"), ("tpe", "asha"), ("tpe", "asha_promote")]
)
def test_however_often_it_is_killed_it_decides_as_if_never_stopped(
    tmp_path: Path, scheduler: str, searcher: str
) -> None:
    changes: dict[str, Any] = {
        "scheduler": {"kind": scheduler, "grace_period": 1, "reduction_factor": 3}, "searcher": {"kind": searcher},
    }  # fmt: skip
    whole, _, expected = driver_for(tmp_path / "whole", **changes)
    search_through(whole)
    draws = random.Random(5)  # noqa: S311 (moments, not secrets)
    session, driver = 1, None
    while driver is None or not driver.finished:
        past = list(read(tmp_path / "journal"))
        driver, _, _ = driver_for(tmp_path, session=session, **changes)
        driver.replay(past)
        driver.record(SessionStarted(session=session, time=1000.0, versions={}))
        killed_by = Killed(driver, draws.randint(0, 12))
        with contextlib.suppress(KilledError):
            search_through(killed_by)  # type: ignore[arg-type]
        session += 1
    assert session > 10
    events = [e for e in read(tmp_path / "journal") if not isinstance(e, SessionStarted)]
    resumed = {"interrupted"}
    others = [e for e in events if not (isinstance(e, TrialResumed) and e.reason in resumed)]
    assert [type(e) for e in others] == [type(e) for e in expected]
    assert [varying(e) for e in others] == [varying(e) for e in expected]


class KilledError(Exception):
    """Stands for SIGKILL: nothing is tidied up."""


class Killed:
    """A driver that is gone after a number of calls, before or after what the last one did."""

    def __init__(self, driver: StudyDriver, calls: int) -> None:
        self._driver, self._left = driver, calls

    def next_leg(self) -> Leg | None:
        leg = self._driver.next_leg()
        self._count()
        return leg

    def on_result(self, *arguments: Any) -> bool:
        self._count()
        return self._driver.on_result(*arguments)

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise KilledError


def varying(event: Event) -> str:
    """The event without what depends on time and on interruptions."""
    tree = event.model_dump(exclude={"time", "leg"})
    for name in ("seconds", "images_per_second"):
        tree.get("metrics", {}).pop(name, None)
    return repr(tree)


def test_promotion_trains_a_trial_to_the_end_and_stops_what_stays_paused(tmp_path: Path) -> None:
    scheduler = {"kind": "asha_promote", "grace_period": 1, "reduction_factor": 3}
    driver, _, events = driver_for(tmp_path, scheduler=scheduler, recipes={}, budget={"trials": 6, "epochs": 27})
    search_through(driver)
    statuses = {record.status for record in driver.records.values()}
    assert TrialStatus.COMPLETED in statuses
    assert TrialStatus.PAUSED not in statuses
    promoted = [event for event in events if isinstance(event, Decided) and event.action == "promote"]
    assert promoted
    paused = {(e.trial, e.epoch) for e in events if isinstance(e, Decided) and e.action == "pause"}
    assert {(event.trial, event.epoch) for event in promoted} <= paused


def test_the_budget_in_hours_stops_what_runs_and_starts_nothing_more(tmp_path: Path) -> None:
    clock = [1000.0]
    driver, _, _ = driver_for(tmp_path, clock=clock, budget={"trials": 20, "epochs": 9, "hours": 0.5})
    driver.next_leg()
    assert not driver.on_result(0, 1, GOOD)
    clock[0] += 1800
    assert driver.on_result(0, 2, GOOD)
    assert (driver.records[0].status, driver.records[0].stop_reason) == (TrialStatus.STOPPED, "hours")
    assert driver.next_leg() is None
    assert driver.finished


PRICED = {"budget": {"trials": 20, "epochs": 9, "max_cost": 3.0}, "resources": {"prices": {"head": 1.0, "gpu": 5.0}}}


def test_the_budget_in_money_stops_what_runs_and_starts_nothing_more(tmp_path: Path) -> None:
    clock = [1000.0]
    driver, _, events = driver_for(tmp_path, clock=clock, **PRICED)
    driver.record(SessionStarted(session=1, time=clock[0], versions={}))
    driver.next_leg()
    clock[0] += 3600  # no node was seen yet
    driver.on_nodes({"head": 1})
    driver.next_leg()
    clock[0] += 3600
    driver.on_nodes({"head": 1, "gpu": 2})
    assert driver.state.spending.spent == 1.0
    clock[0] += 654  # of 11 an hour
    assert not driver.on_result(0, 1, GOOD)
    clock[0] += 1
    assert driver.on_result(0, 2, GOOD)
    assert driver.next_leg() is None
    assert not driver.finished
    assert driver.on_result(1, 1, GOOD)
    assert {(r.status, r.stop_reason) for r in driver.records.values()} == {(TrialStatus.STOPPED, "max_cost")}
    assert driver.next_leg() is None
    assert driver.finished
    driver.record(SessionEnded(session=1, reason="finished", time=clock[0]))
    assert [event.total for event in events if isinstance(event, CostCounted)] == [0, 1, driver.state.spending.spent]
    assert driver.state.spending.spent == 1 + 11 * 655 / 3600


def test_a_trial_without_a_worker_is_given_up_when_the_budget_is_used_up_or_the_search_interrupted(
    tmp_path: Path,
) -> None:
    clock = [1000.0]
    driver, _, _ = driver_for(tmp_path, clock=clock, budget={"trials": 20, "epochs": 9, "hours": 1})
    driver.next_leg()
    driver.next_leg()
    assert not driver.should_abandon(0)
    clock[0] += 3600
    assert driver.should_abandon(0)
    assert (driver.records[0].status, driver.records[0].stop_reason) == (TrialStatus.STOPPED, "hours")
    driver.interrupt()
    assert driver.should_abandon(1)
    assert driver.records[1].status is TrialStatus.RUNNING  # until the session ends, and then it waits
    assert driver.running == 0


def test_a_killed_drivers_money_is_spent_for_the_next(tmp_path: Path) -> None:
    clock = [1000.0]
    driver, _, _ = driver_for(tmp_path, clock=clock, **PRICED)
    driver.record(SessionStarted(session=1, time=clock[0], versions={}))
    driver.on_nodes({"head": 1})
    driver.next_leg()
    clock[0] += 7200
    driver.on_result(0, 1, GOOD)
    clock[0] += 36000  # it was killed right then; nobody knows what the head did after that
    again, _, events = driver_for(tmp_path, 2, clock=clock, **PRICED)
    again.replay(read(tmp_path / "journal"))
    again.record(SessionStarted(session=2, time=clock[0], versions={}))
    again.next_leg()
    again.on_nodes({"gpu": 1})
    assert [event.total for event in events if isinstance(event, CostCounted)] == [2.0]
    clock[0] += 710
    assert not again.on_result(0, 2, GOOD)
    clock[0] += 10
    assert again.on_result(0, 3, GOOD)
    assert again.records[0].stop_reason == "max_cost"


def test_a_grid_that_is_used_up_ends_the_search(tmp_path: Path) -> None:
    space = {"batch_size": {"choice": [32, 64]}}
    driver, _, _ = driver_for(tmp_path, searcher={"kind": "grid"}, space=space, recipes={})
    search_through(driver)
    assert [record.config["batch_size"] for record in driver.records.values()] == [32, 64]
    assert driver.finished
