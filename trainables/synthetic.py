"""A learning curve in microseconds that obeys the contract of a real trial, for tests and simulated searches.

Accuracy approaches a plateau that depends on the recipe (learning rate, weight decay, augmentation strength, optimizer,
schedule) at a rate that depends on it too, so that curves cross: decaying schedules and strong augmentation look worse
early and end better, as on real images.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from trainables.checkpoints.resume import translate_mismatch
from trainables.config import ConfigError, SyntheticCurve, TrialConfig
from trainables.result import EpochResult, Trainable
from trainables.seeds import derived_seed

__all__ = ["SyntheticRun"]

# The toy's optimum by kind of optimizer; one that it does not know is like Adam.
BEST_LR = {"sgd": 0.1, "adam": 2e-3, "adamw": 2e-3, "rmsprop": 1e-3}
UNKNOWN_BEST_LR = BEST_LR["adam"]
OPTIMIZER_BONUS = {"sgd": 0.02, "adamw": 0.015}
IMAGES_PER_EPOCH = 1000
LONGEST_STEP = 0.05  # seconds of sleep; a trial can be interrupted as often


class SyntheticRun(Trainable):
    """A trial of `model.kind: synthetic`.

    Raises:
        ConfigError: if the config asks for a real model.
    """

    def __init__(self, config: TrialConfig) -> None:
        if not isinstance(config.model, SyntheticCurve):
            raise ConfigError.single("model.kind", config.model.kind, "must be synthetic for this trainable")
        self._config = config
        self._curve = config.model
        self._steps_per_epoch = math.ceil(self._curve.seconds_per_epoch / LONGEST_STEP)
        self._epoch, self._step = 0, 0
        self._best_loss = math.inf
        self._epochs_without_gain = 0

    def steps(self) -> Iterator[EpochResult | None]:
        """One closed-form result an epoch, slept for in steps; see `trainables.result.Trainable`."""
        seconds, steps_per_epoch = self._curve.seconds_per_epoch, self._steps_per_epoch
        last = self._stop_reason() is not None if self._epoch else False
        while not last:
            while self._step < steps_per_epoch:
                time.sleep(seconds / steps_per_epoch)
                self._step += 1
                yield None
            self._epoch, self._step = self._epoch + 1, 0
            result = self._at(self._epoch)
            last = result.last
            yield result

    def _stop_reason(self) -> str | None:
        if self._config.optimizer.lr >= self._curve.diverge_above:
            return "diverged"
        if self._epoch == self._config.epochs:
            return "epochs"
        patience = self._config.regularization.patience
        return "patience" if patience is not None and self._epochs_without_gain >= patience else None

    def _best_epoch(self, reason: str | None) -> int | None:
        if reason in (None, "diverged"):
            return None
        return self._epoch - (0 if self._config.regularization.patience is None else self._epochs_without_gain)

    def _at(self, epoch: int) -> EpochResult:
        config = self._config
        optimizer, strength = config.optimizer, config.augment.strength
        decades_off = math.log10(optimizer.lr / BEST_LR.get(optimizer.kind, UNKNOWN_BEST_LR))
        decay_off = math.log10(max(optimizer.weight_decay, 1e-6) / 5e-4)
        decaying = config.schedule.kind not in ("constant", "cyclic")
        plateau = 0.94 + OPTIMIZER_BONUS.get(optimizer.kind, 0.0) - 0.12 * decades_off**2 - 0.015 * decay_off**2
        plateau -= 0.10 * (strength - 0.7) ** 2 + (0.0 if decaying else 0.04)
        speed = 8.0 / config.epochs * (1.0 - 0.35 * strength) * (0.85 if decaying else 1.0)
        noise = np.random.default_rng(derived_seed(config.seed, "synthetic", epoch)).normal(0.0, 0.004)
        accuracy = min(max(plateau * (1 - math.exp(-speed * epoch)) + noise, 0.1), 0.999)
        loss = -math.log(accuracy) + 0.3 * (1 - accuracy)
        if optimizer.lr >= self._curve.diverge_above:
            loss, accuracy = math.nan, 0.1
        if loss < self._best_loss:
            self._best_loss, self._epochs_without_gain = loss, 0
        else:
            self._epochs_without_gain += 1
        reason = self._stop_reason()
        gap = 0.08 * (1 - strength)
        seconds = max(self._curve.seconds_per_epoch, 1e-6)
        return EpochResult(
            epoch=epoch, train_loss=loss * (1 - gap), train_accuracy=min(accuracy + gap, 1.0), val_loss=loss,
            val_accuracy=accuracy, val_precision=accuracy, val_recall=accuracy, val_f1=accuracy, lr=optimizer.lr,
            grad_norm=1.0 / epoch, images_per_second=IMAGES_PER_EPOCH / seconds, seconds=seconds,
            last=reason is not None, stop_reason=reason, best_epoch=self._best_epoch(reason),
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """The epoch, the step in it, the patience counters and the config."""
        return {
            "config": self._config.model_dump(mode="json"),
            "epoch": self._epoch,
            "step": self._step,
            "best_loss": self._best_loss,
            "epochs_without_gain": self._epochs_without_gain,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`.

        Raises:
            ConfigError: if it is not what `state_dict` returns.
        """
        with translate_mismatch():
            self._epoch, self._step = state["epoch"], state["step"]
            self._best_loss, self._epochs_without_gain = state["best_loss"], state["epochs_without_gain"]
