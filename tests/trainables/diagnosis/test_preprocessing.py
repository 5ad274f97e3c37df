"""Pipelines written with Pillow and torch alone, on a real pretrained network: what they do is named."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from trainables.config import Execution, dump_yaml
from trainables.diagnosis.opening import opened
from trainables.diagnosis.predictions import LIST, Predictions, read_predictions, write_images
from trainables.diagnosis.preprocessing import reproduced
from trainables.diagnosis.subject import Subject
from trainables.training.execution import configured

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MEAN, STD = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


@pytest.fixture(scope="module")
def subject(data_dir: Path, weights_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """The pretrained ResNet-20 on CIFAR-10's images stretched to 120 x 80, which training would cut to squares."""
    folder = tmp_path_factory.mktemp("stretched")
    table = pq.read_table(data_dir / "cifar10_jpeg" / "test-00000-of-00001.parquet").slice(0, 260)
    for i, row in enumerate(table.to_pylist()):
        path = folder / ("val" if i < 200 else "train") / CLASSES[row["label"]] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.open(io.BytesIO(row["img"]["bytes"])).resize((120, 80)).save(path)
    tree = {
        "model": {"kind": "cifar_resnet", "depth": 20, "pretrained": str(weights_dir / "resnet20-12fca82f.th")},
        "data": {"source": f"imagefolder:{folder}", "resolution": 32},
        "execution": {"device": "cpu", "threads": 1},
    }
    (folder / "config.yaml").write_text(dump_yaml(tree))
    with configured(Execution(device="cpu", threads=1)):
        return opened(folder / "config.yaml", None, "cpu", folder / "cache", print)


def normalized(image: Image.Image) -> torch.Tensor:
    """As ImageNet's, which the weights expect."""
    return (torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 - MEAN) / STD


def squashed(image: Image.Image) -> torch.Tensor:
    return normalized(image.resize((32, 32), Image.Resampling.BILINEAR))


def as_trained(image: Image.Image) -> torch.Tensor:
    return normalized(image.resize((48, 32), Image.Resampling.BILINEAR).crop((8, 0, 40, 32)))


def bgr(image: Image.Image) -> torch.Tensor:
    return as_trained(Image.fromarray(np.array(image)[..., ::-1].copy()))


def nearest(image: Image.Image) -> torch.Tensor:
    return normalized(image.resize((48, 32), Image.Resampling.NEAREST).crop((8, 0, 40, 32)))


def unscaled(image: Image.Image) -> torch.Tensor:
    return squashed(image) * STD + MEAN


def theirs(subject: Subject, folder: Path, prepare: Callable[[Image.Image], torch.Tensor]) -> Predictions:
    """What a pipeline predicts of the images that were written for it, read back from its CSV."""
    files = sorted(folder.glob("val-*"))
    images = torch.stack([prepare(Image.open(file).convert("RGB")) for file in files])
    with torch.inference_mode():
        labels = subject.model.eval()(images).argmax(1).tolist()
    lines = [f"{file},{CLASSES[label]}" for file, label in zip(files, labels, strict=True)]
    (folder / "theirs.csv").write_text("\n".join(["file,label", *lines]))
    return read_predictions(folder / "theirs.csv", subject.splits)


@pytest.mark.parametrize(
    ("prepare", "named"),
    [
        (squashed, "squashed to a square"),
        (bgr, "channels in the order BGR"),
        (nearest, "nearest-neighbor interpolation"),
        (unscaled, "squashed to a square, whatever its aspect; scaled to 0..1 only"),
        (as_trained, None),
    ],
)
def test_what_a_pipeline_does_is_named(
    prepare: Callable[[Image.Image], torch.Tensor], named: str | None, subject: Subject, tmp_path: Path
) -> None:
    assert write_images(subject.splits, tmp_path) == 200
    check = reproduced(subject, theirs(subject, tmp_path, prepare), print).check
    assert check.status == ("ok" if named is None else "problem"), check
    assert named is None or f"reproduced by: {named}" in check.evidence


def test_files_are_known_by_their_content(subject: Subject, tmp_path: Path) -> None:
    write_images(subject.splits, tmp_path)
    (tmp_path / "val-00007.png").rename(tmp_path / "anything.png")
    (tmp_path / "p.csv").write_text("file,label\nanything.png,cat\n")
    found = read_predictions(tmp_path / "p.csv", subject.splits)
    assert (found.rows.tolist(), found.labels.tolist()) == ([7], [3])
    assert (tmp_path / LIST).read_text().splitlines()[0] == "index,file,label"
