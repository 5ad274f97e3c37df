"""Studies found by name and by path, and what their sessions were."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.journal.events import CostCounted, SessionEnded, SessionStarted, TrialStatus
from search.journal.log import Journal
from search.journal.records import collect
from search.journal.study_folder import (
    SessionRecord,
    find_study,
    is_over,
    missing_end,
    read_study,
    seconds_used,
    sessions,
)
from search.study.overrides import override
from tests.search.sample_study import START, sample_events, sample_spec, troubled_events
from trainables.config import ConfigError
from trainables.files import write_text

SPEC = sample_spec(trials=5)
EVENTS = troubled_events(SPEC)


def searched(folder: Path) -> Path:
    spec = sample_spec(folder.name)
    write_text(folder / "study.yaml", spec.dump())
    Journal(folder / "journal", 1).append(*sample_events(spec))
    return folder


def test_by_name_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = searched(tmp_path / "runs" / "one")
    monkeypatch.chdir(tmp_path)
    assert find_study("one", Path("runs")).absolute() == folder
    assert find_study("runs/one/", Path("elsewhere")) == folder
    assert find_study("./runs/one", Path("elsewhere")) == folder
    monkeypatch.chdir(folder)
    assert find_study(".", Path("elsewhere")) == folder
    spec, events = read_study(folder)
    assert (spec, repr(events)) == (sample_spec("one"), repr(sample_events(spec)))  # NaN is not equal to itself


@pytest.mark.parametrize(
    ("study", "says"),
    [
        ("none", "there are one, two, got 'none'"),
        ("", "there are one, two, got ''"),
        ("runs/none", "there are one, two, got 'runs/none'"),
        ("begun", "there are one, two, got 'begun'"),
        ("nowhere/one", "there is none; --out names the folder of another search, got 'nowhere/one'"),
    ],
)
def test_what_is_no_study_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study: str, says: str) -> None:
    searched(tmp_path / "runs" / "one")
    searched(tmp_path / "runs" / "two")
    (tmp_path / "runs" / "begun" / "journal").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        find_study(study, Path("runs"))
    assert says in str(error.value)


def test_each_session_says_when_it_ran_and_how_it_ended() -> None:
    first, second = sessions(EVENTS)
    assert (first.number, first.started, first.reason) == (1, START, "interrupted")
    assert (second.number, second.reason) == (2, "finished")
    assert first.latest == next(event.time for event in EVENTS if isinstance(event, SessionEnded))
    assert seconds_used(EVENTS) == first.latest - first.started + second.latest - second.started
    assert sessions([]) == []


def test_a_killed_session_ran_until_its_last_event() -> None:
    events = [*EVENTS[:5], SessionStarted(session=2, time=START + 1000, versions={})]
    assert sessions(events) == [
        SessionRecord(1, START, START + 3), SessionRecord(2, START + 1000, START + 1000),
    ]  # fmt: skip
    assert seconds_used(events) == 3


def test_a_search_is_over_when_its_trials_or_hours_are_used_up() -> None:
    trials = collect(SPEC, EVENTS).trials
    assert is_over(SPEC, trials, EVENTS)
    assert not is_over(override(SPEC, trials=6), trials, EVENTS)
    used = seconds_used(EVENTS) / 3600
    assert is_over(override(SPEC, trials=6, hours=used), trials, EVENTS)
    assert not is_over(override(SPEC, trials=6, hours=2 * used), trials, EVENTS)
    assert not is_over(SPEC, [], [])
    waiting = sample_events(SPEC, (*(TrialStatus.COMPLETED,) * 4, TrialStatus.RUNNING))
    assert not is_over(SPEC, collect(SPEC, waiting).trials, waiting)


def test_a_search_is_over_when_its_money_is_used_up() -> None:
    spec = override(SPEC, trials=6, max_cost=2.0, prices=["1"])
    counted = CostCounted(total=1.5, rate=3600.0, nodes={"node": 1}, time=EVENTS[-1].time)  # type: ignore[union-attr]
    trials = collect(SPEC, EVENTS).trials
    assert not is_over(spec, trials, EVENTS)
    assert not is_over(spec, trials, [*EVENTS[:-1], counted])
    end = SessionEnded(session=2, reason="finished", time=counted.time + 0.5)
    assert is_over(spec, trials, [*EVENTS[:-1], counted, end])
    assert not is_over(override(spec, max_cost=2.1), trials, [*EVENTS[:-1], counted, end])


def test_the_end_of_a_killed_session_is_made_up_for() -> None:
    assert missing_end(EVENTS, over=True) is None
    assert missing_end([], over=False) is None
    cut = EVENTS[:-1]
    assert missing_end(cut, over=True) == SessionEnded(session=2, reason="finished", time=sessions(cut)[-1].latest)
    ended = missing_end(EVENTS[:5], over=False)
    assert ended is not None
    assert (ended.session, ended.reason) == (1, "killed")
