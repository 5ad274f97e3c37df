"""`Predictor` and `trainables.predict`: the loop's own numbers, from files in any form."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from search.diagnose import diagnose
from tests.conftest import Typed
from tests.trainables.image_files import encode, picture
from tests.trained_example import Example
from trainables.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from trainables.config import ConfigError
from trainables.evaluate import evaluate
from trainables.predict import predict
from trainables.prediction.predictor import Predictor
from trainables.prediction.sources import find_images
from trainables.training import execution


def test_files_bytes_and_pillows_images_give_the_logits_of_validation(example: Example) -> None:
    predictor = Predictor.load(example.checkpoint, "cpu")
    assert predictor.class_names == ("ant", "bee", "wasp")
    for images in (
        example.files, [path.read_bytes() for path in example.files], [Image.open(path) for path in example.files],
    ):  # fmt: skip
        found = predictor(images)
        logits = torch.tensor([prediction.logits for prediction in found])
        torch.testing.assert_close(logits, example.logits, rtol=0, atol=1e-5)
        labels = [predictor.class_names.index(prediction.class_name or "") for prediction in found]
        assert labels == example.logits.argmax(1).tolist()
        likely = [prediction.probability for prediction in found]
        assert likely == pytest.approx(example.logits.softmax(1).amax(1).tolist(), abs=1e-5)
    assert [prediction.name for prediction in found[:2]] == ["0", "1"]
    with pytest.raises(ConfigError, match=r"pixels: must be uint8 \[n, 3, 24, 24\]"):
        predictor.logits(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


def test_pillows_images_are_turned_and_converted_as_their_files_are(example: Example) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    files = [
        encode(picture(3, 90, 70), "JPEG", exif=turned), encode(picture(3, 90, 70), "PNG", exif=turned),
        encode(picture(4, 90, 70).convert("CMYK"), "JPEG"), encode(picture(5, 90, 70).convert("P")),
    ]  # fmt: skip
    opened = [Image.open(io.BytesIO(file)) for file in files]
    unusable = [Image.open(io.BytesIO(files[0][:-200])), Image.new("F", (9, 9)), Image.new("RGB", (0, 4))]
    predictor = Predictor.load(example.checkpoint, "cpu")
    found = predictor([*unusable, *opened])
    assert all(prediction.error and prediction.class_name is None for prediction in found[:3])
    assert [one.logits for one in found[3:]] == [one.logits for one in predictor(files)]


def test_averaged_weights_are_those_that_predict(example: Example, tmp_path: Path) -> None:
    state = load_checkpoint(example.checkpoint)
    state["ema"] = state["model"]
    state["model"] = {name: torch.zeros_like(tensor) for name, tensor in state["model"].items()}
    save_checkpoint(state, tmp_path / "ema.pt")
    (found,) = Predictor.load(tmp_path / "ema.pt", "cpu")(example.files[:1])
    assert found.logits == pytest.approx(example.logits[0].tolist(), abs=1e-5)


@pytest.mark.numeric
@pytest.mark.parametrize(("fastest", "tolerance"), [("fp32", 1e-5), ("bf16", 0.1)])
def test_bf16_is_computed_where_the_device_multiplies_it(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fastest: str, tolerance: float
) -> None:
    state = load_checkpoint(example.checkpoint)
    state["config"]["execution"]["precision"] = "bf16"
    save_checkpoint(state, tmp_path / "bf16.pt")
    monkeypatch.setattr(execution, "fastest_precision", lambda _: fastest)
    found = torch.tensor([one.logits for one in Predictor.load(tmp_path / "bf16.pt", "cpu")(example.files)])
    torch.testing.assert_close(found, example.logits, rtol=0, atol=tolerance)
    assert torch.equal(found, found.bfloat16().float()) == (fastest == "bf16")


def test_a_checkpoint_of_an_older_version(example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = load_checkpoint(example.checkpoint)
    del state["image_size"]
    save_checkpoint(state, tmp_path / "old.pt")
    monkeypatch.setenv("RESNET_SEARCH_CACHE", str(tmp_path))
    (found,) = Predictor.load(tmp_path / "old.pt", "cpu")(example.files[:1])
    assert found.logits == pytest.approx(example.logits[0].tolist(), abs=1e-5)
    state["config"]["data"]["resolution"] = None
    save_checkpoint(state, tmp_path / "old.pt")
    with pytest.raises(ConfigError, match="which does not say how large its images were"):
        Predictor.load(tmp_path / "old.pt")
    monkeypatch.setenv("RESNET_SEARCH_CACHE", str(example.checkpoint.parent / "cache"))
    assert Predictor.load(tmp_path / "old.pt", "cpu").preprocessing.size == (224, 224)


def test_every_way_to_name_images(example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(example.files[0].parents[1], "val")
    Path("val/.hidden").mkdir()
    shutil.copy(example.files[0], "val/.hidden/x.png")
    Path("val/notes.txt").write_text("no image")
    table = pa.table({"img": [{"bytes": path.read_bytes(), "path": "a.png"} for path in example.files[:3]]})
    pq.write_table(table, "some.parquet")

    def names(*arguments: str) -> list[str]:
        return [image.name for image in find_images(arguments)]

    everything = sorted(str(path) for path in Path("val").glob("[a-z]*/*.*"))
    assert sorted(names("val")) == sorted(names("imagefolder:val")) == sorted(names("val/**/*.*g")) == everything
    assert names("val/ant/0000.png", "val/*/0001.png")[:2] == ["val/ant/0000.png", "val/ant/0001.png"]
    assert names("some.parquet") == names("parquet:some.parquet") == [f"some.parquet row {n} (a.png)" for n in range(3)]
    for wrong in ("nowhere/*.jpg", "val/note"):
        with pytest.raises(ConfigError, match="must name a file"):
            find_images([wrong])
    Path("empty").mkdir()
    with pytest.raises(ConfigError, match="must hold images"):
        find_images(["empty"])
    pq.write_table(pa.table({"x": [1]}), "numbers.parquet")
    with pytest.raises(ConfigError, match="must have one column of images"):
        find_images(["numbers.parquet"])


def test_the_verb_names_what_is_unreadable_and_classifies_the_rest(
    example: Example, tmp_path: Path, typed: Typed
) -> None:
    (tmp_path / "broken.jpg").write_bytes(encode(picture(0), "JPEG")[:200])
    deep = Image.fromarray((torch.arange(4096).view(64, 64) % 4096).numpy().astype("uint16"))
    deep.save(tmp_path / "deep.png")
    sound = str(example.files[0])
    done = typed(
        predict,
        str(example.checkpoint),
        sound,
        "broken.jpg",
        "deep.png",
        sound,
        "--csv",
        "out/all.csv",
        "--device",
        "cpu",
    )
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines[2:4]] == ["unreadable", "unreadable"]
    assert lines[1] == lines[4]
    assert lines[1].endswith(sound)
    assert "2 of 4 images are unreadable" in done.stderr
    assert "broken.jpg: " in done.stderr
    assert "deep.png: gray values from 0 to 4095" in done.stderr
    with (tmp_path / "out" / "all.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == rows[3]
    assert [float(rows[0][f"logit {name}"]) for name in ("ant", "bee", "wasp")] == pytest.approx(
        example.logits[0].tolist(), abs=1e-5
    )
    assert rows[1]["class"] == ""
    assert rows[1]["error"]
    assert typed(predict, str(example.checkpoint), sound).returncode == 0
    done = typed(predict, str(tmp_path), sound)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "must be a checkpoint, or an exported folder" in done.stderr
    written = tmp_path / "trial-0000" / "leg-01" / "epoch-0003.pt"
    written.parent.mkdir(parents=True)
    written.touch()
    for verb in (predict, evaluate, diagnose):
        done = typed(verb, str(tmp_path / "trial-0000"), *([sound] if verb is predict else []))
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert f"; did you mean {written}?" in done.stderr
