"""Both sides of a comparison, ready to run: the same images, network, recipe, batch and threads.

`benchmarks.tutorial` is one side, `benchmarks.one_trial` the other; each runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.config import ConfigError, TrialConfig, dump_config, parse_config
from trainables.data.images import Images, load_splits

__all__ = ["Case", "Side", "Task", "cifar", "digits", "prepare_sides", "watch"]


@dataclass(frozen=True)
class Task:
    """What is trained, on which images."""

    source: str
    depth: int
    batch_size: int
    epochs: int
    train_samples: int | None = None
    val_samples: int | None = None
    flip: bool = True

    def config(self, threads: int, seed: int = 0, **execution: Any) -> TrialConfig:
        """The project's config of it: the recipe of `benchmarks.tutorial`."""
        return parse_config(
            {
                "model": {"kind": "cifar_resnet", "depth": self.depth},
                "data": {
                    "source": self.source, "train_samples": self.train_samples, "val_samples": self.val_samples,
                    "val_fraction": 0.2,
                },
                "augment": {"pad_crop": 0.125, "flip": self.flip},
                "optimizer": {
                    "kind": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "decay_norm_and_bias": True
                },
                "schedule": {"kind": "cosine"},
                "batch_size": self.batch_size,
                "epochs": self.epochs,
                "seed": seed,
                "execution": {"device": "cpu", "threads": threads, "precision": "auto", **execution},
            }
        )  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A task whose images lie ready for both sides: the store in `cache`, arrays in `images`."""

    task: Task
    cache: Path
    images: Path
    folder: Path

    def tutorial(self, threads: int, workers: int, seed: int = 0) -> list[str]:
        """The command of the tutorial's side."""
        task = self.task
        return [
            sys.executable, "-m", "benchmarks.tutorial", "train", str(self.images), "--depth", str(task.depth),
            "--epochs", str(task.epochs), "--batch-size", str(task.batch_size), "--threads", str(threads),
            "--workers", str(workers), "--seed", str(seed), *(["--flip"] if task.flip else []),
        ]  # fmt: skip

    def ours(self, threads: int, seed: int = 0, **execution: Any) -> list[str]:
        """The command of this project's side."""
        config = self.task.config(threads, seed, **execution)
        path = self.folder / f"config-{threads}-{seed}-{'-'.join(map(str, execution.values()))}.yaml"
        path.write_text(dump_config(config))
        return [sys.executable, "-m", "benchmarks.one_trial", str(path), "--cache", str(self.cache)]


@dataclass(frozen=True)
class Side:
    """What one process, or several at once, measured.

    Attributes:
        wall: seconds from the start of the first process to the end of the last.
        epochs: each process's results, one an epoch.
    """

    wall: float
    epochs: list[list[dict[str, float]]]

    @property
    def steady(self) -> float:
        """Training images a second of all processes together, in the median of their epochs but the first."""
        return sum(float(np.median([epoch["images_per_second"] for epoch in process[1:]])) for process in self.epochs)

    @property
    def between_epochs(self) -> float:
        """Seconds from one report to the next, in the median, evaluation included; of the first process."""
        reported = [epoch["reported"] for epoch in self.epochs[0]]
        return float(np.median(np.diff(reported)))


def watch(commands: list[list[str]], threads: int) -> Side:
    """Run the commands at once and collect what they print.

    Raises:
        SystemExit: if one fails.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(sys.path)}
    started = time.perf_counter()
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for command in commands]
    printed = [process.communicate()[0] for process in processes]
    wall = time.perf_counter() - started
    for process in processes:
        if process.returncode:
            raise SystemExit(f"failed: {' '.join(process.args)}")  # type: ignore[arg-type]
    return Side(wall, [[json.loads(line) for line in text.splitlines()] for text in printed])


def cifar(depth: int, epochs: int, train_samples: int | None, val_samples: int | None) -> Task:
    """CIFAR-10 from $RESNET_SEARCH_DATA/cifar10_jpeg, or as torchvision downloads it."""
    data = os.environ.get("RESNET_SEARCH_DATA")
    source = f"parquet:{Path(data, 'cifar10_jpeg')}" if data else "cifar10"
    return Task(source, depth, 128, epochs, train_samples, val_samples)


def digits(epochs: int) -> Task:
    """ResNet-8 on scikit-learn's digits of 8 x 8 pixels; never flipped."""
    return Task("digits", 8, 64, epochs, flip=False)


def prepare_sides(task: Task, folder: Path) -> Case:
    """Decode the images once for both sides; none of this is timed.

    Raises:
        SystemExit: if the images cannot be had, saying why.
    """
    cache = folder / "cache"
    try:
        splits = load_splits(task.config(1).data, cache)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    images = folder / f"{task.source.split(':')[0]}-{task.train_samples}-{task.val_samples}.npz"
    if not images.exists():
        arrays = {}
        for name, split in (("train", splits.train), ("val", splits.val)):
            arrays[f"{name}_pixels"] = _height_width_channels(split)
            arrays[f"{name}_labels"] = split.labels.numpy()
        np.savez(images, **arrays)
    return Case(task, cache, images, folder)


def _height_width_channels(images: Images) -> np.ndarray:
    import torch

    return np.ascontiguousarray(images.batch(torch.arange(len(images))).permute(0, 2, 3, 1).numpy())
