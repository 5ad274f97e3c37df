"""One network, seven ways to ask it: the training loop's validation, its predictor, and every export of it.

On 1,000 images of CIFAR-10 and the 153 validation photographs of ants and bees, whose files are of many sizes.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from search.export import export
from tests.conftest import Typed
from tests.trainables.image_files import cut_parquet
from trainables.checkpoints.checkpoint import save_checkpoint
from trainables.config import Normalization, parse_config
from trainables.data.arrow import EncodedRows
from trainables.data.decode import decode
from trainables.data.images import load_splits
from trainables.predict import predict
from trainables.prediction.sources import find_images
from trainables.training.feed import Feed
from trainables.training.inference import Inference
from trainables.training.loop import Run

pytestmark = pytest.mark.slow

log = logging.getLogger(__name__)

LOAD = """
import sys; sys.path.insert(0, sys.argv[1]); sys.modules.update(dict.fromkeys(("trainables", "search", "spaces")))
import torch, load
from pathlib import Path
files = sorted(Path(sys.argv[2]).iterdir())
with torch.inference_mode():
    parts = [load.logits(torch.stack([load.prepare(f) for f in files[i : i + 50]])) for i in range(0, len(files), 50)]
torch.save(torch.cat(parts), sys.argv[3])
"""


@dataclass(frozen=True)
class Case:
    """A checkpoint, a folder with the files of its validation images in their order, and the loop's logits of them."""

    checkpoint: Path
    files: Path
    logits: Tensor


def case(source: str, data: dict[str, object], weights: Path, folder: Path) -> Case:
    """A ResNet-20 trained for an epoch from published weights."""
    config = parse_config(
        {
            "model": {"kind": "cifar_resnet", "depth": 20, "pretrained": str(weights / "resnet20-12fca82f.th")},
            "data": {"source": source, **data}, "optimizer": {"kind": "sgd", "lr": 0.003}, "batch_size": 64,
            "epochs": 1, "execution": {"device": "cpu", "precision": "fp32"},
        }
    )  # fmt: skip
    splits = load_splits(config.data, folder / "cache")
    run = Run(config, splits)
    (result,) = run.epochs()
    state = run.state_dict()
    save_checkpoint(state, folder / "model.pt")
    normalization = Normalization.model_validate(state["normalization"])
    inference = Inference(normalization, config.data.resolution, config.execution, torch.device("cpu"))
    logits = inference.logits(run.model, Feed(splits.val, torch.device("cpu")))
    assert (logits.argmax(1) == splits.val.labels).double().mean().item() == result.val_accuracy
    files = folder / "files"
    files.mkdir()
    if splits.val.has_originals:
        encoded = list(EncodedRows(splits.store.directory / "val.arrow"))[: len(logits)]
    else:
        named = {decode(image.image).tobytes(): image.image for image in find_images([source])}
        encoded = [named[pixels.numpy().tobytes()] for pixels in splits.val.batch(torch.arange(len(logits)))]
    for number, content in enumerate(encoded):
        (files / f"{number:05d}.jpg").write_bytes(content)
    return Case(folder / "model.pt", files, logits)


@pytest.fixture(scope="module", params=["CIFAR-10", "photographs"])
def asked(
    request: pytest.FixtureRequest, data_dir: Path, weights_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Case:
    folder = tmp_path_factory.mktemp("parity")
    if request.param == "CIFAR-10":
        source = f"parquet:{cut_parquet(data_dir / 'cifar10_jpeg', folder / 'cifar', 3000, 100)}"
        return case(source, {"val_fraction": 0.34, "val_samples": 1000}, weights_dir, folder)
    return case(f"imagefolder:{data_dir}/hymenoptera", {"resolution": 48}, weights_dir, folder)


def by_predict(model: Path, asked: Case, typed: Typed, tmp_path: Path) -> Tensor:
    done = typed(predict, str(model), str(asked.files), "--csv", "found.csv", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "found.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    assert [Path(row[0]).name for row in rows] == sorted(path.name for path in asked.files.iterdir())
    return torch.tensor([[float(value) for value in row[4:]] for row in rows])


def by_loader(model: Path, asked: Case, typed: Typed, tmp_path: Path) -> Tensor:
    command = [sys.executable, "-W", "ignore", "-c", LOAD, str(model), str(asked.files), "found"]
    subprocess.run(command, check=True, cwd=tmp_path)
    logits: Tensor = torch.load(tmp_path / "found")
    return logits


def by_mlflow(model: Path, asked: Case, typed: Typed, tmp_path: Path) -> Tensor:
    files = [str(path) for path in sorted(asked.files.iterdir())]
    made = subprocess.run([sys.executable, str(model / "to_json.py"), *files], capture_output=True, check=True)
    (tmp_path / "images.json").write_bytes(made.stdout)
    words = ["models", "predict", "-m", str(model), "-i", "images.json", "-o", "out.json", "-t", "json"]
    environment = {**os.environ, "PYTHONPATH": ""}
    command = [sys.executable, "-m", "mlflow", *words, "--env-manager", "local"]
    subprocess.run(command, check=True, cwd=tmp_path, env=environment, capture_output=True)
    return torch.tensor([row["logits"] for row in json.loads((tmp_path / "out.json").read_text())["predictions"]])


WAYS: dict[str, tuple[str | None, Callable[[Path, Case, Typed, Path], Tensor]]] = {
    "predict checkpoint": (None, by_predict),
    "predict exported": ("pt2", by_predict),
    "weights": ("weights", by_loader),
    "pt2": ("pt2", by_loader),
    "torchscript": ("torchscript", by_loader),
    "onnx": ("onnx", by_loader),
    "mlflow models predict": ("mlflow", by_mlflow),
}


@pytest.mark.parametrize("way", WAYS)
def test_it_says_what_validation_said(way: str, asked: Case, typed: Typed, tmp_path: Path) -> None:
    form, ask = WAYS[way]
    model = asked.checkpoint
    if form is not None:
        model = tmp_path / "exported"
        done = typed(export, str(asked.checkpoint), "--format", form, "--to", str(model))
        assert done.returncode == 0, done.stderr
    logits = ask(model, asked, typed, tmp_path)
    off = (logits - asked.logits).abs().max().item()
    same = int((logits.argmax(1) == asked.logits.argmax(1)).sum())
    log.info("%s: %d of %d predictions the same, logits within %.1e", way, same, len(logits), off)
    assert off < 1e-4
    first, second = asked.logits.topk(2).values.T
    assert same >= int((first - second > 2e-4).sum())  # all, but for what an arithmetic in another order may swap
