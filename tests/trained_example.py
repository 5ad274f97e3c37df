"""A briefly trained network and the images it was validated on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tests.trainables.image_files import write_folder
from trainables.checkpoints.checkpoint import save_checkpoint
from trainables.config import Normalization, parse_config
from trainables.data.arrow import EncodedRows
from trainables.data.images import load_splits
from trainables.training.execution import resolve_device
from trainables.training.feed import Feed
from trainables.training.inference import Inference
from trainables.training.loop import Run


@dataclass(frozen=True)
class Example:
    """A checkpoint, the files of its validation split in the split's order, and the loop's own logits of them."""

    checkpoint: Path
    files: list[Path]
    logits: Tensor


def train_example(folder: Path) -> Example:
    """A ResNet-8 on photographs of two sizes at 24 pixels, trained in `folder`."""
    photos = write_folder(folder / "photos", {"train/ant": 40, "train/bee": 40, "val/ant": 8, "val/bee": 8}, 90, 70)
    write_folder(photos, {"train/wasp": 20, "val/wasp": 4}, 60, 100, "jpg")
    config = parse_config(
        {
            "model": {"kind": "cifar_resnet", "depth": 8},
            "data": {"source": f"imagefolder:{photos}", "resolution": 24},
            "batch_size": 16, "epochs": 2, "execution": {"device": "cpu", "threads": 1, "precision": "fp32"},
        }
    )  # fmt: skip
    splits = load_splits(config.data, folder / "cache")
    run = Run(config, splits)
    list(run.epochs())
    state = run.state_dict()
    save_checkpoint(state, folder / "model.pt")
    device = resolve_device("cpu")
    inference = Inference(Normalization.model_validate(state["normalization"]), 24, config.execution, device)
    named = {path.read_bytes(): path for path in photos.glob("val/*/*.*")}
    rows = EncodedRows(splits.store.directory / "val.arrow")
    files = [named[rows[row]] for row in range(len(rows))]
    return Example(folder / "model.pt", files, inference.logits(run.model, Feed(splits.val, device)))
