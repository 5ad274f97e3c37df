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

from search.checkpoint_files import checkpoint_name
from trainables.build import build_trainable
from trainables.checkpoint import load_checkpoint, save_checkpoint
from trainables.config import ConfigError, TrialConfig, parse_config
from trainables.result import EpochResult, Trainable

__all__ = ["ResNetTrial"]

# A checkpoint an epoch for epochs of minutes; for epochs of milliseconds one in a while, so that writing stays below
# a twentieth of the time.
CHECKPOINT_SHARE = 0.05
CHECKPOINT_SECONDS = 5.0
LOOK_SECONDS = 0.5  # between two looks at the clock and for an interrupt, within an epoch


class ResNetTrial(tune.Trainable):
    """Runs one leg of a trial after another in the same process (`reuse_actors`), each as a fresh process would.

    The Ray config of a leg is plain data, paths absolute:
        trial, config: the trial's number and its TrialConfig.
        cache: folder of prepared images.
        folder: where to write checkpoints.
        resume: checkpoints to go on from, the first that can be read.
        save_at: epochs after which there must be a checkpoint.
        save_every: seconds after which a checkpoint is due within an epoch.
        interrupt: once this file exists, the trial is saved and the leg ends.
        version: the driver's resnet-search.
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
        """Rebuild everything for the next leg, and keep the process."""
        self._start(new_config)
        return True

    def _start(self, config: dict[str, Any]) -> None:
        # The last trial's model must be gone before the next one asks for memory.
        self._trainable: Trainable | None = None
        self._steps: Iterator[EpochResult | None] = iter(())
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # what this process caches, the others on the GPU cannot have
        self._leg = config
        self._folder, self._interrupt = Path(config["folder"]), Path(config["interrupt"])
        self._checkpoint: Path | None = None
        self._midway: Path | None = None
        self._warnings: list[str] = []
        self._saved_at, self._save_seconds, self._looked_at = time.monotonic(), 0.0, 0.0
        self._trainable = self._resumed(parse_config(config["config"]))
        self._steps = self._trainable.steps()

    def _resumed(self, config: TrialConfig) -> Trainable:
        """The trial as its furthest readable checkpoint holds it, else from its beginning."""
        for path in self._leg["resume"]:
            trainable = build_trainable(config, Path(self._leg["cache"]))
            try:
                trainable.load_state_dict(load_checkpoint(Path(path), config))
            except ConfigError as error:
                self._warnings.append(f"trial {self._leg['trial']} goes on from an earlier checkpoint: {error}")
            else:
                return trainable
        return build_trainable(config, Path(self._leg["cache"]))

    def step(self) -> dict[str, Any]:
        """Train one epoch and report it. The driver decides what ends; `last` says that nothing more will come.

        After an interrupt the report says `interrupted` instead, and the trial is on disk as far as it came.
        """
        result: EpochResult | None = None
        while result is None:
            if self._is_interrupted():
                self._save_midway()
                return {"interrupted": True, "warnings": self._told()}
            result = next(self._steps)
        return self._report(result)

    def _is_interrupted(self) -> bool:
        """Look, now and then, whether to stop; and save an epoch that takes long."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return False
        self._looked_at = now
        if now - self._saved_at > self._leg["save_every"]:
            self._save_midway()
        return self._interrupt.exists()

    def _report(self, result: EpochResult) -> dict[str, Any]:
        if result.stop_reason != "diverged" and (
            result.last or result.epoch in self._leg["save_at"] or self._checkpoint_is_due()
        ):
            saved = self._save(checkpoint_name(result.epoch))
            self._checkpoint = saved or self._checkpoint
        checkpoint = str(self._checkpoint) if self._checkpoint else None
        return asdict(result) | {"checkpoint": checkpoint, "warnings": self._told()}

    def _told(self) -> list[str]:
        told, self._warnings = self._warnings, []
        return told

    def _checkpoint_is_due(self) -> bool:
        waited = time.monotonic() - self._saved_at
        return waited > max(CHECKPOINT_SECONDS, self._save_seconds / CHECKPOINT_SHARE)

    def _save_midway(self) -> None:
        before = self._midway
        self._midway = self._save(None) or before
        if before not in (None, self._midway):
            before.unlink(missing_ok=True)

    def _save(self, name: str | None) -> Path | None:
        """Save the trial as it stands; None if the disk does not take it, which costs at most a repetition."""
        if self._trainable is None:
            raise RuntimeError("a trial saves only after setup")
        started = time.monotonic()
        state = self._trainable.state_dict()
        path = self._folder / (name or checkpoint_name(state["epoch"], state.get("step", 0)))
        try:
            save_checkpoint(state, path)
        except OSError as error:
            self._warnings.append(
                f"trial {self._leg['trial']} goes on without a checkpoint: {path} cannot be written ({error.strerror})"
            )
            return None
        finally:
            self._saved_at = time.monotonic()
            self._save_seconds = self._saved_at - started
        return path

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Not used: a trial is paused and resumed by its own files.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("Ray must not checkpoint this trial: its own checkpoints are in the study's folder")
