"""What `search.status` shows, on a terminal and without one."""

from __future__ import annotations

import io
import re
import shlex
import time
from pathlib import Path

import pytest
from rich.console import Console

from search.journal.events import EpochReported, Event, SessionStarted, TrialStatus, WorkerLost
from search.journal.locks import lock
from search.status import print_status, status
from search.study.overrides import override
from search.study.parse import load_study
from search.views.summary import look
from tests.conftest import Typed
from tests.search.sample_study import (
    IMAGES,
    first_session,
    metrics,
    priced_events,
    sample_spec,
    suggested,
    trial_events,
    troubled_events,
    write_study,
)

SPEC = sample_spec(trials=40)


def written(folder: Path, events: list[Event]) -> Path:
    return write_study(folder, SPEC, events)


def shown(folder: Path, terminal: bool = False, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    print_status(look(folder), console)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue().splitlines()


def busy() -> list[Event]:
    """A third session, 20 days old, with a running trial and more trouble than is shown."""
    now, day = time.time(), 86400
    events: list[Event] = troubled_events(SPEC)[:-1]
    events += [SessionStarted(session=3, time=now - 20 * day, versions={}, images=IMAGES)]
    events += [suggested(SPEC, 5), EpochReported(trial=5, epoch=1, metrics=metrics(5, 1), time=now - 10 * day)]
    for trial in range(6, 20):
        error = f"ray.exceptions.OutOfMemoryError: [trial {trial}] " + "The node runs low. " * 40
        events += [
            suggested(SPEC, trial),
            WorkerLost(trial=trial, cause="worker_died", error=error, time=now - 5 * day),
        ]
    return events


def facts(lines: list[str]) -> dict[str, str]:
    """The lines before the tables."""
    return {line[:9].strip(): line[9:] for line in lines[: lines.index("")]}


def test_a_running_search(tmp_path: Path) -> None:
    folder = written(tmp_path / "sample", busy())
    with lock(folder / "journal"):
        lines = shown(folder)
        narrow = shown(folder, terminal=True)
    found = facts(lines)
    assert found["study"] == f"sample in {folder}"
    start = lines.index(f"images   {IMAGES[0]}")
    assert lines[start + 1 : start + 3] == [f"         {line}" for line in IMAGES[1:]]
    assert re.fullmatch(r"running: session 3 for 20 days, process \d+ on \S+", found["state"])
    assert found["time"].endswith("in 3 sessions")
    assert found["trials"] == "5 of 40 have ended; 14 pending, 1 running, 2 completed, 2 stopped, 1 failed"
    assert found["epochs"] == "13 trained"
    assert found["best"] == "trial 1 (random), val_accuracy 0.6100 at epoch 4, +0.0100 against naive"
    assert found["waiting"] == "trials 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19"
    rows = [" ".join(line.split()) for line in lines]
    assert "5 random 1 of 4 0.5750 10 days ago" in rows
    assert "lost workers and failures: the last 5, and 11 more" in rows
    assert any(
        row.startswith("6 1 worker lost (worker_died) ray.exceptions.OutOfMemoryError: [trial 6]") for row in rows
    )
    assert "sample: the 5 best of 20 trials by val_accuracy, incomplete ones last" in rows
    assert not any("to continue" in row for row in rows)
    assert facts(shown(written(tmp_path / "paused", troubled_events(SPEC)[:24])))["paused"] == "2 at epoch 2"
    assert narrow[-1].split("#")[0].endswith(f"-m search.check sample --out {tmp_path}   ")
    assert max(len(line) for line in narrow[:-1]) <= 80
    assert len(narrow) < 60
    for part in ("last heartbeat", "1 of 4", "10 days ago", "[trial 6]", "1 worker lost (worker_died)", "0.6100"):
        assert part in "\n".join(narrow)


def test_the_cost_of_a_search(tmp_path: Path) -> None:
    spec = override(SPEC, max_cost=20, prices=["head=0.36", "gpu=3.24"])
    folder = write_study(tmp_path / "sample", spec, priced_events(SPEC)[:-1])
    assert re.fullmatch(r"0\.\d+ of 20\.00", facts(shown(folder))["cost"])
    with lock(folder / "journal"):
        assert facts(shown(folder))["cost"].endswith(" of 20.00, 3.60 an hour now")
    assert "cost" not in facts(shown(written(tmp_path / "free", troubled_events(SPEC))))


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ([], "no session has started"),
        (troubled_events(SPEC)[:5], "killed: session 1 wrote its last event "),
        (first_session(troubled_events(SPEC)), "interrupted: session 1 ended "),
        (troubled_events(SPEC), "finished: session 2 ended "),
    ],
)
def test_the_state_without_a_driver(tmp_path: Path, events: list[Event], says: str) -> None:
    folder = written(tmp_path / "sample", events)
    for terminal in (False, True):
        lines = shown(folder, terminal)
        assert says in next(line for line in lines if line.startswith("state"))
        assert any("to continue" in line for line in lines) == ("finished" not in says)


def test_a_driver_that_starts_or_concludes_is_shown(tmp_path: Path) -> None:
    folder = written(tmp_path / "sample", first_session(troubled_events(SPEC)))
    with lock(folder / "journal"):
        assert any("is starting, or writing its results; session 1 ended" in line for line in shown(folder))
    folder = written(tmp_path / "new", [])
    with lock(folder / "journal"):
        assert any("about to start" in line for line in shown(folder))


def test_the_command_to_continue_names_this_study(tmp_path: Path) -> None:
    folder = written(tmp_path / "a b" / "sample", first_session(troubled_events(SPEC)))
    command = shlex.split(shown(folder)[-1].removeprefix("to continue: "))
    assert command[1:3] == ["-m", "search.run"]
    assert load_study(command[3]) == SPEC
    assert command[4:] == ["--out", str(folder.parent)]
    renamed = written(tmp_path / "renamed", first_session(troubled_events(SPEC)))
    assert "rename the folder to sample" in shown(renamed)[-1]


def test_the_verb(tmp_path: Path, typed: Typed) -> None:
    running = [*troubled_events(SPEC)[:1], *trial_events(SPEC, 0, TrialStatus.RUNNING)]
    written(tmp_path / "runs" / "sample", running)
    done = typed(status, "sample")
    assert (done.returncode, done.stderr) == (0, "")
    assert "study    sample in runs/sample\n" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("-m search.run runs/sample/study.yaml")


def test_what_cannot_be_shown_is_an_error_of_a_line(tmp_path: Path, typed: Typed) -> None:
    folder = written(tmp_path / "runs" / "sample", troubled_events(SPEC)[:5])
    done = typed(status, "smaple")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: STUDY: must be a study in runs: there are sample, got 'smaple'\n"
    with (folder / "journal" / "000001.jsonl").open("a") as file:
        file.write("{}\n")
    done = typed(status, "runs/sample")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "runs/sample/journal/000001.jsonl, line 7" in done.stderr
