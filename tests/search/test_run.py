"""The whole path, as a user types it: real Ray, real MLflow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pyarrow.parquet as pq
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from search.export import export
from search.journal.log import read
from search.journal.records import TrialStatus
from search.journal.result import collect
from search.run import run
from search.study.parse import load_study
from tests.conftest import Typed
from tests.search.mlflow_contents import runs_of
from trainables.evaluate import evaluate
from trainables.result import METRICS
from trainables.train import train


def search(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    known = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    return subprocess.run(
        [sys.executable, "-m", "search.run", *arguments], capture_output=True, text=True, cwd=tmp_path, check=False,
        env=known | {"RESNET_SEARCH_CACHE": str(tmp_path / "cache"), "COLUMNS": "100"},
    )  # fmt: skip


def test_a_search_from_the_command_to_the_exported_config(tmp_path: Path, typed: Typed) -> None:
    done = search(tmp_path, "synthetic", "--trials", "12", "--epochs", "9")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "synthetic"

    spec = load_study(str(folder / "study.yaml"))
    assert (spec.budget.trials, spec.budget.epochs) == (12, 9)
    result = collect(spec, read(folder / "journal"))
    assert [record.number for record in result.trials] == list(range(12))
    states = {record.status for record in result.trials}
    assert {TrialStatus.COMPLETED, TrialStatus.STOPPED} <= states
    assert all(record.status.ended for record in result.trials)

    table = pq.read_table(folder / "trials.parquet")
    assert {"trial_id", "status", "stop_reason", "epoch", "config.optimizer.lr", *METRICS} <= set(table.column_names)
    assert table.num_rows == sum(len(record.history) for record in result.trials)

    best = result.best()
    assert best is not None
    exported = yaml.safe_load((folder / "best_config.yaml").read_text())
    assert exported["provenance"]["trial"] == best.number
    assert exported["provenance"]["value"] == best.value("val_accuracy")
    assert exported["config"] == best.config

    journal = JournalFileBackend(str(folder / "optuna_journal.log"))
    study = optuna.load_study(study_name="synthetic", storage=JournalStorage(journal))
    assert len(study.trials) == 12

    parent, runs = runs_of(f"sqlite:///{tmp_path}/runs/mlflow.db", "synthetic")
    assert len(runs) == 12
    assert "RUNNING" not in {run.info.status for run in (parent, *runs.values())}
    of_best = runs[best.number]
    assert of_best.info.run_id == exported["provenance"]["mlflow_run_id"]
    assert of_best.data.metrics["val_accuracy"] == best.value("val_accuracy")
    assert of_best.data.params["optimizer.kind"] == best.config["optimizer"]["kind"]

    assert not (tmp_path / "mlruns").exists()
    for said in ("best config: runs/synthetic/best_config.yaml", "python -m trainables.train", "python -m search.ui"):
        assert said in done.stdout
    assert "Traceback" not in done.stdout + done.stderr

    again = typed(train, "runs/synthetic/best_config.yaml")
    assert "reproduced: all 9 recorded metrics" in again.stdout
    other = typed(export, "synthetic", "--trial", "3", "--to", "three.yaml")
    assert other.returncode == 0, other.stderr
    assert yaml.safe_load((tmp_path / "three.yaml").read_text())["config"] == result.trials[3].config

    finished = typed(run, "synthetic", "--trials", "12", "--epochs", "9")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "best config: runs/synthetic/best_config.yaml" in finished.stdout
    assert "synthetic is finished, and nothing was trained now: 12 of 12 trials, best val_accuracy " in finished.stdout
    assert "-m search.run runs/synthetic/study.yaml --trials 24   # more trials" in finished.stdout
    assert [path.name for path in (folder / "journal").glob("*.jsonl")] == ["000001.jsonl"]


REAL: dict[str, Any] = {
    "study": "small",
    "trial": {
        "model": {"kind": "cifar_resnet", "depth": 8},
        "data": {"source": "digits", "train_samples": 200, "val_samples": 100, "train_eval_samples": 50},
    },
    "space": {
        "optimizer": {"lr": {"float": [0.01, 0.3], "log": True}},
        "augment": {"strength": {"float": [0.0, 1.0]}, "rotation": {"choice": [0.0, 15.0]}},
    },
    "recipes": {"plain": {"config": {"optimizer": {"kind": "sgd", "lr": 0.1}, "batch_size": 32}}},
    "searcher": {"kind": "random"},
    "scheduler": {"kind": "asha", "grace_period": 1, "reduction_factor": 2},
    "budget": {"trials": 6, "epochs": 3},
    "resources": {"cpus_per_trial": 1, "concurrent": 1},
}


@pytest.mark.slow
def test_a_later_trial_of_a_reused_worker_is_reproduced_to_the_last_digit(tmp_path: Path, typed: Typed) -> None:
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(REAL))
    done = search(tmp_path, "small.yaml")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "small"
    result = collect(load_study(str(folder / "study.yaml")), read(folder / "journal"))
    assert {record.status for record in result.trials} == {TrialStatus.COMPLETED, TrialStatus.STOPPED}
    record = [r for r in result.trials if r.status == "STOPPED"][-1]
    exported = typed(export, "small", "--trial", str(record.number), "--to", "again.yaml")
    assert exported.returncode == 0, exported.stderr
    again = typed(train, "again.yaml")
    assert f"reproduced: all 9 recorded metrics of epoch {len(record.history)}" in again.stdout, again.stdout
    checkpoint = result.trials[0].checkpoint
    assert checkpoint is not None
    scored = typed(evaluate, checkpoint, "--split", "val")
    assert f"accuracy   {result.trials[0].value('val_accuracy'):.4f}" in scored.stdout, scored.stderr


def test_dry_run_says_what_it_would_cost_and_starts_nothing(tmp_path: Path, typed: Typed) -> None:
    done = typed(run, "digits_resnet8", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("time: about")
    for said in ("epochs: about", "the end\n", "disk: at most about"):
        assert said in done.stdout
    assert not (tmp_path / "runs").exists()
    assert "optimizer" not in done.stdout
    assert "must be given together with --dry-run" in typed(run, "digits_resnet8", "--verbose").stderr
    assert "study: digits_resnet8" in typed(run, "digits_resnet8", "--dry-run", "--verbose").stdout
