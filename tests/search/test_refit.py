"""Refit and explanation as a user runs them: real Ray, real images, real kills, and the test split opened once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from search.analysis.finalists import refit_outcome
from search.explain import explain
from search.journal.events import TestOpened, TestScored
from search.journal.log import read
from search.journal.result import StudyResult
from search.refit import refit
from tests.conftest import Typed
from tests.search.killed_search import environment, journal_lines, result
from tests.search.mlflow_contents import statuses

SMALL = (
    "digits_resnet8", "--trials", "3", "--epochs", "2", "--set", "refit.top=1", "--set", "refit.seeds=3", "--set",
    "refit.folds=1",
)  # fmt: skip


def start(verb: str, *arguments: str, cwd: Path | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"search.{verb}", *arguments], env=environment(), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, cwd=cwd,
    )  # fmt: skip


def kill_at(folder: Path, marker: str, verb: str, *arguments: str) -> None:
    """Run a verb and kill its driver once the journal holds so and so."""
    process, deadline = start(verb, *arguments), time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        if any(marker in path.read_text() for path in (folder / "journal").glob("*.jsonl")):
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=60)
            return
        time.sleep(0.01)
    raise AssertionError(process.communicate()[0])


def finish(verb: str, *arguments: str, cwd: Path | None = None) -> str:
    process = start(verb, *arguments, cwd=cwd)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def each_run_once(found: StudyResult) -> None:
    for comparison in found.comparisons:
        counts = Counter((run.arm, comparison.index(run)) for run in comparison.runs)
        assert set(counts.values()) == {1}
        assert all(run.status.ended and run.last_epoch == 2 for run in comparison.runs)


@pytest.mark.slow
def test_killed_in_refit_at_the_test_split_and_in_explain_it_ends_as_if_never_stopped(tmp_path: Path) -> None:
    out, folder = ("--out", str(tmp_path)), tmp_path / "digits_resnet8"
    kill_at(folder, '"refit:he2015"', "run", *SMALL, *out)
    assert " of at most 6 runs have ended" in finish("status", "digits_resnet8", *out)
    kill_at(folder, '"test_opened"', "run", *SMALL, *out)
    before = journal_lines(folder)
    output = finish("run", *SMALL, *out)
    assert "test split: " in output
    assert "in the search" in output
    found = result(tmp_path, "digits_resnet8")
    assert found.finished
    assert journal_lines(folder) - before <= 4  # begun, scored, ended: nothing was trained again
    each_run_once(found)
    events = list(read(folder / "journal"))
    assert [type(event) for event in events if isinstance(event, TestOpened | TestScored)] == [TestOpened, TestScored]
    best = yaml.safe_load((folder / "best_config.yaml").read_text())
    outcome = refit_outcome(found, found.comparisons[0])
    assert best["provenance"]["refit"]["winner"] == outcome.winner.arm.name  # type: ignore[union-attr]
    assert best["provenance"]["refit"]["test"]["mean"] == pytest.approx(outcome.test.mean)  # type: ignore[union-attr]
    kept = {path.parent.parent.name for path in (folder / "checkpoints").rglob("*.pt")}
    runs = {f"trial-{run.number:04d}": run.arm for run in found.comparisons[0].runs}
    assert {runs[name] for name in kept & runs.keys()} == {outcome.winner.arm.name}  # type: ignore[union-attr]

    mine = tmp_path / "mine.yaml"  # a config that no recipe is
    tree = {"model": {"kind": "cifar_resnet", "depth": 8}, "optimizer": {"kind": "sgd", "lr": 0.003}, "batch_size": 96}
    mine.write_text(yaml.safe_dump({**tree, "epochs": 100}))
    explained = ("digits_resnet8", "--from", str(mine), "--seeds", "2", *out)
    kill_at(folder, '"explain:step 1"', "explain", *explained)
    output = finish("explain", *explained)
    assert "mine.yaml: epochs 2 instead of 100, as the study has it" in output
    assert "what bought what" in output
    assert "continuing its explain" in output
    found = result(tmp_path, "digits_resnet8")
    each_run_once(found)
    assert [comparison.kind for comparison in found.comparisons] == ["refit", "explain"]
    finish("refit", "digits_resnet8", "--top", "1", "--seeds", "2", "--folds", "3", "--out", ".", cwd=tmp_path)
    again = result(tmp_path, "digits_resnet8")
    assert refit_outcome(again, again.comparisons[-1]).opened_before == 1
    assert {run.config["data"]["folds"] for run in again.comparisons[-1].runs} == {3}
    tracked = statuses(f"sqlite:///{tmp_path}/mlflow.db", "digits_resnet8")
    assert len(tracked) == 1 + len(again.trials) + sum(len(c.runs) for c in again.comparisons)
    assert not set(tracked) & {"RUNNING", "SCHEDULED"}


@pytest.mark.parametrize(
    ("verb", "arguments", "said"),
    [
        (refit, ("absent",), "STUDY"),
        (refit, ("made", "--against", "he2016"), "--against: must be a recipe of made"),
        (refit, ("made", "--top", "0"), "top"),
        (refit, ("made", "--seeds", "1"), "seeds"),
        (refit, ("made", "--folds", "0"), "folds"),
        (explain, ("made", "--from", "mine.yaml"), "readable"),
        (explain, ("made", "--seeds", "1"), "--seeds: must be at least 2"),
        (explain, ("made",), "must have a trial that was trained to its end"),
    ],
)
def test_bad_input_is_refused_before_anything_starts(
    tmp_path: Path, typed: Typed, verb: object, arguments: tuple[str, ...], said: str
) -> None:
    from search.journal.log import Journal
    from tests.search.sample_study import sample_spec, suggested

    spec = sample_spec("made")
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "study.yaml").write_text(spec.dump())
    journal = Journal(tmp_path / "made" / "journal", 1)
    journal.append(suggested(spec, 0))
    done = typed(verb, *arguments, "--out", tmp_path)  # type: ignore[operator]
    assert (done.returncode, said in done.stderr) == (2, True), done
    assert len(list(read(tmp_path / "made" / "journal"))) == 1
