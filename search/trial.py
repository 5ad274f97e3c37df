"""A trial inside a Ray worker: TrialConfig -> trainable -> one report an epoch.

Checkpoints are written by the worker under the study's own folder, before the epoch they hold is reported: the journal
then names a file that exists, and Ray's copy into its experiment folder is not needed.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from ray import tune

from trainables.build import build_trainable
from trainables.checkpoint import load_checkpoint, save_checkpoint
from trainables.config import parse_config
from trainables.result import EpochResult, Trainable

__all__ = ["ResNetTrial"]

# A checkpoint an epoch for epochs of minutes; for epochs of milliseconds one in a while, so that writing stays below
# a twentieth of the time.
CHECKPOINT_SHARE = 0.05
CHECKPOINT_SECONDS = 5.0


class ResNetTrial(tune.Trainable):
    """Runs one trial after another in the same process (`reuse_actors`), each as a fresh process would.

    The Ray config of a trial is `{"trial": number, "config": TrialConfig as plain data, "cache": folder of prepared
    images, "checkpoints": folder of this trial's checkpoints, "version": the driver's resnet-search}`, paths absolute.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Build the trial; the first one of a process also loads torch.

        Raises:
            RuntimeError: if this node has another version of the package than the driver.
        """
        if config["version"] != metadata.version("resnet-search"):
            here = metadata.version("resnet-search")
            raise RuntimeError(f"this node has resnet-search {here}, the driver {config['version']}: install the same")
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Rebuild everything for the next trial, and keep the process."""
        self._start(new_config)
        return True

    def _start(self, config: dict[str, Any]) -> None:
        # The last trial's model must be gone before the next one asks for memory.
        self._trainable: Trainable | None = None
        self._epochs: Iterator[EpochResult] = iter(())
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # what this process caches, the others on the GPU cannot have
        self._folder = Path(config["checkpoints"])
        self._checkpoint: Path | None = None
        self._before: Path | None = None
        self._saved_at, self._save_seconds = time.monotonic(), 0.0
        self._trainable = build_trainable(parse_config(config["config"]), Path(config["cache"]))
        self._epochs = self._trainable.epochs()

    def step(self) -> dict[str, Any]:
        """Train one epoch and report it. The driver decides what ends; `last` says that nothing more will come."""
        result = next(self._epochs)
        if result.stop_reason != "diverged" and (result.last or self._checkpoint_is_due()):
            self._save(result.epoch)
        return asdict(result) | {"checkpoint": str(self._checkpoint) if self._checkpoint else None}

    def _checkpoint_is_due(self) -> bool:
        waited = time.monotonic() - self._saved_at
        return waited > max(CHECKPOINT_SECONDS, self._save_seconds / CHECKPOINT_SHARE)

    def _save(self, epoch: int) -> None:
        if self._trainable is None:
            raise RuntimeError("a trial saves only after setup")
        started, previous = time.monotonic(), self._checkpoint
        path = self._folder / f"epoch-{epoch:04d}.pt"
        save_checkpoint(self._trainable.state_dict(), path)
        self._checkpoint = path
        # The one before stays until the next: the journal names it until this epoch has been reported.
        if self._before is not None:
            self._before.unlink(missing_ok=True)
        self._before = previous
        self._saved_at = time.monotonic()
        self._save_seconds = self._saved_at - started

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """For Ray's own pause: the same file, where Ray wants it."""
        if self._trainable is None:
            raise RuntimeError("a trial saves only after setup")
        save_checkpoint(self._trainable.state_dict(), Path(checkpoint_dir) / "trial.pt")

    def load_checkpoint(self, checkpoint_dir: str) -> None:  # type: ignore[override]
        """Go on from `save_checkpoint`."""
        if self._trainable is None:
            raise RuntimeError("a trial loads only after setup")
        self._trainable.load_state_dict(load_checkpoint(Path(checkpoint_dir) / "trial.pt"))
        self._epochs = self._trainable.epochs()
