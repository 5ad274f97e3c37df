"""`search.export`: any trial of a journal as a config, and clear refusals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from search.export import export, export_config
from search.journal.events import TrialStatus
from search.tracking.tracker import MLflowTracker
from search.tracking.uri import default_uri
from tests.conftest import Typed
from tests.search.sample_study import ENDINGS, EPOCHS, metrics, sample_events, sample_spec, write_study
from trainables.config import ConfigError, dump_yaml, load_config, load_yaml
from trainables.files import write_text
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
