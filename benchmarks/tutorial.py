"""The other side of the comparisons: training and searching as PyTorch's and Ray Tune's tutorials teach them.

    python -m benchmarks.tutorial train IMAGES.npz --depth 20 --epochs 10
    python -m benchmarks.tutorial search IMAGES.npz --depth 8 --epochs 9 --trials 16 --out FOLDER

A program that a good user would write: images decoded once into memory, PIL transforms in a DataLoader, eager float32,
the loss read with `.item()` every step; for the search a function trainable, OptunaSearch, ASHAScheduler and Ray's
MLflow callback. The network is the project's, so that both sides train the same one.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from trainables.config import CifarResNet
from trainables.models.networks import build_network

__all__ = ["Arrays", "epochs"]


class Arrays(Dataset[tuple[torch.Tensor, int]]):
    """Images in memory, uint8 [n, h, w, 3], as torchvision's CIFAR-10 holds them; PIL in between, as it does."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, transform: Any) -> None:
        self.pixels, self.labels, self.transform = pixels, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """One image, transformed, and its label."""
        return self.transform(Image.fromarray(self.pixels[index])), int(self.labels[index])


def epochs(config: dict[str, Any]) -> Iterator[dict[str, float]]:
    """Train and give one result an epoch.

    `config`: images (an .npz of train_pixels, train_labels, val_pixels, val_labels), depth, epochs, seed, batch_size,
    lr, momentum, weight_decay, flip, workers (of the DataLoader), device.
    """
    torch.manual_seed(config["seed"])
    device = torch.device(config.get("device", "cpu"))
    with np.load(config["images"]) as file:
        arrays = dict(file)
    side = arrays["train_pixels"].shape[1]
    scaled = arrays["train_pixels"].astype(np.float32) / 255
    normalize = transforms.Normalize(scaled.mean((0, 1, 2)).tolist(), scaled.std((0, 1, 2)).tolist())
    del scaled
    augmented = [transforms.RandomCrop(side, padding=side // 8)]
    augmented += [transforms.RandomHorizontalFlip()] if config["flip"] else []
    train = Arrays(
        arrays["train_pixels"],
        arrays["train_labels"],
        transforms.Compose([*augmented, transforms.ToTensor(), normalize]),
    )
    val = Arrays(arrays["val_pixels"], arrays["val_labels"], transforms.Compose([transforms.ToTensor(), normalize]))
    workers = config["workers"]
    common: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0}
    train_loader = DataLoader(train, config["batch_size"], shuffle=True, drop_last=True, **common)
    val_loader = DataLoader(val, 256, **common)

    model = build_network(CifarResNet(depth=config["depth"]), int(train.labels.max()) + 1).to(device)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config["lr"], momentum=config["momentum"], weight_decay=config["weight_decay"]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config["epochs"] * len(train_loader))
    criterion = nn.CrossEntropyLoss()
    for epoch in range(1, config["epochs"] + 1):
        started = time.perf_counter()
        model.train()
        running_loss = 0.0
        for images, labels in train_loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            schedule.step()
            running_loss += loss.item()
        trained = time.perf_counter()
        model.eval()
        correct = 0
        val_loss = 0.0
        with torch.no_grad():
            for images, labels in val_loader:
                images, labels = images.to(device), labels.to(device)
                logits = model(images)
                val_loss += criterion(logits, labels).item() * len(labels)
                correct += (logits.argmax(1) == labels).sum().item()
        yield {
            "epoch": epoch,
            "train_loss": running_loss / len(train_loader),
            "val_loss": val_loss / len(val),
            "val_accuracy": correct / len(val),
            "images_per_second": len(train_loader) * config["batch_size"] / (trained - started),
            "seconds": time.perf_counter() - started,
        }


def trainable(config: dict[str, Any]) -> None:
    """Ray's function trainable."""
    from ray import tune

    torch.set_num_threads(config["threads"])
    for result in epochs(config):
        tune.report({**result, "reported": time.time()})


def search(
    fixed: dict[str, Any], trials: int, concurrent: int, grace: int, seconds: float | None, out: Path
) -> list[dict[str, Any]]:
    """A search over the settings that a CIFAR tutorial names. Returns every trial's results, in order of time."""
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    space = {
        **fixed,
        "lr": tune.loguniform(0.01, 1.0),
        "momentum": tune.uniform(0.8, 0.98),
        "weight_decay": tune.loguniform(1e-5, 1e-2),
        "batch_size": tune.choice([32, 64, 128]),
    }
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="val_accuracy", mode="max", num_samples=trials, max_concurrent_trials=concurrent,
            search_alg=OptunaSearch(seed=fixed["seed"]), time_budget_s=seconds,
            scheduler=ASHAScheduler(
                time_attr="training_iteration", max_t=fixed["epochs"], grace_period=grace, reduction_factor=3
            ),
        ),
        run_config=tune.RunConfig(
            name="tutorial", storage_path=str(out), verbose=0,
            callbacks=[MLflowLoggerCallback(tracking_uri=f"sqlite:///{out}/mlflow.db", experiment_name="tutorial")],
        ),
    )  # fmt: skip
    results = tuner.fit()
    frames = [frame for result in results if (frame := result.metrics_dataframe) is not None]
    rows = [row for number, frame in enumerate(frames) for row in frame.assign(trial=number).to_dict("records")]
    return sorted(rows, key=lambda row: row["reported"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["train", "search"])
    parser.add_argument("images", type=Path)
    for name, default in (("depth", 20), ("epochs", 10), ("seed", 0), ("batch_size", 128), ("workers", 0)):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    for name, default in (("lr", 0.1), ("momentum", 0.9), ("weight_decay", 5e-4)):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=default)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--flip", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--concurrent", type=int, default=2)
    parser.add_argument("--grace", type=int, default=1)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--out", type=Path, default=Path("tutorial"))
    arguments = vars(parser.parse_args())
    images = str(arguments.pop("images").absolute())
    verb, out = arguments.pop("verb"), arguments.pop("out").absolute()
    limits = [arguments.pop(name) for name in ("trials", "concurrent", "grace", "seconds")]
    config = {**arguments, "images": images}
    if verb == "train":
        torch.set_num_threads(config["threads"])
        for result in epochs(config):
            print(json.dumps({**result, "reported": time.time()}), flush=True)
        return
    out.mkdir(parents=True, exist_ok=True)
    json.dump(search(config, *limits, out), sys.stdout)


if __name__ == "__main__":
    main()
