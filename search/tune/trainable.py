"""A trial inside a Ray worker: TrialConfig -> trainable -> one report an epoch.

Checkpoints are written by the worker under the study's own folder, before the epoch they hold is reported: the journal
then names a file that exists, and Ray's copy into its experiment folder is not needed.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ray import tune

from search.journal.error_text import first_line
from search.storage.checkpoints import checkpoint_name, checkpoints
from search.storage.prepared_images import fetch_prepared
from search.storage.remote import open_storage, with_retries
from search.tune.fusion_host import HostedTrial, hosted
from search.tune.leg import LegReport, LegRequest
from trainables.config import ConfigError, TrialConfig, parse_config
from trainables.config.plugins import allow_plugins
from trainables.data.store import PreparedData
from trainables.result import EpochResult, Trainable
from trainables.trainable import build_trainable, load_torch

__all__ = ["ResNetTrial"]

# A checkpoint an epoch for epochs of minutes; for epochs of milliseconds one now and then, so that writing takes less
# than a twentieth of the time.
CHECKPOINT_SHARE = 0.05
CHECKPOINT_SECONDS = 5.0
LOOK_SECONDS = 0.5  # between two looks at the clock and for an interrupt, within an epoch
FAR_LOOK_SECONDS = 5.0  # the same where the interrupt is asked for over a network
AWAY_SECONDS = 60.0  # until the next request to a storage that did not answer


class ResNetTrial(tune.Trainable):
    """Runs one leg of a trial after another in the same process (`reuse_actors`), each as a fresh process would.

    Ray's config of a leg is `LegRequest.to_dict`, each result a `LegReport.to_dict`.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Build the trial; the first one of a process also loads torch.

        Raises:
            RuntimeError: if this node has another version of the package than the driver, or does not see the study.
        """
        self._start(LegRequest.from_dict(config))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Rebuild everything for the next leg, in the same process."""
        self._start(LegRequest.from_dict(new_config))
        return True

    def _start(self, leg: LegRequest) -> None:
        # The last trial's model must be freed before the next one allocates.
        self._trainable: Trainable | None = None
        self._steps: Iterator[EpochResult | None] = iter(())
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # memory cached by this process is out of reach for the others on the GPU
        self._leg = leg
        self._files, self._cache = with_retries(partial(open_storage, leg.storage)), Path(leg.cache)
        if not with_retries(lambda: self._files.exists("study.yaml")):
            where = self._files.location
            raise RuntimeError(f"this node does not see {where}: it must be on a folder that all nodes share, or in S3")
        self._look_seconds = LOOK_SECONDS if self._files.local() else FAR_LOOK_SECONDS
        self._checkpoint: str | None = None
        self._midway: str | None = None
        self._reported = leg.reported
        self._warnings: list[str] = []
        self._saved_at, self._save_seconds, self._looked_at = time.monotonic(), 0.0, 0.0
        self._store: PreparedData | None = None
        if leg.prepared:
            self._store = with_retries(partial(fetch_prepared, self._files.parent, leg.prepared, self._cache))
        allow_plugins(leg.plugins)
        self._config = parse_config(leg.config)
        if self._config.model.is_network:
            load_torch()
        with self._translate_oom():
            self._trainable = self._resume(self._config)
        self._steps = self._trainable.steps()

    def _translate_oom(self) -> contextlib.AbstractContextManager[None]:
        if not self._config.model.is_network:
            return contextlib.nullcontext()
        from trainables.training.memory import translate_oom

        return translate_oom(self._config, None if self._leg.fuse else self._leg.gpus)

    def _build(self, config: TrialConfig) -> Trainable:
        if config.model.is_network:
            if self._leg.fuse and not config.execution.compile:
                return hosted(config, self._cache, self._store, self._leg.storage, self._leg.rungs)
            from trainables.training.execution import configure_process

            configure_process(config.execution)
            if self._leg.gpus:
                from trainables.training.memory import cap_gpu_memory

                cap_gpu_memory(self._leg.gpus)
        return build_trainable(config, self._cache, self._store, self._leg.rungs)

    def _resume(self, config: TrialConfig) -> Trainable:
        """The trial as its furthest readable checkpoint holds it, else from its beginning.

        Raises:
            OSError: if the storage cannot be reached; the trial then is tried again, not restarted from scratch.
        """
        leg = self._leg
        names = with_retries(lambda: checkpoints(self._files, leg.trial, leg.reported)) if leg.number > 1 else []
        for name in names:
            trainable = self._build(config)
            try:
                state = with_retries(partial(self._load, name, config))
                trainable.load_state_dict(state)
            except (ConfigError, FileNotFoundError) as error:
                self._warnings.append(f"trial {leg.trial} resumes from an earlier checkpoint: {error}")
            else:
                return trainable
        return self._build(config)

    def _load(self, name: str, config: TrialConfig) -> dict[str, Any]:
        from trainables.checkpoints.checkpoint import load_checkpoint  # loads torch, and the driver reads this module

        with self._files.reading(name, self._cache) as path:
            return load_checkpoint(path, config)

    def step(self) -> dict[str, Any]:
        """Train one epoch and report it. The driver decides what ends; `last` says that nothing more will come.

        After an interrupt the report has no result, and the trial's checkpoint holds it as far as it got.
        """
        result: EpochResult | None = None
        while result is None:
            if self._is_interrupted() and self._save_midway():
                return LegReport(warnings=self._take_warnings()).to_dict()
            with self._translate_oom():
                result = next(self._steps)
        return self._report(result).to_dict()

    def _is_interrupted(self) -> bool:
        """Look, now and then, whether to stop; and save an epoch that takes long."""
        now = time.monotonic()
        if now - self._looked_at < self._look_seconds:
            return False
        self._looked_at = now
        if now - self._saved_at > self._leg.save_every:
            self._save_midway()
        try:
            return self._files.exists(self._leg.interrupt)
        except OSError:  # the storage is unreachable, and each request to it takes seconds: train on meanwhile
            self._looked_at = time.monotonic() + AWAY_SECONDS
            return False

    def _report(self, result: EpochResult) -> LegReport:
        self._reported = result.epoch
        if result.stop_reason != "diverged" and (
            result.last or result.epoch in self._leg.save_at or self._checkpoint_is_due()
        ):
            started = time.monotonic()
            self._checkpoint = self._save(self._state(), started) or self._checkpoint
        checkpoint = self._files.where(self._checkpoint) if self._checkpoint else None
        return LegReport(result, checkpoint, self._take_warnings())

    def _take_warnings(self) -> tuple[str, ...]:
        warnings, self._warnings = tuple(self._warnings), []
        return warnings

    def _checkpoint_is_due(self) -> bool:
        waited = time.monotonic() - self._saved_at
        return waited > max(CHECKPOINT_SECONDS, self._save_seconds / CHECKPOINT_SHARE)

    def _save_midway(self) -> bool:
        """Save the trial within its epoch; false if the epoch has ended in another process, and its result is next."""
        started, state = time.monotonic(), self._state()
        if state["epoch"] > self._reported:
            return False
        before = self._midway
        self._midway = self._save(state, started) or before
        if before not in (None, self._midway, self._checkpoint):
            with contextlib.suppress(OSError):  # one file too many, which is removed when the trial ends
                self._files.delete(str(before))
        return True

    def _state(self) -> dict[str, Any]:
        if self._trainable is None:
            raise RuntimeError("a trial saves only after setup")
        return self._trainable.state_dict()

    def _save(self, state: dict[str, Any], started: float) -> str | None:
        """Save the trial; None if the storage does not take it, which costs at most training the same again."""
        from trainables.checkpoints.checkpoint import save_checkpoint

        name = f"{self._leg.folder}/{checkpoint_name(state['epoch'], state.get('step', 0))}"
        try:
            with self._files.writing(name, self._cache) as path:
                save_checkpoint(state, path)
        except OSError as error:
            where, why = self._files.where(name), first_line(error)
            self._warnings.append(
                f"trial {self._leg.trial} continues without a checkpoint: {where} cannot be written ({why})"
            )
            return None
        finally:
            self._saved_at = time.monotonic()
            self._save_seconds = self._saved_at - started
        return name

    def cleanup(self) -> None:
        """Release what lives in another process."""
        if isinstance(self._trainable, HostedTrial):
            self._trainable.close()
