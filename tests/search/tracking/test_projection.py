"""A search with pauses, promotions, worker_losses and two sessions, as MLflow runs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from search.journal.events import Decided, Event, SessionEnded, SessionStarted, TrialEnded
from search.tracking.projection import RunProjection
from search.tracking.tracker import default_uri, tracked_study
from search.tracking.uri import connect
from tests.search.mlflow_contents import contents, runs_of
from tests.search.sample_study import START, priced_events, sample_spec, troubled_events

SPEC = sample_spec()
EVENTS = troubled_events(SPEC)
INTERRUPTED = next(i for i, event in enumerate(EVENTS) if isinstance(event, SessionEnded)) + 1
PROMOTED = next(i for i, e in enumerate(EVENTS) if isinstance(e, Decided) and e.action == "promote")


def projection(uri: str, out: Path) -> RunProjection:
    return RunProjection(uri, tracked_study(SPEC), out / "mlartifacts", pytest.fail)


def track(uri: str, out: Path, events: Sequence[Event]) -> None:
    projected = projection(uri, out)
    for event in events:
        projected.take(event)
    projected.write()


@pytest.fixture
def other(tmp_path: Path, store: str, empty_store: Path) -> tuple[str, Path]:
    """Another store, and where its search keeps its results."""
    out = tmp_path / "other"
    out.mkdir()
    shutil.copy(empty_store, out / "mlflow.db")
    return default_uri(out), out


def test_what_waits_is_scheduled_and_says_what_for(store: str, tmp_path: Path) -> None:
    track(store, tmp_path, EVENTS[:PROMOTED])
    _, children = runs_of(store)
    assert [(run.info.status, run.data.tags["trial_state"]) for _, run in sorted(children.items())] == [
        ("FINISHED", "COMPLETED"), ("SCHEDULED", "PAUSED"), ("SCHEDULED", "PAUSED"), ("FAILED", "FAILED"),
    ]  # fmt: skip
    track(store, tmp_path, EVENTS[: PROMOTED + 2])
    _, children = runs_of(store)
    promoted = children[1]
    assert (promoted.info.status, promoted.data.tags["trial_state"]) == ("RUNNING", "RUNNING")
    track(store, tmp_path, EVENTS[:INTERRUPTED])
    parent, children = runs_of(store)
    assert parent.info.status == "KILLED"
    assert (children[1].info.status, children[1].data.tags["trial_state"]) == ("SCHEDULED", "PENDING")


def test_nothing_runs_after_the_end_and_losses_are_told(store: str, tmp_path: Path) -> None:
    track(store, tmp_path, EVENTS)
    parent, children = runs_of(store)
    assert parent.info.status == "FINISHED"
    assert [run.info.status for _, run in sorted(children.items())] == [
        "FINISHED", "FINISHED", "KILLED", "FAILED", "KILLED",
    ]  # fmt: skip
    told = [
        tuple(run.data.tags.get(name) for name in ("legs", "worker_losses", "last_worker_error"))
        for _, run in sorted(children.items())
    ]
    assert told == [
        (None, None, None), ("3", None, None), ("3", "2", "silent: no epoch for 60 min"),
        ("2", "2", "error: ValueError: boom [1]"), (None, None, None),
    ]  # fmt: skip
    assert children[1].data.metrics["epochs"] == 4


def test_a_run_says_which_session_began_it(store: str, tmp_path: Path) -> None:
    track(store, tmp_path, EVENTS)
    parent, children = runs_of(store)
    assert [children[trial].data.tags["version.torch"] for trial in (1, 4)] == ["2.14.1", "2.15.0"]
    assert [children[trial].data.tags["resnet_search.session"] for trial in (1, 4)] == ["1", "2"]
    assert (parent.data.tags["resnet_search.session"], parent.data.tags["version.torch"]) == ("2", "2.15.0")


def test_writing_at_each_event_and_at_once_give_the_same(store: str, tmp_path: Path, other: tuple[str, Path]) -> None:
    projected = projection(store, tmp_path)
    for event in EVENTS:
        projected.take(event)
        projected.write()
    track(*other, EVENTS)
    assert contents(store) == contents(other[0])


def test_the_cost_is_a_metric_of_the_search(store: str, tmp_path: Path, other: tuple[str, Path]) -> None:
    priced = priced_events(SPEC)
    projected = projection(store, tmp_path)
    for event in priced:
        projected.take(event)
        projected.write()
    track(*other, priced[: len(priced) // 2])
    track(*other, priced)
    assert contents(store) == contents(other[0])
    parent, _ = runs_of(store)
    times = [event.time for event in priced if isinstance(event, SessionStarted | SessionEnded)]
    spent = 0.36 * (times[1] - START) / 3600 + 3.6 * (times[3] - times[2]) / 3600
    assert parent.data.metrics["cost"] == pytest.approx(spent)
    history = connect(store).get_metric_history(parent.info.run_id, "cost")
    ended = sum(isinstance(event, TrialEnded) for event in priced)
    assert len(history) == ended + 2
    assert [point.value for point in sorted(history, key=lambda point: (point.timestamp, point.step))] == sorted(
        point.value for point in history
    )


@pytest.mark.parametrize("cut", [1, PROMOTED, INTERRUPTED, len(EVENTS) - 1])
def test_a_killed_writer_is_caught_up_with(store: str, tmp_path: Path, other: tuple[str, Path], cut: int) -> None:
    track(store, tmp_path, EVENTS[:cut])
    track(store, tmp_path, EVENTS)
    track(store, tmp_path, EVENTS)
    track(*other, EVENTS)
    assert contents(store) == contents(other[0])
