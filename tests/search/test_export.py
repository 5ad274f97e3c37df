"""`search.export`: any trial of a journal as a config, and clear refusals."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from search.export import export, export_config
from search.journal.events import TrialStatus
from search.tracking.tracker import MLflowTracker
from search.tracking.uri import default_uri
from tests.conftest import Typed
from tests.search.sample_study import ENDINGS, EPOCHS, metrics, sample_events, sample_spec, write_study
from tests.trained_example import Example
from trainables.config import ConfigError, dump_yaml, load_config, load_yaml
from trainables.files import write_text
from trainables.prediction.predictor import Predictor
from trainables.train import train


def searched(out: Path, endings: Sequence[TrialStatus] = ENDINGS) -> None:
    write_study(out / "sample", sample_spec(), sample_events(sample_spec(), endings))


def test_the_best_trial_is_exported(tmp_path: Path, typed: Typed) -> None:
    searched(tmp_path / "runs")
    done = typed(export, "sample")
    assert done.returncode == 0, done.stderr
    path = tmp_path / "runs" / "sample" / "best_config.yaml"
    assert "trial 4 (random, completed): runs/sample/best_config.yaml" in done.stdout
    assert load_config(path).optimizer.lr == 0.005
    assert load_yaml(path)["provenance"]["metrics"] == metrics(4, EPOCHS)
    assert load_yaml(path)["provenance"]["mlflow_run_id"] is None
    done = typed(export, "sample", "--trial", "17")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "must be a trial of sample: 0 to 5, got 17" in done.stderr


def test_any_trial_is_exported_anywhere(tmp_path: Path, typed: Typed) -> None:
    searched(tmp_path / "other")
    done = typed(export, "sample", "--trial", "1", "--out", "other", "--to", "deep/er/mine.yaml")
    assert done.returncode == 0, done.stderr
    provenance = load_yaml(tmp_path / "deep" / "er" / "mine.yaml")["provenance"]
    assert (provenance["trial"], provenance["stop_epoch"], provenance["chosen"]) == (1, 2, "by hand, with --trial")
    assert not (tmp_path / "other" / "sample" / "best_config.yaml").exists()


def test_without_a_completed_trial_there_is_no_best(tmp_path: Path) -> None:
    searched(tmp_path, (TrialStatus.STOPPED, TrialStatus.FAILED, TrialStatus.RUNNING))
    with pytest.raises(ConfigError, match="must have a completed trial"):
        export_config(tmp_path / "sample", default_uri(tmp_path))
    text, record = export_config(tmp_path / "sample", default_uri(tmp_path), 2)
    assert record.number == 2
    assert "stop_epoch: 2" in text


def test_the_mlflow_run_is_named(tmp_path: Path, store: str) -> None:
    searched(tmp_path)
    spec, uri = sample_spec(), store
    tracker = MLflowTracker(uri, spec, tmp_path)
    for event in sample_events(spec):
        tracker(event)
    wanted = tracker.run_id(4)
    assert tracker.close()
    text, _ = export_config(tmp_path / "sample", uri)
    assert wanted is not None
    assert f"mlflow_run_id: {wanted}" in text


def test_a_tracking_server_that_is_away_costs_only_the_run_id(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    searched(tmp_path)
    text, _ = export_config(tmp_path / "sample", "http://127.0.0.1:1")
    assert "mlflow_run_id: null" in text
    assert "without the MLflow run's id" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("provenance", "rule"),
    [
        ({"stop_epoch": 0}, r"provenance\.stop_epoch: must be a whole number from 1 to 4"),
        ({"stop_epoch": 5}, "stop_epoch"),
        ({"stop_epoch": True}, "stop_epoch"),
        ({"metrics": {"val_loss": "1"}}, r"provenance\.metrics\.val_loss: must be a number"),
    ],
)
def test_an_edited_record_is_refused_before_training(
    tmp_path: Path, provenance: dict[str, Any], rule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    searched(tmp_path)
    path = tmp_path / "best_config.yaml"
    write_text(path, export_config(tmp_path / "sample", default_uri(tmp_path))[0])
    tree = load_yaml(path)
    path.write_text(dump_yaml({**tree, "provenance": {**tree["provenance"], **provenance}}))
    with pytest.raises(ConfigError, match=rule):
        train(path, data=None, seed=None, device=None, full=False, checkpoint=None, cache=None)
    assert "epoch" not in capsys.readouterr().out


def with_checkpoint(out: Path, example: Example, trial: int = 4) -> None:
    searched(out)
    place = out / "sample" / "checkpoints" / f"trial-{trial:04d}" / "leg-01" / "epoch-0004.pt"
    place.parent.mkdir(parents=True)
    shutil.copy(example.checkpoint, place)


def test_the_network_of_a_study_is_exported_with_its_card(tmp_path: Path, typed: Typed, example: Example) -> None:
    with_checkpoint(tmp_path / "runs", example)
    done = typed(export, "sample", "--format", "weights", "--to", "net")
    assert done.returncode == 0, done.stderr
    assert "trial 4 (random, completed):" in done.stdout
    assert "trainables.predict net IMAGES" in done.stdout
    assert sorted(path.name for path in Path("net").iterdir()) == [
        "README.md", "load.py", "model.safetensors", "network.py",
    ]  # fmt: skip
    card = Path("net/README.md").read_text()
    for part in (
        "Trial 4 (random) of the study `sample`, 6 trials", f"- val_accuracy: {metrics(4, EPOCHS)['val_accuracy']:.4f}",
        "The test split has not been opened.", "  2. wasp", "uint8 [n, 3, 24, 24]", "## What it is not for",
        "no refit has measured by how much",
    ):  # fmt: skip
        assert part in card
    config = card.partition("```yaml\n")[2].partition("```")[0]
    write_text(tmp_path / "config.yaml", config)
    assert load_config(tmp_path / "config.yaml").data.resolution == 24


def test_a_trial_without_a_checkpoint_is_refused_with_the_ways_out(
    tmp_path: Path, typed: Typed, example: Example
) -> None:
    with_checkpoint(tmp_path / "runs", example, trial=0)
    done = typed(export, "sample", "--format", "pt2")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    for part in ("--trial: must have a checkpoint", "--trial 0 has one", "search.export sample --trial 4",
                 "trial-0004.yaml --checkpoint model.pt"):  # fmt: skip
        assert part in done.stderr
    done = typed(export, str(example.checkpoint), "--format", "weights")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "--to: must be given" in done.stderr
    Path("mine.yaml").touch()
    assert "must be a study's name or folder, or a checkpoint" in typed(export, "mine.yaml").stderr
    assert "--format: must be given with a checkpoint" in typed(export, str(example.checkpoint)).stderr
    done = typed(export, str(example.checkpoint), "--format", "weights", "--to", "mine")
    assert done.returncode == 0, done.stderr
    assert "No numbers came with this checkpoint" in Path("mine/README.md").read_text()


@pytest.mark.slow
def test_mlflow_serves_what_validation_said(tmp_path: Path, typed: Typed, example: Example) -> None:
    with_checkpoint(tmp_path / "runs", example)
    done = typed(export, "sample", "--format", "mlflow", "--to", "net")
    assert done.returncode == 0, done.stderr
    (found,) = {tuple(p.logits for p in Predictor.load("net")(example.files))}
    torch.testing.assert_close(torch.tensor(found), example.logits, rtol=0, atol=1e-4)
    names = [str(path) for path in example.files]
    rows = subprocess.run([sys.executable, "net/to_json.py", *names], capture_output=True, text=True, check=True).stdout
    Path("images.json").write_text(rows)
    command = ["models", "predict", "-m", "net", "-i", "images.json", "-o", "out.json", "-t", "json"]
    environment = {**os.environ, "PYTHONPATH": ""}
    subprocess.run(
        [sys.executable, "-m", "mlflow", *command, "--env-manager", "local"], check=True, env=environment, timeout=300
    )
    logits = [row["logits"] for row in json.loads(Path("out.json").read_text())["predictions"]]
    torch.testing.assert_close(torch.tensor(logits), example.logits, rtol=0, atol=1e-4)
    done = typed(export, "sample", "--format", "mlflow", "--to", "net")
    assert "must be a folder that is empty" in done.stderr
