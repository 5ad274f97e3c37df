"""A checkpoint scored on images that came another way: other names, other orders, test images alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image

from trainables.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from trainables.config import ConfigError, load_config
from trainables.data.images import load_splits
from trainables.evaluate import evaluate
from trainables.train import train
from trainables.training.loop import Run

COLORS = {"blue": (30, 40, 220), "green": (40, 200, 40), "red": (220, 30, 30)}
CONFIG = {
    "model": {"kind": "cifar_resnet", "depth": 8}, "data": {"source": "digits", "resolution": 16},
    "optimizer": {"kind": "sgd", "lr": 0.05, "momentum": 0.9}, "augment": {"strength": 0.0}, "batch_size": 8,
    "epochs": 6, "execution": {"device": "cpu", "threads": 1},
}  # fmt: skip


def write(folder: Path, names: Mapping[str, str], count: int = 4, seed: int = 0) -> Path:
    """Images of single colors in a folder for each of `names`, whose values are the colors."""
    noise = np.random.default_rng(seed)
    for name, color in names.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.clip(np.array(COLORS[color]) + noise.integers(-25, 26, (16, 16, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i:02}.png")
    return folder


OWN = {name: name for name in COLORS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("colors")


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Path:
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    source = f"imagefolder:{write(folder / 'trained_on', OWN, 10)}"
    train(folder / "config.yaml", data=source, checkpoint=folder / "c.pt", cache=folder / "cache")
    return folder / "c.pt"


def scored(checkpoint: Path, images: Path | None, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    data = None if images is None else f"imagefolder:{images}"
    evaluate([checkpoint], data=data, split="test", cache=checkpoint.parent / "cache")
    return capsys.readouterr().out


def test_test_time_augmentation_averages_an_image_and_its_mirror_image(checkpoint: Path, tmp_path: Path) -> None:
    images = write(tmp_path / "images", OWN)
    for folder in images.iterdir():  # the left half of each is dark, and so the right half of its mirror image
        for path in folder.iterdir():
            pixels = np.array(Image.open(path))
            pixels[:, :8] = 0
            Image.fromarray(pixels).save(path)
    shutil.copytree(images, tmp_path / "both")
    for path in (tmp_path / "both").rglob("*.png"):
        Image.fromarray(np.array(Image.open(path))[:, ::-1]).save(path)
    losses = {}
    for name, tta in (("images", False), ("images", True), ("both", True)):
        to = tmp_path / "scores.json"
        data, cache = f"imagefolder:{tmp_path / name}", checkpoint.parent / "cache"
        evaluate([checkpoint], data=data, split="test", cache=cache, to=to, tta=tta)
        row = json.loads(to.read_text())[0]
        assert row["tta"] is tta
        losses[name, tta] = row["loss"]
    assert losses["images", True] == pytest.approx(losses["both", True], abs=1e-5)
    assert losses["images", True] != pytest.approx(losses["images", False], abs=1e-5)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (OWN, "12 images"),
        ({"Red": "red", "blue": "blue", "green": "green"}, "classes taken for the same: 'Red' for 'red'"),
        ({"red": "red"}, "classes of the checkpoint without images here: 'blue', 'green'"),
        ({"green": "green", "red": "red"}, "classes of the checkpoint without images here: 'blue'"),
    ],
)
@pytest.mark.parametrize("layout", [".", "test", "Testing"])
def test_test_images_alone_are_scored_by_their_names(
    names: dict[str, str], said: str, layout: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / layout, names, seed=1)
    out = scored(checkpoint, tmp_path, capsys)
    assert said in out
    assert f"all images, which have no training split, of imagefolder:{tmp_path}: {4 * len(names)} images" in out
    assert "accuracy   1.0000" in out


def table(folder: Path) -> pa.Table:
    """A table of 12 images, which are written to `folder`."""
    write(folder, OWN, seed=4)
    names = ["red", "blue", "green"]
    rows = [
        {"image": {"bytes": path.read_bytes(), "path": path.name}, "label": names.index(path.parent.name)}
        for path in sorted(folder.rglob("*.png"))
    ]
    features = {"label": {"names": names, "_type": "ClassLabel"}}
    return pa.Table.from_pylist(rows).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )


@pytest.mark.parametrize("name", ["test-00000-of-00001.parquet", "images.parquet"])
def test_a_table_of_test_images_alone(
    name: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "table").mkdir()
    pq.write_table(table(tmp_path / "images"), tmp_path / "table" / name)
    for path in (tmp_path / "table", tmp_path / "table" / name):
        evaluate([checkpoint], data=f"parquet:{path}", split="test", cache=tmp_path / "cache")
        assert "12 images\naccuracy   1.0000" in capsys.readouterr().out


def test_a_column_says_which_images_are_test_images(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = pa.array(["train", "train", "train", "test"] * 3)
    pq.write_table(table(tmp_path / "images").append_column("split", splits), tmp_path / "b.parquet")
    evaluate([checkpoint], data=f"parquet:{tmp_path / 'b.parquet'}", split="test", cache=tmp_path / "cache")
    assert f"test split of parquet:{tmp_path / 'b.parquet'}: 3 images" in capsys.readouterr().out


def test_test_images_alone_are_scored_by_a_network_of_a_fold(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = load_checkpoint(checkpoint)
    data = {**state["config"]["data"], "folds": 5, "fold": 1}
    save_checkpoint({**state, "config": {**state["config"], "data": data}}, tmp_path / "c.pt")
    write(tmp_path / "images", OWN, seed=5)
    evaluate([tmp_path / "c.pt"], data=f"imagefolder:{tmp_path / 'images'}", split="test", cache=tmp_path / "cache")
    assert "12 images\naccuracy   1.0000" in capsys.readouterr().out


def test_a_split_of_its_own_is_scored_alone(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "train", OWN)
    write(tmp_path / "test", OWN, 3, seed=2)
    assert "test split of imagefolder:" in (out := scored(checkpoint, tmp_path, capsys))
    assert "9 images" in out


def test_a_copy_of_the_training_images_is_no_test_set(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(checkpoint.parent / "trained_on", tmp_path / "moved")
    numbers = [line for line in scored(checkpoint, None, capsys).splitlines() if "split of" not in line]
    out = scored(checkpoint, tmp_path / "moved", capsys)
    assert "test split of" in out
    assert [line for line in out.splitlines() if "split of" not in line] == numbers


def test_what_was_left_out_of_the_training_images_is_left_out_of_their_copy_alone(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "exclude.txt").write_text("red/00.png\n")
    own = checkpoint.parent / "trained_on"
    data = {"source": f"imagefolder:{own}", "exclude": str(tmp_path / "exclude.txt"), "group_by": r"(\d)\.png"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "epochs": 1, "data": data}))
    saved = tmp_path / "c.pt"
    train(tmp_path / "config.yaml", checkpoint=saved, cache=checkpoint.parent / "cache")
    shutil.copytree(own, tmp_path / "moved")
    numbers = [line for line in scored(saved, own, capsys).splitlines() if "split of" not in line]
    moved = scored(saved, tmp_path / "moved", capsys)
    assert [line for line in moved.splitlines() if "split of" not in line] == numbers
    write(tmp_path / "other", {f"{split}/{name}": name for split in ("train", "test") for name in OWN}, 5, seed=6)
    assert f"test split of imagefolder:{tmp_path / 'other'}: 15 images" in scored(saved, tmp_path / "other", capsys)


def test_every_class_is_shown_and_written(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "images", {"red": "red", "blue": "red"}, seed=3)
    to, source = tmp_path / "scores.json", f"imagefolder:{tmp_path / 'images'}"
    evaluate([checkpoint], data=source, split="test", cache=tmp_path / "cache", to=to, per_class=True)
    out = capsys.readouterr().out
    assert "\nblue        4     0.0000  0.0000  0.0000  red (4)\n" in out
    assert "\ngreen       0     0.0000  0.0000  0.0000\n" in out
    assert "\nred         4     0.5000  1.0000  0.6667\n" in out
    assert "calibration error 0." in out
    assert "warning: it takes nearly all images for one class" in out
    [row] = json.loads(to.read_text())
    assert row["report"]["confusions"] == [[0, 2, 4]]
    assert row["one_class"]


@pytest.mark.parametrize(
    "names", [{"aardvark": "blue", "bear": "green", "cow": "red"}, {"0": "blue", "1": "green", "2": "red"},
        {"blue": "blue", "green": "green", "red": "red", "white": "red"}]
)  # fmt: skip
def test_unknown_classes_are_refused_and_named(names: dict[str, str], checkpoint: Path, tmp_path: Path) -> None:
    write(tmp_path, names)
    unknown = ", ".join(repr(name) for name in names if name not in COLORS)
    with pytest.raises(ConfigError, match=f"knows 'blue', 'green', 'red': rename {unknown} or leave it out"):
        evaluate([checkpoint], data=f"imagefolder:{tmp_path}", split="test", cache=checkpoint.parent / "cache")


def test_classes_in_another_order_are_those_of_their_names(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a table has them, whose classes are in the order of its metadata."""
    state = load_checkpoint(checkpoint)
    turned = [2, 0, 1]
    names = [state["class_names"][i] for i in turned]
    head = {key: state["model"][key][turned] for key in ("fc.weight", "fc.bias")}
    save_checkpoint({**state, "class_names": names, "model": {**state["model"], **head}}, tmp_path / "c.pt")
    write(tmp_path / "images", OWN, seed=3)
    evaluate([tmp_path / "c.pt"], data=f"imagefolder:{tmp_path / 'images'}", split="test", cache=tmp_path / "cache")
    assert "accuracy   1.0000" in capsys.readouterr().out


