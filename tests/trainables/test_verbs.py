"""train and evaluate as a user types them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Typed
from trainables.config import checksum, dump_config, parse_config
from trainables.evaluate import evaluate
from trainables.train import rerun, train

TREE = {
    "model": {"kind": "cifar_resnet", "depth": 8},
    "data": {"source": "digits", "train_samples": 200, "val_samples": 100, "train_eval_samples": 50},
    "optimizer": {"kind": "sgd", "lr": 0.05},
    "batch_size": 50,
    "epochs": 2,
    "execution": {"device": "cpu", "threads": 1},
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(parse_config(TREE)))
    return path


def test_a_trained_checkpoint_scores_what_training_said(tmp_path: Path, config: Path, typed: Typed) -> None:
    trained = typed(train, str(config), "--checkpoint", "deep/trial.pt")
    assert trained.returncode == 0, trained.stderr
    last = next(line for line in trained.stdout.splitlines() if line.startswith("epoch   2/2"))
    accuracy = last.split("val_accuracy ")[1].split()[0]
    scored = typed(evaluate, "deep/trial.pt")
    assert f"accuracy   {accuracy}" in scored.stdout
    held_out = typed(evaluate, "deep/trial.pt", "--split", "test")
    assert "test split of digits: 269 images" in held_out.stdout
    assert "Wilson" in held_out.stdout
    assert (
        "test split of digits: 30 images"
        in typed(evaluate, "deep/trial.pt", "--split", "test", "--samples", "30").stdout
    )


def test_where_epochs_are_long_a_line_says_how_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trainables.train.SILENCE", 0.0)
    assert len(rerun(parse_config(TREE), stop_epoch=None, cache=tmp_path / "cache")) == 2
    said = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert said == ["an", "epoch", "epoch"]


def test_a_fold_is_trained_and_evaluated(tmp_path: Path, config: Path, typed: Typed) -> None:
    tree = yaml.safe_load(config.read_text())
    tree["data"] |= {"folds": 3, "fold": 2, "val_samples": None}
    config.write_text(yaml.safe_dump(tree))
    trained = typed(train, str(config), "--checkpoint", "trial.pt")
    assert trained.returncode == 0, trained.stderr
    assert "train 1,019 (the other folds), val 509 (fold 3 of 3), test 269 (15 % of all)" in trained.stdout
    assert "test split of digits: 269 images" in typed(evaluate, "trial.pt", "--split", "test").stdout


def test_a_record_that_was_not_met_is_reported_with_its_difference(tmp_path: Path, config: Path, typed: Typed) -> None:
    tree = {"config": yaml.safe_load(config.read_text()), "provenance": {"stop_epoch": 1, "metrics": {"val_loss": 0.5}}}
    (tmp_path / "best_config.yaml").write_text(yaml.safe_dump(tree))
    again = typed(train, "best_config.yaml")
    assert "epoch   2/2" not in again.stdout
    assert "differs from the record of epoch 1: val_loss +" in again.stdout
    full = typed(train, "best_config.yaml", "--full")
    assert "epoch   2/2" in full.stdout
    assert "differs" not in full.stdout


@pytest.mark.parametrize("checked", [True, False])
def test_an_edited_config_is_trained_as_it_is_written(tmp_path: Path, typed: Typed, checked: bool) -> None:
    """With a checksum any change counts; a file of before there was one shows a changed length of training."""
    config = parse_config({"model": {"kind": "synthetic"}, "epochs": 4}).model_dump(mode="json")
    record = {"stop_epoch": 4, "stop_reason": "epochs", "metrics": {"val_loss": 0.5}}
    if checked:
        record = {"stop_epoch": 2, "stop_reason": "rung 2", "metrics": {"val_loss": 0.5}, "config_checksum": ""}
        record["config_checksum"] = checksum(config)

    def trained(**changes: Any) -> str:
        tree = {"provenance": record, "config": {**config, **changes}}
        (tmp_path / "best_config.yaml").write_text(yaml.safe_dump(tree))  # which sorts the keys
        return typed(train, "best_config.yaml").stdout

    unedited = trained()
    assert "edited" not in unedited
    assert ("ends after epoch 2 of 4, as the trial did; --full trains them all" in unedited) == checked
    assert "differs from the record" in unedited
    for epochs in (6, 2):
        edited = trained(epochs=epochs)
        assert "was edited since the search wrote it: trained as written" in edited
        assert f"epoch   {epochs}/{epochs}" in edited
        assert "the record of" not in edited
    if checked:
        assert "epoch   4/4" in trained(batch_size=7)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((train, "absent.yaml"), "No such file"),
        ((train, "config.yaml", "--data", "parquet"), "parquet:PATH"),
        ((train, "config.yaml", "--seed", "-1"), "seed"),
        ((evaluate, "config.yaml"), "model.pretrained"),
        ((evaluate, "absent.pt"), "readable file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(config: Path, typed: Typed, arguments: Any, words: str) -> None:
    done = typed(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
