"""A package of thirty lines brings a searcher, a scheduler, a model and images; its study is killed and resumes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import search
from search.check import check
from search.diagnose import diagnose
from search.explain import explain
from search.export import export
from search.journal.log import read
from search.journal.result import StudyResult, collect
from search.refit import refit
from search.report import report
from search.run import run
from search.status import status
from search.study.parse import load_study, parse_study
from search.track import track
from search.trials import trials
from tests.conftest import Typed
from tests.search.killed_search import journal_lines
from tests.search.sample_study import refit_events, write_study
from trainables.config import ConfigError, load_yaml, parse_yaml, plugins
from trainables.train import train

PACKAGE = """
import numpy as np
from pydantic import BaseModel
from torch import nn

from search.algorithms.schedulers.base import Decision, NeverPausing
from search.algorithms.searchers.random import RandomSearcher
from trainables.data.source import Contents, Row

def build(num_classes, width=4):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(width, num_classes))

class Shades:
    def __init__(self, argument): self.count = int(argument)
    def signature(self): return ["shades", self.count]
    def contents(self, downloads):
        pixels = lambda i: np.full((3, 8, 8), (i % 2) * 200 + i % 50, np.uint8)
        rows = lambda: (Row("train", i % 2, str(i), pixels(i)) for i in range(self.count))
        return Contents(("dark", "light"), rows, self.count, self.count * 192)

class Draws(RandomSearcher):
    def __init__(self, study, settings): super().__init__(study.parsed_space, study.seed + 1)

