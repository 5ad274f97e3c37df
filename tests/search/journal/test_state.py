"""The fold of a journal: trials, sessions, spending and heartbeats; and the result made of it."""

from __future__ import annotations

import math
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.journal.events import (
    CostCounted,
    EpochReported,
    Event,
    SessionEnded,
    SessionEvent,
    SessionStarted,
    TrialStatus,
)
from search.journal.result import StudyResult, collect
from search.journal.state import SessionRecord, StudyState
from search.study.overrides import override
from tests.search.sample_study import (
    LR,
    START,
    metrics,
    priced_events,
    sample_events,
    sample_spec,
    trial_events,
    troubled_events,
)
from trainables.config import ConfigError

SPEC = sample_spec(trials=5)
EVENTS = [
    e for e in sample_events(SPEC, (*tuple(TrialStatus)[3:], TrialStatus.RUNNING))
    if not isinstance(e, EpochReported) or not math.isnan(e.metrics["train_loss"])
]  # fmt: skip
TROUBLED = troubled_events(SPEC)


def test_each_trial_is_as_its_events_say() -> None:
    records = StudyState.of(EVENTS[:-1]).records
    assert [r.status for r in records.values()] == [
        TrialStatus.COMPLETED, TrialStatus.STOPPED, TrialStatus.DIVERGED, TrialStatus.FAILED, TrialStatus.RUNNING,
    ]  # fmt: skip
    assert [r.stop_reason for r in records.values()] == ["epochs", "rung 2", "diverged", None, None]
    assert [r.recipe for r in records.values()] == ["naive", None, None, None, None]
    assert [e.epoch for e in records[0].history] == [1, 2, 3, 4]
    assert records[0].history[3].metrics == metrics(0, 4)
    assert records[3].error == "RuntimeError: boom"
    assert records[0].started is not None
    assert records[0].ended == records[0].started + 1


@given(st.integers(0, len(TROUBLED)))
def test_the_state_after_a_prefix_and_then_the_rest_is_that_after_all(cut: int) -> None:
    events = priced_events(SPEC)
    state = StudyState.of(events[:cut])
    for event in events[cut:]:
        state.apply(event)
    assert state == StudyState.of(events)


@given(st.data())
def test_a_repeated_event_of_a_trial_changes_no_record(data: st.DataObject) -> None:
    events = list(EVENTS)
    of_trials = [i for i, event in enumerate(EVENTS) if not isinstance(event, SessionEvent)]
    for _ in range(data.draw(st.integers(1, 6))):
        index = data.draw(st.sampled_from(of_trials))
        again = data.draw(st.integers(events.index(EVENTS[index]) + 1, len(events)))
        events.insert(again, EVENTS[index])
    assert StudyState.of(events).records == StudyState.of(EVENTS).records


def test_an_interrupted_trial_waits_and_continues() -> None:
    state = StudyState.of([EVENTS[0], *trial_events(SPEC, 0, TrialStatus.RUNNING)])
    assert state.records[0].status == "RUNNING"
    assert state.last_heartbeat[0] == START + 0.2
    state.apply(SessionStarted(session=2, time=1, versions={}))
    assert state.records[0].status == "PENDING"
    state.apply(EpochReported(trial=0, epoch=3, metrics={}, checkpoint="c3", time=1))
    record = state.records[0]
    assert (record.status, record.checkpoint, len(record.history)) == (TrialStatus.RUNNING, "c3", 3)


def test_a_result_of_an_unknown_trial_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"must be started before.*trial 7"):
        StudyState().apply(EpochReported(trial=7, epoch=1, metrics={}, time=1))


def test_lost_workers_are_counted() -> None:
    lost = StudyState.of(TROUBLED).worker_losses
    assert {trial: [event.cause for event in events] for trial, events in lost.items()} == {
        2: ["worker_died", "timeout"], 3: ["error", "error"],
    }  # fmt: skip


def test_each_session_says_when_it_ran_and_how_it_ended() -> None:
    state = StudyState.of(TROUBLED)
    first, second = state.sessions
    assert (first.number, first.started, first.reason) == (1, START, "interrupted")
    assert (second.number, second.reason) == (2, "finished")
    assert first.latest == next(event.time for event in TROUBLED if isinstance(event, SessionEnded))
    assert state.seconds_used == first.latest - first.started + second.latest - second.started
    assert (StudyState().sessions, StudyState().seconds_used) == ([], 0)


