"""The scale of a network's input, found again from what its first batch norm remembers."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from trainables.checkpoints.weights_file import read_weights
from trainables.config import CifarResNet, Normalization, parse_config
from trainables.data.images import load_splits
from trainables.models.input_scale import IMAGENET, measured_scale
from trainables.models.networks import build_network
from trainables.models.protocol import train_mode

SCALES = {
    "ImageNet's": IMAGENET,
    "mean .5": Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    "levels 0..1": Normalization(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    "levels 0..255": Normalization(mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255)),
}
OWN = Normalization(mean=(0.45, 0.45, 0.45), std=(0.25, 0.25, 0.25))


def blobs(seed: int, count: int = 64, side: int = 32) -> Tensor:
    """Smooth images, uint8 [count, 3, side, side], with about the mean and spread of photographs."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, side // 4, side // 4, generator=generator) * 80 + 115
    fine = torch.randn(count, 3, side, side, generator=generator) * 20
    smooth = functional.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=False)
    return (smooth + fine).clamp(0, 255).to(torch.uint8)


def scaled(pixels: Tensor, scale: Normalization) -> Tensor:
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (scale.mean, scale.std))
    return (pixels / 255 - mean) / std


@pytest.mark.parametrize("name", SCALES)
def test_a_network_that_has_seen_images_of_a_scale_expects_it(name: str) -> None:
    torch.manual_seed(0)
    model = build_network(CifarResNet(depth=8), 10)
    train_mode(model)
    model.get_submodule("bn1").momentum = 1.0  # type: ignore[assignment]  # it remembers this batch alone
    with torch.no_grad():
        model(scaled(blobs(1), SCALES[name]))
    found = measured_scale(model, model.state_dict(), blobs(2), OWN, 32)
    assert found is not None
    assert found.normalization == SCALES[name]
    assert found.words.startswith(name)
    enlarged = blobs(3).repeat_interleave(4, 2).repeat_interleave(4, 3)
    larger = measured_scale(model, model.state_dict(), enlarged, OWN, 32)
    assert larger is not None
    assert larger.normalization == SCALES[name]


def test_a_network_without_batch_norm_cannot_tell() -> None:
    model = build_network(CifarResNet(depth=8, norm="group"), 10)
    assert measured_scale(model, model.state_dict(), blobs(0), OWN, 32) is None


@pytest.mark.parametrize("file", ["resnet20-12fca82f.th", "resnet56-4bfd9763.th"])
def test_published_weights_expect_what_their_author_says(
    file: str, data_dir: Path, weights_dir: Path, tmp_path: Path
) -> None:
    """And the same weights, made to expect another scale, expect that; on images of their kind and of another."""
    content, _ = read_weights(weights_dir / file, "weights")
    assert isinstance(content, dict)
    weights = {name.removeprefix("module."): value for name, value in content["state_dict"].items()}
    model = build_network(CifarResNet(), 10)
    data = parse_config({"data": {"source": f"imagefolder:{data_dir}/hymenoptera", "resolution": 96}}).data
    splits = load_splits(data, tmp_path)
    own = Normalization(mean=splits.store.mean, std=splits.store.std)
    for pixels in (splits.train.batch(torch.arange(64)), cifar(data_dir, 64)):
        for name, scale in SCALES.items():
            found = measured_scale(model, expecting(weights, scale), pixels, own, 32)
            assert found is not None
            assert found.words.startswith(name), found.words
            assert found.normalization == scale


def cifar(data_dir: Path, count: int) -> Tensor:
    """The first images of CIFAR-10's test split, uint8 [count, 3, 32, 32]."""
    rows = pq.read_table(data_dir / "cifar10_jpeg" / "test-00000-of-00001.parquet").slice(0, count).to_pylist()
    images = [np.asarray(Image.open(io.BytesIO(row["img"]["bytes"])).convert("RGB")) for row in rows]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def expecting(weights: dict[str, Tensor], scale: Normalization) -> dict[str, Tensor]:
    """Weights that do with images of this scale what `weights` do with ImageNet's, but for the borders' zeros."""
    (mean, std), (other_mean, other_std) = (
        tuple(torch.tensor(numbers) for numbers in (one.mean, one.std)) for one in (scale, IMAGENET)
    )
    kernel = weights["conv1.weight"]
    shift = (kernel * ((mean - other_mean) / other_std).view(3, 1, 1)).sum((1, 2, 3))
    return {
        **weights,
        "conv1.weight": kernel * (std / other_std).view(3, 1, 1),
        "bn1.running_mean": weights["bn1.running_mean"] - shift,
    }
