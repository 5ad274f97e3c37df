"""The files a search leaves: readable by the tools they are for, and never half written."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import optuna
import pyarrow.parquet as pq
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from search.algorithms.optuna_export import optuna_study
from search.journal.result import StudyResult, collect
from search.views.output_files import best_config, write_optuna, write_trials
from tests.search.sample_study import EPOCHS, LR, metrics, sample_events, sample_spec
from trainables.config import ConfigError, checksum, load_config, load_yaml, parse_config
from trainables.files import replaced, write_text


@pytest.fixture
def result() -> StudyResult:
    spec = sample_spec()
    return collect(spec, sample_events(spec))


def test_trials_are_a_parquet_table(tmp_path: Path, result: StudyResult) -> None:
    write_trials(result.trials, tmp_path / "trials.parquet")
    table = pq.read_table(tmp_path / "trials.parquet")
    assert table.num_rows == sum(len(r.history) or 1 for r in result.trials)
    ended = dict(zip(table["trial_id"].to_pylist(), table["status"].to_pylist(), strict=True))
    assert ended == {r.number: r.status.value for r in result.trials}
    losses = dict(zip(table["trial_id"].to_pylist(), table["train_loss"].to_pylist(), strict=True))
    assert math.isnan(losses[2])


def test_the_best_config_is_a_trial_config_with_its_provenance(tmp_path: Path, result: StudyResult) -> None:
    best = result.best()
    assert best is not None
    path = tmp_path / "best_config.yaml"
    write_text(path, best_config(result, best, mlflow_run_id="0af"))
    assert load_config(path) == parse_config(best.config)
    provenance = load_yaml(path)["provenance"]
    assert provenance["metrics"] == metrics(4, EPOCHS)  # to the last digit
    shown = {key: provenance[key] for key in ("study", "trial", "origin", "metric", "mode", "value", "mlflow_run_id")}
    assert shown == {
        "study": "sample", "trial": 4, "origin": "random", "metric": "val_accuracy", "mode": "max",
        "value": metrics(4, EPOCHS)["val_accuracy"], "mlflow_run_id": "0af",
    }  # fmt: skip
    assert (provenance["epochs"], provenance["stop_epoch"]) == (EPOCHS, EPOCHS)
    assert provenance["config_checksum"] == checksum(load_yaml(path)["config"])
    assert provenance["chosen"].startswith("highest val_accuracy at the last epoch")
    assert (provenance["git"], provenance["data_fingerprint"]) == ("abc123", "f00d")
    assert provenance["weights"] == ["weights: 44 of 44"]
    assert (provenance["python"], provenance["platform"], provenance["versions"]) == (
        "3.11.0", "Linux", {"torch": "2.14.1"},
    )  # fmt: skip


def test_a_trial_with_patience_is_recorded_with_its_best_epochs_numbers(result: StudyResult) -> None:
    best = result.best()
    assert best is not None
    provenance = yaml.safe_load(best_config(result, replace(best, best_epoch=EPOCHS - 1)))["provenance"]
    assert provenance["metrics"] == metrics(4, EPOCHS - 1)
    assert (provenance["best_epoch"], provenance["stop_epoch"]) == (EPOCHS - 1, EPOCHS)
    assert provenance["value"] == metrics(4, EPOCHS - 1)["val_accuracy"]


def test_any_trial_can_be_written_even_one_without_an_epoch(result: StudyResult, tmp_path: Path) -> None:
    for record in result.trials:
        write_text(tmp_path / "x.yaml", best_config(result, record, chosen="by hand"))
        provenance = load_yaml(tmp_path / "x.yaml")["provenance"]
        assert provenance["stop_epoch"] == (record.history[-1].epoch if record.history else None)
        assert (provenance["chosen"], provenance["status"]) == ("by hand", record.status.value)


def test_a_config_that_is_none_is_told(result: StudyResult) -> None:
    with pytest.raises(ConfigError, match="optimizer"):
        best_config(
            result, replace(result.trials[0], config={**result.trials[0].config, "optimizer": {"kind": "newer"}})
        )


def test_the_optuna_file_holds_every_trial(tmp_path: Path, result: StudyResult) -> None:
    path = tmp_path / "optuna_journal.log"
    for _ in range(2):  # over an earlier one too
        write_optuna(optuna_study(result.spec, result.trials), path)  # type: ignore[arg-type]
    study = optuna.load_study(study_name="sample", storage=JournalStorage(JournalFileBackend(str(path))))
    assert [trial.state for trial in study.trials] == [
        TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED,
        TrialState.FAIL, TrialState.COMPLETE, TrialState.PRUNED,
    ]  # fmt: skip
    assert study.best_trial.number == 4
    assert study.best_value == metrics(4, EPOCHS)["val_accuracy"]
    assert study.trials[1].params == {LR: 0.002}
    assert study.trials[1].intermediate_values == {e: metrics(1, e)["val_accuracy"] for e in (1, 2)}
    assert study.direction is optuna.study.StudyDirection.MAXIMIZE
    assert study.metric_names == ["val_accuracy"]
    assert study.user_attrs["objective"] == "max val_accuracy"
    assert study.user_attrs["best"] == "trial 4, val_accuracy 0.6400, +0.0400 against naive"
    assert [p.name for p in tmp_path.iterdir()] == ["optuna_journal.log"]


def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "first")
    with pytest.raises(UnicodeEncodeError), replaced(path) as partial:
        partial.write_text("second \udcff")
    with pytest.raises(ConfigError, match="No space"), replaced(path):
        raise OSError(28, "No space left on device")
    assert path.read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]
    with pytest.raises(ConfigError, match="must be writable"):
        write_text(path / "below.yaml", "x")