def test_training_is_not_continued_on_other_classes(checkpoint: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "other", {"blue": "blue", "green": "green", "violet": "red"}, 10)
    config = load_config(checkpoint.parent / "config.yaml")
    config = config.model_copy(update={"data": config.data.model_copy(update={"source": f"imagefolder:{source}"})})
    run = Run(config, load_splits(config.data, tmp_path / "cache"))
    with pytest.raises(ConfigError, match="it does not know 'violet' and the images have none of its 'red'"):
        run.load_state_dict(load_checkpoint(checkpoint))


def test_pretrained_weights_are_scored_by_their_names_and_never_with_a_new_head(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = {**CONFIG, "model": {**CONFIG["model"], "pretrained": str(checkpoint)}}  # type: ignore[dict-item]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    write(tmp_path / "images", {"Red": "red", "blue": "blue", "green": "green"})

    def score() -> None:
        evaluate(
            [tmp_path / "config.yaml"], data=f"imagefolder:{tmp_path / 'images'}", split="test", cache=tmp_path / "c"
        )

    score()
    out = capsys.readouterr().out
    assert "weights: 44 of 44 tensors of c.pt loaded" in out
    assert "'Red' for 'red'" in out
    assert "accuracy   1.0000" in out
    weights = {k: v for k, v in load_checkpoint(checkpoint)["model"].items() if not k.startswith("fc.")}
    torch.save(weights, checkpoint.parent / "headless.pt")
    tree["model"]["pretrained"] = str(checkpoint.parent / "headless.pt")  # type: ignore[index]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match="must have a head of 3 classes to be evaluated"):
        score()
