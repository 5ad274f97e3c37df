"""Real trainings with one fault each, and healthy ones: what the model doctor has to tell apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from trainables.checkpoints.checkpoint import save_checkpoint
from trainables.config import CifarResNet, TrialConfig, merge, parse_config
from trainables.data.images import load_splits
from trainables.models import build_model
from trainables.training.execution import configured
from trainables.training.loop import Run

Rows = list[tuple[Any, int]]
Edit = Callable[[Rows, Rows], tuple[Rows, Rows]]

CLASSES = 10
BASE: dict[str, Any] = {
    "model": {"kind": "cifar_resnet", "depth": 8},
    "augment": {"pad_crop": 0.125, "flip": True},
    "optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
    "batch_size": 64, "epochs": 10, "execution": {"device": "cpu", "threads": 1},
}  # fmt: skip
DIGITS: dict[str, Any] = {
    "data": {"source": "digits"}, "augment": {"flip": False, "pad_crop": 0.125}, "epochs": 8, "batch_size": 32,
}  # fmt: skip


def cifar(folder: Path, data_dir: Path, train: int, val: int, edit: Edit | None = None) -> str:
    """The first images of CIFAR-10 as a data source in `folder`, with its own validation split.

    `edit` is given the rows (encoded image, label) of both splits and returns what is written.
    """
    table = pq.read_table(data_dir / "cifar10_jpeg" / "train-00000-of-00001.parquet").slice(0, 2 * (train + val))
    images, labels = table.column("img").to_pylist(), table.column("label").to_pylist()
    order = np.random.default_rng(0).permutation(len(labels))[: train + val + 40]
    rows = [(images[i], labels[i]) for i in order]
    splits: dict[str, Rows] = {"train": rows[:train], "validation": rows[train : train + val]}
    if edit is not None:
        splits["train"], splits["validation"] = edit(splits["train"], splits["validation"])
    splits["test"] = rows[train + val :]
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in splits.items():
        columns = {"img": [image for image, _ in part], "label": pa.array([label for _, label in part], pa.int64())}
        found = pa.table(columns).replace_schema_metadata(table.schema.metadata)
        pq.write_table(found, folder / f"{name}-00000-of-00001.parquet")
    return f"parquet:{folder}"


def trained(changes: Mapping[str, Any], cache: Path) -> dict[str, Any]:
    """The checkpoint of a training of `BASE` with these changes."""
    config = parse_config(merge(BASE, changes))
    with configured(config.execution):
        run = Run(config, load_splits(config.data, cache))
        for _ in run.epochs():
            pass
    return run.state_dict()


def written(state: dict[str, Any], path: Path) -> Path:
    """A checkpoint of this state."""
    save_checkpoint(state, path)
    return path


def config_of(changes: Mapping[str, Any]) -> TrialConfig:
    """The config that `trained` would train."""
    return parse_config(merge(BASE, changes))


def shuffled(train: Rows, val: Rows) -> tuple[Rows, Rows]:
    """Labels that have nothing to do with the images."""
    draw = np.random.default_rng(1)
    return [(image, int(draw.integers(CLASSES))) for image, _ in train], val


def imbalanced(train: Rows, val: Rows) -> tuple[Rows, Rows]:
    """Nine in ten training images are cats."""
    cats = [row for row in train if row[1] == 3]
    rest = [row for row in train if row[1] != 3]
    return (cats * 9)[: 9 * len(rest) // 20] + rest[: len(rest) // 20], val


def leaking(train: Rows, val: Rows) -> tuple[Rows, Rows]:
    """Half of the validation images are training images."""
    return train, train[: len(val) // 2] + val[len(val) // 2 :]


def stale_statistics(state: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    """Batch norms whose running statistics are those of another network."""
    generator = torch.Generator().manual_seed(seed)
    changed = dict(state["model"])
    for name, tensor in changed.items():
        if name.endswith("running_mean"):
            changed[name] = tensor + torch.randn(tensor.shape, generator=generator) * tensor.abs().mean() * 2
        elif name.endswith("running_var"):
            changed[name] = tensor * torch.exp(torch.randn(tensor.shape, generator=generator))
    return {**state, "model": changed}


def bgr(state: dict[str, Any]) -> dict[str, Any]:
    """A network that was trained on images as OpenCV reads them."""
    changed = dict(state["model"])
    changed["conv1.weight"] = changed["conv1.weight"].flip(1)
    return {**state, "model": changed}


def normalized(state: dict[str, Any], mean: float, std: float) -> dict[str, Any]:
    """A checkpoint that says another normalization than the one that it was trained with."""
    return {**state, "normalization": {"mean": [mean] * 3, "std": [std] * 3}}


def statistics_of_other_scale(state: dict[str, Any], cache: Path) -> dict[str, Any]:
    """Batch norms that have last seen images of levels 0 to 255."""
    config = parse_config(state["config"])
    run = Run(config, load_splits(config.data, cache))
    run.load_state_dict(state)
    images = load_splits(config.data, cache).train
    run.network.train()
    with torch.no_grad():
        for start in range(0, 50 * 16, 16):
            run.network(images.batch(torch.arange(start, start + 16)).float())
    return {**state, "model": run.network.state_dict()}


def random_weights(folder: Path) -> str:
    """A file of weights that have learned nothing, for seven other classes."""
    torch.manual_seed(3)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(build_model(CifarResNet(depth=8), 7).state_dict(), folder / "random.pth")
    return str(folder / "random.pth")