def test_a_killed_session_ran_until_its_last_event() -> None:
    state = StudyState.of([*TROUBLED[:5], SessionStarted(session=2, time=START + 1000, versions={})])
    assert state.sessions == [SessionRecord(1, START, START + 3), SessionRecord(2, START + 1000, START + 1000)]
    assert state.seconds_used == 3


def test_a_search_is_over_when_its_trials_hours_or_money_are_used_up() -> None:
    state, longer = StudyState.of(TROUBLED), override(SPEC, trials=6)
    used = state.seconds_used / 3600
    assert state.is_over(SPEC)
    assert not state.is_over(longer)
    assert state.is_over(override(longer, hours=used))
    assert not state.is_over(override(longer, hours=2 * used))
    assert not StudyState().is_over(SPEC)
    waiting = sample_events(SPEC, (*(TrialStatus.COMPLETED,) * 4, TrialStatus.RUNNING))
    assert not StudyState.of(waiting).is_over(SPEC)

    priced = override(longer, max_cost=2.0, prices=["1"])
    counted = CostCounted(total=1.5, rate=3600.0, nodes={"node": 1}, time=TROUBLED[-1].time)
    end = SessionEnded(session=2, reason="finished", time=counted.time + 0.5)
    assert not state.is_over(priced)
    assert not StudyState.of([*TROUBLED[:-1], counted]).is_over(priced)
    paid = StudyState.of([*TROUBLED[:-1], counted, end])
    assert paid.is_over(priced)
    assert not paid.is_over(override(priced, max_cost=2.1))


@pytest.mark.parametrize(
    ("events", "reason"), [(TROUBLED, None), ([], None), (TROUBLED[:-1], "finished"), (TROUBLED[:5], "killed")]
)
def test_a_killed_session_is_ended_for_it(events: list[Event], reason: str | None) -> None:
    state = StudyState.of(events)
    end = state.missing_end(SPEC)
    if reason is None:
        assert end is None
    else:
        last = state.sessions[-1]
        assert end == SessionEnded(session=last.number, reason=reason, time=last.latest)


def result() -> StudyResult:
    return collect(SPEC, EVENTS)


def test_a_result_knows_its_trials_and_what_made_it() -> None:
    found = result()
    assert [r.number for r in found.trials] == [0, 1, 2, 3, 4]
    assert (found.git, found.fingerprint, found.versions["torch"]) == ("abc123", "f00d", "2.14.1")
    best = found.best()
    assert best is not None
    assert best.number == 0
    assert found.table().num_rows == 10
    assert collect(SPEC, []) == StudyResult(SPEC, [])


def test_curves_have_an_entry_per_trial_that_trained() -> None:
    curves = result().curves()
    assert sorted(curves) == [0, 1, 4]
    assert curves[1] == [(epoch, metrics(1, epoch)["val_accuracy"]) for epoch in (1, 2)]
    assert result().curves("lr")[1][0] == (1, metrics(1, 1)["lr"])


class Cells(HTMLParser):
    """The text of a table, row by row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_data(self, data: str) -> None:
        if self.rows:
            self.rows[-1].append(data)


def test_a_notebook_shows_the_best_trials_and_no_markup_of_theirs() -> None:
    found = result()
    evil = replace(found.trials[4], origin="<script>alert(1)</script>", values={LR: 0.1, "<b>": "<img>"})
    shown = Cells(StudyResult(SPEC, [*found.trials[:4], evil])._repr_html_())
    assert shown.tags == {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert shown.rows[0] == ["trial", "from", "status", "epochs", "val_accuracy", "hyperparameters"]
    assert shown.rows[1] == ["0", "naive", "completed", "4", "0.6000", f"{LR} 0.001"]
    assert shown.rows[2] == ["4", "<script>alert(1)</script>", "pending", "2", "0.5900", f"{LR} 0.1, <b> <img>"]
    assert shown.rows[3][:4] == ["1", "random", "stopped (rung 2)", "2"]
    assert repr(found) == "<StudyResult sample: 5 trials, best val_accuracy 0.6000 (0)>"
    many = StudyResult(SPEC, [replace(found.trials[0], number=n) for n in range(30)])
    assert len(Cells(many._repr_html_()).rows) == 21
