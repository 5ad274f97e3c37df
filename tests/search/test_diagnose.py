"""`search.diagnose` as it is typed: a checkpoint, a config, a study, another pipeline's predictions, and bad input."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import search
from search.diagnose import diagnose
from search.study.spec import StudySpec
from tests.conftest import Typed
from tests.search.sample_study import EPOCHS, sample_events, sample_spec, write_study
from tests.trainables.diagnosis.plants import DIGITS, config_of, normalized, trained, written
from tests.trainables.image_files import write_folder
from trainables.config import dump_config, dump_yaml
from trainables.diagnosis.opening import opened

SHORT = {**DIGITS, "epochs": 4}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("diagnose_cache")


@pytest.fixture(scope="module")
def digits(cache: Path) -> dict[str, Any]:
    return trained(SHORT, cache)


def study_of_digits(out: Path) -> StudySpec:
    """A study of two networks whose journal is that of `sample_events`; returns it, its folder having no checkpoint."""
    tree = sample_spec("digits").model_dump()
    tree["trial"] = config_of({**SHORT, "epochs": EPOCHS}).model_dump(mode="json", exclude={"epochs", "seed"})
    spec = StudySpec.model_validate(tree)
    write_study(out / "digits", spec, sample_events(spec))
    return spec


def test_a_healthy_checkpoint_has_no_cause(digits: dict[str, Any], cache: Path, typed: Typed) -> None:
    written(digits, Path("healthy.pt"))
    done = typed(diagnose, "healthy.pt", "--cache", str(cache))
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("nothing was found: images, weights and settings are in order\n")
    assert "re-estimating its statistics" in done.stderr


def test_a_cause_comes_with_its_cure(digits: dict[str, Any], cache: Path, typed: Typed) -> None:
    written(normalized(digits, -2.0, 3.0), Path("other.pt"))
    done = typed(diagnose, "other.pt", "--cache", str(cache), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    first = json.loads(done.stdout)[0]
    assert (first["name"], first["status"]) == ("normalization", "problem")
    assert first["next_step"].startswith("--set 'data.normalize.mean=[")


def test_a_config_is_trained_for_a_short_time(cache: Path, typed: Typed) -> None:
    config = config_of({**SHORT, "optimizer": {"kind": "adam", "lr": 1e-7}})
    Path("low.yaml").write_text(dump_config(config))
    done = typed(diagnose, "low.yaml", "--cache", str(cache))
    assert done.returncode == 0, done.stderr
    assert "training epoch 4 of 4" in done.stderr
    assert done.stdout.startswith("problem  learning rate: ")
    assert "next: --set optimizer.lr=" in done.stdout


def test_a_study_gives_its_best_trial_with_its_curves(digits: dict[str, Any], cache: Path, typed: Typed) -> None:
    study_of_digits(Path("runs"))
    refused = typed(diagnose, "digits")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "--trial: must have a checkpoint" in refused.stderr
    written(digits, Path("runs/digits/checkpoints/trial-0004/leg-01") / f"epoch-{EPOCHS:04d}.pt")
    checks = search.diagnose_model("digits", cache=cache, progress=False)
    assert not [check for check in checks if check.status == "problem"]
    assert f"after {EPOCHS}" in next(check.evidence for check in checks if check.name == "curves")


def predictions_of(state: dict[str, Any], cache: Path, key: str) -> list[dict[str, object]]:
    """What somebody predicts who scales the images written for him to 0..1 and does nothing else."""
    subject = opened(written(state, Path("theirs.pt")), None, "cpu", cache, print)
    rows = []
    for line in csv.DictReader(Path("images/images.csv").read_text().splitlines()):
        pixels = np.asarray(Image.open(Path("images") / line["file"]).convert("RGB"))
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            rows.append({key: line[key], "label": int(subject.model(image).argmax())})
    return rows


@pytest.mark.parametrize("key", ["file", "index"])
def test_what_another_pipeline_does_is_named(key: str, digits: dict[str, Any], cache: Path, typed: Typed) -> None:
    written(digits, Path("c.pt"))
    done = typed(diagnose, "c.pt", "--cache", str(cache), "--write-images", "images")
    assert done.returncode == 0, done.stderr
    rows = predictions_of(digits, cache, key)
    with Path("theirs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [key, "label"])
        writer.writeheader()
        writer.writerows(rows)
    done = typed(diagnose, "c.pt", "--cache", str(cache), "--predictions", "theirs.csv")
    assert done.returncode == 0, done.stderr
    assert "problem  preprocessing: 100.0% of the predictions are reproduced by: scaled to 0..1 only" in done.stdout


def test_bad_input_is_refused_by_name(digits: dict[str, Any], cache: Path, typed: Typed) -> None:
    def refused(*arguments: str) -> str:
        done = typed(diagnose, *arguments, "--cache", str(cache))
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done
        return done.stderr

    written(digits, Path("c.pt"))
    assert "must be a study in" in refused("unknown")
    assert "there is none" in refused("gone.pt")
    assert "--trial: must be left out: a checkpoint" in refused("c.pt", "--trial", "3")
    both = refused("c.pt", "--write-images", "images", "--predictions", "p.csv")
    assert "--predictions: must be left out with --write-images" in both
    assert not Path("images").exists()
    write_study(Path("runs") / "sample", sample_spec(), sample_events(sample_spec()))
    assert "must train networks" in refused("sample")
    Path("synthetic.yaml").write_text(dump_yaml({"model": {"kind": "synthetic"}}))
    assert "must be a network" in refused("synthetic.yaml")
    pets = write_folder(Path("pets"), {"ant": 8, "bee": 8})
    assert "must be classes of the checkpoint" in refused("c.pt", "--data", f"imagefolder:{pets}")
    for text, what in (
        ("file,label\nval-00000.png,3\nelsewhere.png,3\n", "elsewhere.png"),
        ("index,label\n900,3\n", "900"),
        ("index,label\n0,cat\n", "must be a class or its number"),
        ("name,label\n0,1\n", "must have the columns"),
    ):
        Path("p.csv").write_text(text)
        assert what in refused("c.pt", "--predictions", "p.csv")
