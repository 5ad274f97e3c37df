"""What a search prints at its end, and when there was nothing left to do."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from search.journal.records import TrialStatus
from search.journal.result import StudyResult, collect
from search.study.overrides import override
from search.views.outcome import print_outcome
from tests.search.sample_study import sample_events, sample_spec, troubled_events

SPEC = sample_spec(trials=5)
FINISHED = collect(SPEC, troubled_events(SPEC))


def printed(result: StudyResult, code: int = 0) -> list[str]:
    console = Console(file=StringIO(), width=80)
    assert print_outcome(result, Path("runs").absolute(), console) == code
    output = console.file
    assert isinstance(output, StringIO)
    return output.getvalue().splitlines()


def test_a_study_that_was_finished_before_says_so_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert not any("finished" in line or "to go on" in line for line in printed(FINISHED))
    lines = printed(replace(FINISHED, finished_before=True))
    found = "5 of 5 trials, best val_accuracy 0.6100 (trial 1), +0.0100 against naive"
    assert lines[0] == f"sample is finished, and nothing was trained now: {found}"
    more, fresh = lines[lines.index("to go on:") + 1 :]
    assert more.split("#")[0].endswith("-m search.run runs/sample/study.yaml --trials 10   ")
    assert fresh.split("#")[0].endswith("-m search.run runs/sample/study.yaml --fresh   ")


def test_an_interrupted_search_is_told_how_to_go_on_before_anything_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "sample").mkdir(parents=True)
    (tmp_path / "runs" / "sample" / "best_config.yaml").touch()
    endings = (TrialStatus.COMPLETED, TrialStatus.COMPLETED, TrialStatus.RUNNING)
    lines = printed(collect(SPEC, sample_events(SPEC, endings)), code=130)
    commands = [line.split("#")[0].split("-m ")[1].split()[0] for line in lines if " -m " in line]
    assert commands[0] == "search.run"
    assert {"search.refit", "search.explain"}.isdisjoint(commands)
    told = "interrupted: finished work is saved, 1 trial waits to be resumed. To continue:"
    assert lines.index(told) < lines.index("meanwhile:")
    finished = printed(FINISHED)
    assert "next:" in finished
    assert any("-m search.refit sample" in line for line in finished)
    assert any("-m search.export sample --format pt2   # the network itself" in line for line in finished)


def test_a_study_that_ran_out_of_time_needs_more_of_it() -> None:
    spec = override(sample_spec(trials=8), hours=0.001)
    result = replace(collect(spec, troubled_events(spec)), finished_before=True)
    assert result.finished
    more, _ = printed(result)[-2:]
    assert "--hours MORE   # the trials that are left" in more
