"""Where a study stands, whatever its search is doing."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from search.journal.events import Event, SessionEnded, TrialStatus
from search.journal.locks import holder, lock
from search.journal.log import Journal
from search.views.summary import look
from tests.search.sample_study import START, priced_events, sample_spec, troubled_events, write_study

SPEC = sample_spec(trials=5)
EVENTS = troubled_events(SPEC)


def written(folder: Path, events: list[Event]) -> Path:
    return write_study(folder, SPEC, events)


def test_a_finished_study(tmp_path: Path) -> None:
    seen = look(written(tmp_path / "sample", EVENTS))
    assert (seen.finished, seen.holder, len(seen.state.sessions)) == (True, None, 2)
    assert look(written(tmp_path / "killed", EVENTS[:-1])).finished  # when only its last word was missing
    assert [record.status.value for record in seen.trials] == [
        "COMPLETED", "COMPLETED", "STOPPED", "FAILED", "STOPPED",
    ]  # fmt: skip
    assert seen.best is not None
    assert seen.best.number == 1
    assert seen.seconds == sum(session.latest - session.started for session in seen.state.sessions)
    assert [(t.trial, t.what, t.cause) for t in seen.trouble] == [
        (3, "failed, 2 workers lost (error)", "ValueError: boom [1]"),
        (2, "2 workers lost (worker_died, timeout)", "no epoch for 60 min"),
    ]


def test_a_running_study_and_one_whose_driver_was_killed(tmp_path: Path) -> None:
    folder = written(tmp_path / "sample", EVENTS[:5])
    with lock(folder / "journal"):
        seen = look(folder)
    assert (seen.finished, [record.number for record in seen.of(TrialStatus.RUNNING)]) == (False, [0])
    assert seen.holder is not None
    assert seen.state.last_heartbeat[0] == EVENTS[4].time
    assert seen.seconds == pytest.approx(seen.now - START)
    seen = look(folder)
    assert (seen.finished, seen.holder) == (False, None)
    assert [record.number for record in seen.of(TrialStatus.PENDING)] == [0]
    assert seen.seconds == 3


def test_what_it_has_cost(tmp_path: Path) -> None:
    priced = priced_events(SPEC)
    assert look(written(tmp_path / "free", EVENTS)).cost is None
    seen = look(written(tmp_path / "sample", priced))
    spans = [session.latest - session.started for session in seen.state.sessions]
    assert seen.cost == pytest.approx((0.36 * spans[0] + 3.6 * spans[1]) / 3600)
    assert seen.cost_an_hour == 0
    folder = written(tmp_path / "searched", priced[:5])
    assert look(folder).cost == pytest.approx(0.36 * 2 / 3600)  # killed: known to have run for two seconds
    with lock(folder / "journal"):
        seen = look(folder)
    assert seen.cost == pytest.approx(0.36 * (seen.now - START) / 3600)
    assert seen.cost_an_hour == 0.36


def test_checkpoints_are_counted(tmp_path: Path) -> None:
    folder = written(tmp_path / "sample", EVENTS)
    for trial, size in ((1, 1000), (2, 500)):
        leg = folder / "checkpoints" / f"trial-{trial:04d}" / "leg-01"
        leg.mkdir(parents=True)
        (leg / "epoch-0001.pt").write_bytes(b"x" * size)
    (folder / "checkpoints" / "interrupt-0001").touch()
    assert look(folder).checkpoints == (2, 1500)


def test_nothing_is_written_by_looking(tmp_path: Path) -> None:
    folder = written(tmp_path / "sample", EVENTS[:5])
    with lock(folder / "journal"):
        pass

    before = {path: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.rglob("*"))}
    look(folder)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.rglob("*"))} == before


def test_a_driver_that_ends_while_one_looks_is_not_reported_as_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_study(tmp_path / "sample", SPEC, [])
    journal = Journal(folder / "journal", 1)
    journal.append(*EVENTS[:5])
    driver = ExitStack()
    driver.enter_context(lock(folder / "journal"))

    def ask_after_its_end(directory: Path) -> str | None:
        journal.append(SessionEnded(session=1, reason="interrupted", time=START + 9))
        driver.close()
        monkeypatch.undo()
        return holder(directory)

    monkeypatch.setattr("search.views.summary.holder", ask_after_its_end)
    seen = look(folder)
    assert (seen.holder, seen.state.sessions[-1].reason) == (None, "interrupted")
