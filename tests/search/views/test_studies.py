"""Studies at a glance, as `search.status --all` and `--json` show them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from search.journal.events import EpochReported, Event, SessionStarted
from search.journal.locks import lock
from search.status import status
from tests.conftest import Typed
from tests.search.sample_study import first_session, metrics, sample_spec, suggested, troubled_events, write_study

SPEC = sample_spec()
EVENTS = troubled_events(SPEC)


def started() -> list[Event]:
    now = time.time()
    report = EpochReported(trial=0, epoch=1, metrics=metrics(0, 1), time=now)
    return [SessionStarted(session=1, time=now - 60, versions={}), suggested(SPEC, 0), report]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name, events in {
        "done": EVENTS, "cut": first_session(EVENTS), "killed": EVENTS[:5], "smoke/now": started(), "broken": EVENTS,
    }.items():  # fmt: skip
        write_study(tmp_path / "runs" / name, SPEC, events)
    with (tmp_path / "runs" / "broken" / "journal" / "000002.jsonl").open("a") as file:
        file.write("{}\n")
    return tmp_path / "runs"


def test_every_study_is_a_line_the_last_active_first(runs: Path, typed: Typed) -> None:
    with lock(runs / "smoke" / "now" / "journal"):
        done = typed(status, "--all")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(len(line) <= 80 for line in done.stdout.splitlines() if not line.startswith("error"))
    rows = [row for line in done.stdout.splitlines() if (row := line.split())][2:-1]
    shown = {row[0]: row[1:-2] for row in rows}
    assert rows[0][:4] == ["smoke/now", "running", "0/8", "-"]
    assert shown["done"] == ["finished", "5/8", "0.6100", "+0.0100", "naive"]
    assert shown["cut"][:3] == ["interrupted", "2/8", "0.6000"]
    assert shown["killed"][0] == "killed"
    assert "broken" in shown
    assert "error: " in done.stdout.splitlines()[-1]
    assert "broken/journal/000002.jsonl, line" in done.stdout.splitlines()[-1]


def test_scripts_get_the_same_as_json(runs: Path, typed: Typed) -> None:
    one: dict[str, Any] = json.loads(typed(status, "done", "--json").stdout)
    assert (one["study"], one["folder"], one["state"]) == ("sample", str(runs / "done"), "finished")
    assert one["trials"] == {
        "ended": 5, "of": 8, "pending": 0, "running": 0, "paused": 0, "completed": 2, "stopped": 2, "diverged": 0,
        "failed": 1,
    }  # fmt: skip
    assert one["best"] == {"trial": 1, "origin": "random", "value": metrics(1, 4)["val_accuracy"], "epoch": 4}
    assert one["recipe"] == {"name": "naive", "value": metrics(0, 4)["val_accuracy"]}
    assert one["gain"] == one["best"]["value"] - one["recipe"]["value"]
    everything = json.loads(typed(status, "--all", "--json").stdout)
    assert {Path(study["folder"]).name for study in everything} == {"done", "cut", "killed", "now", "broken"}
    assert all(study.keys() == one.keys() or study.keys() == {"study", "folder", "error"} for study in everything)
    documented = (Path(__file__).parents[3] / "docs" / "results.md").read_text()
    assert all(f"`{key}`" in documented for key in one)


def test_one_study_or_all_must_be_asked_for(runs: Path, typed: Typed) -> None:
    for arguments, rule in (((), "--all shows every study"), (("done", "--all"), "together with --all")):
        done = typed(status, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert rule in done.stderr
    assert "there is no study in it" in typed(status, "--all", "--out", str(runs / "done")).stderr