class Half(NeverPausing):
    def __init__(self, study, settings): self.epochs = study.budget.epochs
    def rungs(self, trial): return (self.epochs // 2,)
    def on_result(self, trial, epoch, value):
        if epoch != self.epochs // 2: return Decision()
        return Decision("stop" if trial % 2 else "continue", rung=epoch)
"""
ENTRIES = """
[resnet_search.searchers]
draws = shades:Draws
[resnet_search.schedulers]
half = shades:Half
[resnet_search.models]
narrow = shades:build
[resnet_search.data_sources]
gray = shades:Shades
"""
STUDY = """
study: plugged
trial:
  model: {{kind: {model}, settings: {{width: 5}}}}
  data: {{source: "{source}:200"}}
  optimizer: {{kind: sgd, lr: 0.05}}
space: {{optimizer: {{lr: {{float: [0.01, 0.1], log: true}}}}}}
searcher: {{kind: {searcher}}}
scheduler: {{kind: {scheduler}}}
budget: {{trials: {trials}, epochs: 4}}
resources: {{concurrent: 1}}
"""


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH with the installed package in it."""
    folder = tmp_path / "site"
    (folder / "shades-1.0.dist-info").mkdir(parents=True)
    (folder / "shades.py").write_text(PACKAGE)
    (folder / "shades-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: shades\nVersion: 1.0\n")
    (folder / "shades-1.0.dist-info" / "entry_points.txt").write_text(ENTRIES)
    return folder


def begin(tmp_path: Path, packages: Path) -> subprocess.Popen[str]:
    known = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    known |= {"PYTHONPATH": str(packages), "RESNET_SEARCH_CACHE": str(tmp_path / "cache")}
    return subprocess.Popen(
        [sys.executable, "-m", "search.run", "plugged.yaml"], cwd=tmp_path, env=known, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def result(tmp_path: Path) -> StudyResult:
    folder = tmp_path / "runs" / "plugged"
    return collect(load_study(str(folder / "study.yaml")), read(folder / "journal"))


@pytest.mark.slow
def test_entry_points_make_a_study_that_is_killed_and_resumes(
    tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch, typed: Typed
) -> None:
    names = {"model": "narrow", "source": "gray", "searcher": "draws", "scheduler": "half"}
    (tmp_path / "plugged.yaml").write_text(STUDY.format(**names, trials=4))
    process = begin(tmp_path, packages)
    while process.poll() is None and journal_lines(tmp_path / "runs" / "plugged") < 10:  # the third trial runs
        time.sleep(0.05)
    process.kill()
    process.communicate()
    process = begin(tmp_path, packages)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    monkeypatch.syspath_prepend(str(packages))
    plugins._entry_points.cache_clear()
    found = result(tmp_path)
    assert [record.status.value for record in found.trials] == ["COMPLETED", "STOPPED"] * 2
    assert {record.origin for record in found.trials} == {"draws"}
    assert all(record.config["model"]["settings"] == {"width": 5} for record in found.trials)
    again = typed(train, "runs/plugged/best_config.yaml")
    assert again.returncode == 0, again.stdout + again.stderr


def test_dotted_paths_run_only_when_their_package_is_allowed(
    tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch, typed: Typed
) -> None:
    monkeypatch.syspath_prepend(packages)
    monkeypatch.setattr(plugins, "_allowed", {})
    names = {"model": "shades:build", "source": "shades:Shades", "searcher": "shades:Draws", "scheduler": "shades:Half"}
    (tmp_path / "plugged.yaml").write_text(STUDY.format(**names, trials=2))
    done = typed(run, "plugged.yaml")
    assert done.returncode == 2
    for key in ("trial.model.kind", "trial.data.source", "searcher.kind", "scheduler.kind"):
        assert f"error: {key}" in done.stderr
    assert "runs only if you allow it: --plugin shades" in done.stderr
    done = typed(run, "plugged.yaml", "--plugin", "shades", "--dry-run")  # runs their code
    assert done.returncode == 0, done.stderr
    sys.modules.pop("shades", None)


NAMES = {"model": "unseen:build", "source": "unseen:Shades", "searcher": "unseen:Draws", "scheduler": "unseen:Half"}
INSTALLED = {"model": "narrow", "source": "gray", "searcher": "draws", "scheduler": "half"}  # not in this environment


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results folder of two studies with plug-ins: of a package that nobody may import, and of one that is gone."""
    (tmp_path / "unseen.py").write_text("raise SystemError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with plugins.as_recorded():
        for name, kinds in (("unseen", NAMES), ("gone", INSTALLED)):
            tree = parse_yaml(STUDY.format(**kinds, trials=8), "study")
            naive = {"config": {"optimizer": {"lr": 0.01}}}
            spec = parse_study({**tree, "study": name, "recipes": {"naive": naive}})
            write_study(tmp_path / "runs" / name, spec, refit_events(spec))
    return tmp_path / "runs"


@pytest.mark.parametrize("name", ["unseen", "gone"])
def test_reading_a_study_needs_no_plug_in(recorded: Path, name: str, typed: Typed) -> None:
    for verb in (status, trials, check, report, export, track):
        done = typed(verb, name)
        assert done.returncode == 0, done.stderr
    assert load_yaml(recorded / name / "best_config.yaml")["config"]["model"]["settings"] == {"width": 5}
    done = typed(status, "--all")
    assert (done.returncode, "unreadable" in done.stdout) == (0, False)
    found = search.open_study(name)
    assert found.winner() == found.trials[4]
    assert "the refit's winner is trial-4" in repr(found)
    search.report_study(found)
    assert search.check_study(found)
    assert "unseen" not in sys.modules


def test_what_a_reader_is_told_to_type_allows_the_plug_in(recorded: Path, typed: Typed) -> None:
    assert "trainables.train runs/unseen/best_config.yaml --plugin unseen" in typed(export, "unseen").stdout
    typed(report, "unseen")
    page = (recorded / "unseen" / "report.html").read_text()
    assert "search.run runs/unseen/study.yaml --plugin unseen" in page
    assert "search.check unseen\n" in page.replace("<", "\n")


def test_what_builds_the_network_must_be_allowed_still(recorded: Path, typed: Typed) -> None:
    for verb in (refit, explain, diagnose):
        done = typed(verb, "unseen")
        assert (done.returncode, "runs only if you allow it: --plugin unseen" in done.stderr) == (2, True), done
    done = typed(run, "runs/unseen/study.yaml", "--dry-run")
    assert (done.returncode, "runs only if you allow it: --plugin unseen" in done.stderr) == (2, True), done
    with pytest.raises(ConfigError, match="runs only if you allow it"):
        search.open_study("unseen").spec.trial_config({})
    assert "unseen" not in sys.modules
