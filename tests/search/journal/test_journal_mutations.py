"""Journals that are damaged, edited or made to hurt: gone on from, or refused with file and line before anything runs.

What is accepted is replayed, and the search driven to its end: what passes the checks must be a state to go on from.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.algorithms.optuna_export import optuna_study
from search.algorithms.schedulers.registry import build_scheduler
from search.algorithms.searchers.registry import build_searcher
from search.engine.consistency import checked
from search.engine.driver import StudyDriver
from search.journal.events import Decided, Event, SessionStarted
from search.journal.log import Journal, read, read_places, segments
from search.journal.records import collect, rows
from search.study.parse import parse_study
from search.study.spec import StudySpec
from search.views.output_files import best_config
from tests.mutations import COSTLY, ODD, check_clear, damaged, mutated, read_or_refused
from trainables.config import ConfigError

QUALITY = (5, 4, 1, 2, 0, 6, 3)  # of each trial: some pause and are promoted later, some are not
LEGS = 200  # more than any search of these few trials has; beyond, it is going round in a circle


@cache
def study(scheduler: str) -> StudySpec:
    return parse_study(
        {
            "study": "toy",
            "trial": {"model": {"kind": "synthetic"}},
            "space": {
                "optimizer": {"kind": {"choice": {"sgd": {"lr": {"float": [0.01, 1.0], "log": True}}, "adam": {}}}}
            },
            "recipes": {"plain": {"config": {"optimizer": {"kind": "sgd", "lr": 0.02}}}},
            "searcher": {"kind": "tpe", "startup_trials": 1},
            "scheduler": {"kind": scheduler, "grace_period": 1, "reduction_factor": 2},
            "budget": {"trials": len(QUALITY), "epochs": 4},
            "resources": {"prices": {"head": 0.1, "gpu": 1.5}},
        }
    )


def driver_for(spec: StudySpec, folder: Path, session: int) -> StudyDriver:
    return StudyDriver(
        spec, Journal(folder, session), build_searcher(spec), build_scheduler(spec), {}, now=lambda: 1000.0
    )


def metrics(trial: int, epoch: int) -> dict[str, float]:
    return {"train_loss": 1.0, "val_accuracy": (QUALITY[trial] + epoch) / 20, "lr": 0.1}


def go_on(driver: StudyDriver, calls: int = 10**9) -> None:
    """One trial at a time, until the search has ended or `calls` results were told.

    Trial 1 loses a worker, and a node comes and goes with every other trial.
    """
    for _ in range(LEGS):
        leg = driver.next_leg()
        if leg is None:
            assert driver.finished
            return
        if leg.trial:
            driver.on_nodes({"head": 1, "gpu": 1 + leg.trial % 2})
        record = driver.records[leg.trial]
        epoch, ends = record.history[-1].epoch if record.history else 0, False
        if leg.trial == 1 and leg.number == 1:
            driver.on_worker_lost(1, "worker_died", "killed", None)
            continue
        while not ends:
            epoch, calls = epoch + 1, calls - 1
            if calls < 0:
                return
            ends = driver.on_result(leg.trial, epoch, metrics(leg.trial, epoch), epoch == driver_epochs(leg.config))
    raise AssertionError("the search does not end")


def driver_epochs(config: Any) -> int:
    return int(config["epochs"])


def started(session: int) -> SessionStarted:
    return SessionStarted(session=session, time=1000.0, versions={"torch": "2"})


@pytest.fixture(scope="module", params=["asha", "asha_promote"])
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[StudySpec, list[bytes]]:
    """A study, and the lines of its journal after two sessions, both of which were killed."""
    spec, folder = study(request.param), tmp_path_factory.mktemp("sound")
    for session, calls in ((1, 8), (2, 9)):
        past = checked(spec, read_places(folder))
        driver = driver_for(spec, folder, session)
        driver.replay(past)
        driver.record(started(session))
        go_on(driver, calls)
    lines = b"".join(path.read_bytes() for path in segments(folder)).splitlines(keepends=True)
    assert any(b'"event":"cost"' in line for line in lines)
    decided = {event.action for event in checked(spec, read_places(folder)) if isinstance(event, Decided)}
    assert decided == ({"continue", "stop"} if request.param == "asha" else {"continue", "pause", "promote"})
    return spec, lines


def written(factory: pytest.TempPathFactory, lines: Iterable[bytes]) -> Path:
    folder = factory.mktemp("journal")
    (folder / "000002.jsonl").write_bytes(b"".join(lines))
    return folder


def check_place(error: ConfigError) -> None:
    check_clear(error)
    assert len(error.problems) == 1
    assert re.match(r".*000002\.jsonl, line \d+", str(error))


def resume(spec: StudySpec, folder: Path) -> list[Event] | None:
    """Everything that a resumed search does with its journal; None if it is refused, with file and line."""
    try:
        past = checked(spec, read_places(folder))
    except ConfigError as error:
        check_place(error)
        return None
    driver = driver_for(spec, folder, 1000)
    driver.replay(past)
    driver.record(started(999_999))
    go_on(driver)
    assert sorted(driver.records) == list(range(len(driver.records)))
    assert all(record.status.ended for record in driver.records.values())
    result = collect(spec, checked(spec, read_places(folder)))  # what it wrote now is a journal to go on from as well
    assert rows(result.trials).num_rows
    optuna_study(spec, result.trials)
    if (best := result.best()) is not None:
        best_config(result, best)
    return past


def test_a_journal_that_was_written_is_gone_on_from_at_every_line(
    tmp_path_factory: pytest.TempPathFactory, sound: tuple[StudySpec, list[bytes]]
) -> None:
    spec, lines = sound
    for count in range(len(lines) + 1):
        past = resume(spec, written(tmp_path_factory, lines[:count]))
        assert past is not None
        assert len(past) >= count


def rearranged(lines: list[bytes]) -> st.SearchStrategy[list[bytes]]:
    """The lines with some of them dropped, doubled, swapped, joined or shuffled."""
    place = st.integers(0, len(lines) - 1)

    def moved(change: str, one: int, other: int) -> list[bytes]:
        changed = list(lines)
        if change == "drop":
            del changed[min(one, other) : max(one, other) + 1]
        elif change == "double":
            changed.insert(other, changed[one])
        elif change == "swap":
            changed[one], changed[other] = changed[other], changed[one]
        elif change == "repeat":
            changed[other:other] = changed[min(one, other) : max(one, other) + 1]
        elif change == "interleave":
            changed[one:] = [part for pair in zip(changed[one:], changed, strict=False) for part in pair]
        elif change == "join":
            changed[one] = changed[one].rstrip(b"\n")
        return changed

    kinds = ["drop", "double", "swap", "repeat", "interleave", "join"]
    return st.builds(moved, st.sampled_from(kinds), place, place) | st.permutations(lines).map(list)


@COSTLY
@given(data=st.data())
def test_rearranged_lines(
    tmp_path_factory: pytest.TempPathFactory, sound: tuple[StudySpec, list[bytes]], data: st.DataObject
) -> None:
    spec, lines = sound
    resume(spec, written(tmp_path_factory, data.draw(rearranged(lines))))


@COSTLY
@given(data=st.data())
def test_mutated_events(
    tmp_path_factory: pytest.TempPathFactory, sound: tuple[StudySpec, list[bytes]], data: st.DataObject
) -> None:
    spec, lines = sound
    number = data.draw(st.integers(0, len(lines) - 1))
    tree = json.loads(lines[number])
    small = st.integers(-1, 6) | st.sampled_from(["pause", "stop", "continue", "promote", "COMPLETED", "resume", "end"])
    changed = data.draw(mutated(tree, ODD | small, most=2))
    try:
        line = json.dumps(changed).encode() + b"\n"
    except (TypeError, ValueError):  # a key that JSON does not have, or more digits than Python writes
        line = json.dumps(repr(type(changed))).encode() + b"\n"
    resume(spec, written(tmp_path_factory, [*lines[:number], line, *lines[number + 1 :]]))


@COSTLY
@given(data=st.data())
def test_damaged_bytes(
    tmp_path_factory: pytest.TempPathFactory, sound: tuple[StudySpec, list[bytes]], data: st.DataObject
) -> None:
    spec, lines = sound
    resume(spec, written(tmp_path_factory, [data.draw(damaged(b"".join(lines)))]))


HOSTILE = {
    "deep": b'{"event":"suggest","values":' + b'{"a":' * 100_000,
    "deep list": b'{"event":"result","metrics":' + b"[" * 100_000,
    "huge number": b'{"event":"result","trial":' + b"9" * 100_000 + b"}",
    "huge exponent": b'{"event":"result","trial":0,"epoch":1,"metrics":{"a":1e999999999},"time":1e999999999}',
    "not a number": b'{"event":"result","trial":NaN,"epoch":1,"metrics":{},"time":1}',
    "infinite time": b'{"event":"session","session":3,"time":Infinity,"versions":{}}',
    "time of no year": b'{"event":"session","session":3,"time":1e300,"versions":{}}',
    "no UTF-8": b'{"event":"close","session":2,"reason":"\xff\xfe","time":1}',
    "half a character": b'{"event":"close","session":2,"reason":"\\ud800","time":1}',
    "null bytes": b"\0" * 5000,
    "null byte in text": b'{"event":"close\0","session":2,"reason":"x","time":1}',
    "terminal": b'{"event":"\x1b[2J","session":2}',
    "terminal key": b'{"event":"close","session":2,"reason":"x","time":1,"\\u001b[2J\\n":1}',
    "no object": b'"close"',
    "many": b"[" + b",".join([b"{}"] * 100_000) + b"]",
    "endless": b" " * 3_000_000,
    "nothing": b"",
    "pickle": b"\x80\x04\x95\x17\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
}


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_line_is_refused(tmp_path_factory: pytest.TempPathFactory, line: bytes) -> None:
    first = started(1).model_dump_json().encode() + b"\n"
    folder = written(tmp_path_factory, [first, line, b"\n", first])
    with pytest.raises(ConfigError, match=r"000002\.jsonl, line 2") as caught:
        list(read(folder))
    check_clear(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def changed(number: int, **fields: Any) -> Callable[[list[Any]], None]:
    def change(told: list[Any]) -> None:
        told[number] = {**told[number], **fields}

    return change


def removed(number: int) -> Callable[[list[Any]], None]:
    return lambda told: told.pop(number)


def added(number: int, **event: Any) -> Callable[[list[Any]], None]:
    return lambda told: told.insert(number, event)


def copied(number: int, to: int) -> Callable[[list[Any]], None]:
    return lambda told: told.insert(to, told[number])


END = {"event": "end", "status": "STOPPED", "time": 1.0}
LOSS = {"event": "loss", "cause": "error", "error": "x", "time": 1.0}
COST = {"event": "cost", "total": 2.0, "rate": 1.0, "nodes": {"gpu": 1}, "time": 1.0}
DECISION = {"event": "decision", "rung": 1, "reason": "x"}
# Of events 0 session, 1 suggest 0, 2 result 0 epoch 1, 3 decision, 4 result 0 epoch 2, 5 decision, ...
IMPOSSIBLE = {
    "result of an unknown trial": (changed(4, trial=3), 4, "must be of a trial that was suggested before"),
    "result twice": (copied(4, 6), 6, "must be of epoch 3, not 2"),
    "result skipped": (changed(4, epoch=3), 4, "must be of epoch 2, not 3"),
    "first epoch skipped": (changed(2, epoch=4, last=True), 2, "must be of epoch 1, not 4"),
    "result without the objective": (changed(2, metrics={"train_loss": 1.0}), 2, "must hold val_accuracy"),
    "result with a name that is none": (changed(2, metrics={"val_accuracy": 1.0, "\n": 1.0}), 2, "names of metrics"),
    "no decision at a rung": (removed(3), 3, "must come after the decision of trial 0"),
    "decision of another": (changed(3, trial=1), 3, "must come after the decision of trial 0"),
    "decision about another epoch": (changed(3, epoch=4, rung=4), 3, r"last epoch \(1\)"),
    "decision about no rung": (changed(3, rung=None), 3, r"last epoch \(1\)"),
    "promotion of who runs": (changed(3, action="promote"), 3, "while the trial is PAUSED, not RUNNING"),
    "last epoch without an end": (changed(4, last=True), 6, "must come after the end of trial 0"),
    "divergence without an end": (
        changed(2, metrics={"val_accuracy": float("inf"), "train_loss": 1.0}), 3, "must come after the end of trial 0",
    ),
    "result after the end": (added(4, trial=0, **END), 5, "must not come after the trial's end as STOPPED"),
    "complete without a last epoch": (
        added(4, trial=0, **{**END, "status": "COMPLETED"}), 4, "must not be COMPLETED without a last epoch",
    ),
    "loss of who waits": (lambda told: (added(4, trial=0, **LOSS)(told), copied(4, 5)(told)), 5, "not PENDING"),
    "result of who waits": (added(4, trial=0, **LOSS), 5, "while the trial is RUNNING, not PENDING"),
    "resumed while it runs": (added(4, event="resume", trial=0, leg=2, reason="x", time=1.0), 4, "while .* PENDING"),
    "resumed as another leg": (
        lambda told: (
            added(4, trial=0, **LOSS)(told),
            added(5, event="resume", trial=0, leg=7, reason="x", time=1.0)(told),
        ),
        5, "must be leg 2 of the trial, not 7",
    ),
    "suggested twice": (copied(1, 4), 4, "must be of trial 1, the next"),
    "a number left out": (changed(1, trial=1), 1, "must be of trial 0, the next"),
    "from another searcher": (changed(1, origin="random"), 1, "must have the origin recipe:plain"),
    "values of another space": (changed(1, values={"lr": 1}), 1, "must hold values of the study's space"),
    "a config that is none": (changed(1, config={"epochs": 4, "model": 3}), 1, "must hold a valid config"),
    "no session": (removed(0), 0, "between the beginning and the end of a session"),
    "a session twice": (copied(0, 4), 4, "must be of a session after 1"),
    "another session's end": (added(4, event="close", session=2, reason="x", time=1.0), 4, "must end the session"),
    "cost of no session": (added(0, **COST), 0, "between the beginning and the end of a session"),
    "cost in between": (added(3, **COST), 3, "must come after the decision of trial 0"),
    "a cost that falls": (
        lambda told: (added(1, **COST)(told), added(2, **COST | {"total": 1.5})(told)), 2, "cost counted before, 2",
    ),
    "after the session": (added(4, event="close", session=1, reason="x", time=1.0), 5, "between the beginning"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "line", "rule"), IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_what_no_driver_writes_is_refused_with_its_line(
    tmp_path_factory: pytest.TempPathFactory, change: Callable[[list[Any]], Any], line: int, rule: str
) -> None:
    spec, folder = study("asha"), tmp_path_factory.mktemp("impossible")
    driver = driver_for(spec, folder, 2)
    driver.record(started(1))
    go_on(driver, 6)
    told = [event.model_dump(mode="json") for event in read(folder)]
    names = [event["event"] for event in told[:6]]
    assert names == ["session", "suggest", "result", "decision", "result", "decision"]
    change(told)
    (folder / "000002.jsonl").write_text("".join(json.dumps(event) + "\n" for event in told))
    with pytest.raises(ConfigError, match=rf"000002\.jsonl, line {line + 1}\b.*{rule}") as caught:
        checked(spec, read_places(folder))
    check_clear(caught.value)
    assert len(str(caught.value)) < 600


def test_a_journal_that_ends_where_something_is_due_is_refused(tmp_path: Path) -> None:
    spec = study("asha")
    driver = driver_for(spec, tmp_path, 2)
    driver.record(started(1))
    go_on(driver, 1)
    events = [event for event in read(tmp_path) if event.event != "decision"]
    (tmp_path / "000002.jsonl").write_text("".join(event.model_dump_json() + "\n" for event in events))
    with pytest.raises(ConfigError, match=r"line 3: must be followed by the trial's decision"):
        checked(spec, read_places(tmp_path))


@pytest.mark.parametrize("calls", [5, 8, 11])
def test_a_decision_that_was_changed_counts(tmp_path_factory: pytest.TempPathFactory, calls: int) -> None:
    # Another version may decide otherwise: nobody is handed out twice for it, and nobody waits for ever.
    spec, folder = study("asha_promote"), tmp_path_factory.mktemp("decided")
    driver = driver_for(spec, folder, 2)
    driver.record(started(1))
    go_on(driver, calls)
    text = (folder / "000002.jsonl").read_text()
    for before, after in (("pause", "continue"), ("continue", "pause"), ("pause", "stop")):
        for line in re.findall(rf'.*"action":"{before}".*', text):
            edited = text.replace(line, line.replace(f'"action":"{before}"', f'"action":"{after}"'))
            resume(spec, written(tmp_path_factory, [edited.encode()]))


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "000001.jsonl")  # nobody will ever write to it
    with pytest.raises(ConfigError, match="must be a readable journal segment") as caught:
        list(read(tmp_path))
    check_clear(caught.value)
    (tmp_path / "000001.jsonl").unlink()
    (tmp_path / "000001.jsonl").symlink_to("/dev/zero")
    assert read_or_refused(lambda: list(read(tmp_path))) is None
