from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from search.algorithms.schedulers.registry import build_scheduler
from search.algorithms.searchers.registry import build_searcher
from search.engine.driver import StudyDriver
from search.journal.events import CostCounted, SessionStarted, TestOpened, TrialEnded, TrialStatus
from search.journal.log import Journal
from search.journal.records import Epoch, TrialRecord
from search.journal.state import StudyState
from search.study.overrides import override
from search.study.parse import load_study
from search.views.leaderboard import print_leaderboard
from search.views.progress import Progress
from tests.search.sample_study import refit_events
from trainables.config import parse_config
from trainables.trainable import build_trainable

RECORD = TrialRecord(0, "random", None, {}, TrialStatus.STOPPED, "rung 1", ended=2.0)
ENDED = TrialEnded(trial=0, status=TrialStatus.STOPPED, stop_reason="rung 1", time=2.0)


def searched(tmp_path: Path, terminal: bool, width: int) -> str:
    """What a terminal (or a pipe) of that width shows of a whole search."""
    spec = override(load_study("synthetic"), trials=12, epochs=9)
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    progress = Progress(spec, state := StudyState(), console)
    journal = Journal(tmp_path / "journal", 1)
    driver = StudyDriver(spec, journal, build_searcher(spec), build_scheduler(spec), state, [progress])
    with progress:
        driver.record(SessionStarted(session=1, time=1.0, versions={}))
        while (suggested := driver.next_leg()) is not None:
            for result in build_trainable(parse_config(suggested.config), Path()).epochs():
                if driver.on_result(suggested.trial, result.epoch, result.metrics(), result.last, result.stop_reason):
                    break
    print_leaderboard(spec, state.trials, console)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def test_without_a_terminal_every_trial_is_a_plain_line(tmp_path: Path) -> None:
    shown = searched(tmp_path, terminal=False, width=200)
    assert "\x1b" not in shown
    lines = [line for line in shown.splitlines() if line.startswith("[")]
    assert len(lines) == 12
    assert "recipe:published" in lines[0]
    assert "completed" in lines[0]
    assert any("stopped (rung 1)" in line for line in lines)
    assert all("best 0." in line for line in lines)
    assert "12 of 12 trials" in lines[-1]


def test_a_trial_that_has_collapsed_is_told_as_such() -> None:
    console, history = Console(file=io.StringIO(), width=200), (Epoch(1, {"val_accuracy": 0.1}, collapsed="one class"),)
    with Progress(load_study("synthetic"), StudyState({0: replace(RECORD, history=history)}), console) as progress:
        progress(ENDED)
    assert "stopped (rung 1), collapsed (one class)" in console.file.getvalue()  # type: ignore[attr-defined]


def test_what_a_search_has_cost_is_shown(tmp_path: Path) -> None:
    spec = override(load_study("synthetic"), trials=2, epochs=4, max_cost=1e6, prices=["1"])
    console = Console(file=io.StringIO(), width=200)
    state = StudyState({0: RECORD})
    with Progress(spec, state, console) as progress:
        progress(ENDED)
        state.apply(CostCounted(total=2.5, rate=0.0, nodes={"node": 1}, time=1.0))
        progress(ENDED)
    output = console.file
    assert isinstance(output, io.StringIO)
    before, after = output.getvalue().splitlines()
    assert "cost" not in before
    assert "| cost 2.50 of 1000000.00 |" in after


def test_a_resumed_search_estimates_its_end_once_two_trials_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("search.views.progress.time.monotonic", lambda: now[0])
    spec = override(load_study("synthetic"), trials=12, epochs=9)
    epochs = tuple(Epoch(number, {"val_accuracy": 0.5}) for number in range(1, 10))
    records = {0: replace(RECORD, history=epochs)}
    console = Console(file=io.StringIO(), width=200)
    with Progress(spec, StudyState(records), console) as progress:
        for number in (1, 2):
            now[0] += 60.0
            records[number] = replace(RECORD, number=number, history=epochs)
            progress(ENDED)
    output = console.file
    assert isinstance(output, io.StringIO)
    first, second = output.getvalue().splitlines()
    assert first.endswith("2 of 12 trials")
    assert second.endswith("3 of 12 trials, about 9 min left")


def test_a_terminal_says_that_the_winner_is_being_scored() -> None:
    spec = override(load_study("digits_resnet8"), trials=6)
    events = refit_events(spec)
    opened = next(place for place, event in enumerate(events) if isinstance(event, TestOpened))

    def shown(count: int) -> str:
        console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
        with Progress(spec, StudyState.of(events[:count]), console) as progress:
            progress(events[0])
        return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]

    scoring = "refit: scoring the winner on the test split"
    assert [scoring in shown(opened + more) for more in (0, 1, 2)] == [False, True, False]


def test_a_terminal_shows_the_state_of_the_search(tmp_path: Path) -> None:
    shown = searched(tmp_path, terminal=True, width=100)
    assert "12 of 12 trials" in shown
    assert "completed" in shown


def test_the_leaderboard_keeps_its_numbers_in_a_narrow_terminal(tmp_path: Path) -> None:
    shown = searched(tmp_path, terminal=False, width=70)
    table = shown[shown.index("the 10 best of 12 trials") :].splitlines()
    head = next(i for i, line in enumerate(table) if "value" in line)
    assert "trial" in table[head]
    completed = [line.split() for line in table[head + 2 :] if line.strip() and "stopped" not in line]
    values = [float(cells[3]) for cells in completed]
    assert len(values) >= 2
    assert values == sorted(values, reverse=True)
    assert all(0 < value < 1 for value in values)
    assert all(len(line) <= 70 for line in table)


def test_the_leaderboard_names_the_network_where_trials_differ_in_it() -> None:
    networks = ({"kind": "timm", "name": "resnet18d"}, {"kind": "wide_resnet", "depth": 16, "width": 4})
    records = [replace(RECORD, number=n, config={"model": model, "batch_size": 8}) for n, model in enumerate(networks)]
    output = io.StringIO()
    print_leaderboard(load_study("synthetic"), records, Console(file=output, width=120))
    assert "timm, resnet18d, batch 8" in output.getvalue()
    assert "wide_resnet, depth 16, width 4, batch 8" in output.getvalue()
    output = io.StringIO()
    print_leaderboard(load_study("synthetic"), records[:1], Console(file=output, width=120))
    assert "timm" not in output.getvalue()
