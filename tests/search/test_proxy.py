"""A search with a smaller network as a user runs it: real Ray, real digits, and the study's own network at the end."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from search.run import run
from tests.conftest import Typed
from tests.search.killed_search import result
from tests.search.test_refit import finish, kill_at

STUDY = {
    "study": "deeper",
    "trial": {"model": {"kind": "cifar_resnet", "depth": 14}, "data": {"source": "digits"}, "batch_size": 64},
    "space": {"optimizer": {"lr": {"float": [0.02, 0.3], "log": True}}},
    "recipes": {"known": {"config": {"optimizer": {"lr": 0.001}}}},
    "budget": {"trials": 3, "epochs": 2},
    "scheduler": {"kind": "none"},
    "refit": {"top": 1, "seeds": 2, "folds": 1},
    "proxy": {"depth": 8, "train_samples": 400},
}


def ends_deep(folder: Path, output: str) -> None:
    """The search trained the small network, the refit the study's own, and the best config is the latter's."""
    found = result(folder.parent, "deeper")
    assert found.finished
    assert [record.config["model"]["depth"] for record in found.trials] == [8, 8, 8]
    (refit,) = found.comparisons
    best = max(found.trials[1:], key=lambda record: record.value("val_accuracy"))
    names = [arm.name for arm in refit.started.arms]
    assert names[0].startswith(f"trial-{best.number}-lr-")
    assert names[1] == f"trial-{best.number}"
    assert {run.config["model"]["depth"] for run in refit.runs} == {14}
    assert len({(run.arm, run.config["seed"]) for run in refit.runs}) == len(refit.runs) <= 6
    assert refit.scored is not None
    written = yaml.safe_load((folder / "best_config.yaml").read_text())
    assert written["config"]["model"]["depth"] == 14
    assert written["config"]["data"]["train_samples"] is None
    assert written["provenance"]["refit"]["winner"] in names
    assert "at depth 8 on 400 images" in output


def start_study(tmp_path: Path) -> tuple[Path, tuple[str, ...]]:
    """The study's folder, and the arguments that search it."""
    (tmp_path / "deeper.yaml").write_text(yaml.safe_dump(STUDY))
    return tmp_path / "out" / "deeper", (str(tmp_path / "deeper.yaml"), "--out", str(tmp_path / "out"))


@pytest.mark.slow
def test_killed_in_search_and_refit_it_ends_in_a_deep_network(tmp_path: Path) -> None:
    folder, arguments = start_study(tmp_path)
    kill_at(folder, '"origin":"tpe"', "run", *arguments)
    kill_at(folder, '"origin":"refit:known"', "run", *arguments)
    ends_deep(folder, finish("run", *arguments))
    assert "the search trains at depth 8 on 400 images" in finish("status", "deeper", "--out", str(folder.parent))
    assert "the refit trains cifar_resnet of depth 14" in (folder / "report.html").read_text()


def test_it_needs_its_refit(tmp_path: Path, typed: Typed) -> None:
    _, arguments = start_study(tmp_path)
    done = typed(run, *arguments, "--no-refit")
    assert (done.returncode, "--no-refit: must be left out: the search trains at depth 8" in done.stderr) == (2, True)
