"""The training loop: one generator of steps and `EpochResult`s, no callbacks.

Every random draw comes from (seed, purpose, epoch), and a `state_dict` taken in the middle of an epoch holds how far
its streams have come, so that a run stopped after any step and resumed computes what an uninterrupted one does. Within
an epoch nothing waits for the device: sums stay there and are read once, at its end.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from trainables.augment.batch import Augmentation, Batch
from trainables.checkpoints.class_names import check_same_classes
from trainables.checkpoints.resume import translate_mismatch
from trainables.config import ConfigError, TrialConfig
from trainables.data.images import Splits
from trainables.models import build_model
from trainables.models.cost import batch_norm_problem
from trainables.models.ema import WeightAverage
from trainables.models.protocol import is_fusible, train_mode
from trainables.result import EpochResult, Trainable
from trainables.seeds import derived_seed
from trainables.training.early_stopping import EarlyStopping
from trainables.training.evaluation import accuracy, class_report, collapse, score
from trainables.training.execution import autocast, memory_format, resolve_device
from trainables.training.feed import Feed
from trainables.training.inference import Inference
from trainables.training.losses import training_loss
from trainables.training.optim import build_optimizer, load_optimizer, lr_at, momentum_at, set_rates
from trainables.training.partial_epoch import PartialEpoch
from trainables.training.rung_average import RungAverage
from trainables.training.sampling import (
    class_weights,
    epoch_order,
    first_mirrored,
    sampling_weights,
    scale_at,
    train_probe,
)
from trainables.training.weights import normalization_for

__all__ = ["Run"]


class Run(Trainable):
    """A trial on images. See `trainables.result.Trainable` for the contract.

    Threads and the like belong to the process, and nothing here changes them: `execution.configure_process` does in a
    worker, `execution.configured` around a run in a process that is shared.

    Args:
        config: what to train. `execution` says where; `auto` and null there mean what this machine has.
        splits: the images, from `trainables.data.load_splits(config.data, cache)`.
        rungs: epochs whose results are `averaged`, too. With EMA on they are an average's already, and none is.

    Raises:
        ConfigError: if the pretrained weights cannot be read or do not fit the model.
    """

    def __init__(self, config: TrialConfig, splits: Splits, rungs: Iterable[int] = ()) -> None:
        self._config = config
        self._device = resolve_device(config.execution.device)
        store = splits.store
        self._class_names, self._fingerprint = list(store.class_names), store.fingerprint
        self._image_size = list(splits.train.size)
        self._normalization = normalization_for(config, splits.train, store)
        self._augmentation = Augmentation(
            config.augment, self._normalization.mean, self._normalization.std, store.num_classes
        )
        self._inference = Inference(self._normalization, config.data.resolution, config.execution, self._device)
        self._train, self._val = Feed(splits.train, self._device), Feed(splits.val, self._device)
        self._probe = train_probe(config.data, len(self._train))
        self._batch_size = min(config.batch_size, len(self._train))
        self._steps_per_epoch = len(self._train) // self._batch_size
        alternates = config.augment.flip_order == "alternating"
        self._first_mirrored = first_mirrored(config.seed, len(self._train)) if alternates else None
        labels, imbalanced = splits.train.labels, config.regularization
        self._sampling_weights = sampling_weights(imbalanced, labels, store.num_classes)
        weights = class_weights(imbalanced, labels, store.num_classes)
        self._class_weights = None if weights is None else weights.to(self._device)

        if problem := batch_norm_problem(config, len(self._train), splits.train.size):
            raise ConfigError([problem])
        torch.manual_seed(derived_seed(config.seed, "weights"))
        side = config.data.resolution
        self._model = build_model(config.model, store.num_classes, (side, side) if side else splits.train.size)
        layout = memory_format(config.execution)
        self._model.to(device=self._device, memory_format=layout)  # type: ignore[call-overload]
        self._forward: nn.Module = self._model
        if config.execution.compile:
            torch.compiler.reset()  # or a worker's ninth trial would run uncompiled, and sizes turn dynamic
            self._forward = torch.compile(self._model)  # type: ignore[assignment]
        self._optimizer = build_optimizer(config.optimizer, self._model)
        self._trained = [p for group in self._optimizer.param_groups for p in group["params"]]
        decay = config.regularization.ema_decay
        self._ema = WeightAverage(self._model, decay) if decay else None
        self._rung_average = RungAverage(self._model, () if decay else rungs, self._steps_per_epoch)
        self._epoch, self._step = 0, 0
        self._partial: PartialEpoch | None = None
        self._order = torch.empty(0, dtype=torch.int64)
        self._first_loss = torch.zeros((), device=self._device)
        self._stopping = EarlyStopping(config.epochs, config.regularization.patience)

    @property
    def model(self) -> nn.Module:
        """The network whose metrics are reported: the averaged one when EMA is on."""
        return self._ema.module if self._ema is not None else self._model

    @property
    def network(self) -> nn.Module:
        """The network that is trained."""
        return self._model

    @cached_property
    def fusion(self) -> Hashable | None:
        """What must be equal for networks to be trained as one (`trainables.training.fused`); None if this one cannot.

        A compiled network has kernels of its own.
        """
        config = self._config
        grows = config.augment.first_scale < 1  # and is not of the same size in another run's epoch
        if config.execution.compile or grows or not is_fusible(self._model):
            return None
        return config.model, config.execution, config.data, self._batch_size

    def precision(self) -> AbstractContextManager[Any]:
        """The context that forward passes run in."""
        return autocast(self._config.execution, self._device)

    def steps(self) -> Iterator[EpochResult | None]:
        """Train to the last epoch; see `trainables.result.Trainable`."""
        last = self._stopping.stop_reason(0.0) is not None if self._epoch else False
        while not last:
            partial = self.begun_epoch()
            while self.steps_left:
                with partial.running():
                    self.train_on(self.next_batch())
                yield None
            result = self._finish_epoch(partial)
            last = result.last
            yield result

    def begun_epoch(self) -> PartialEpoch:
        """The epoch under way, begun if there is none."""
        if self._partial is None:
            self._partial = PartialEpoch(self._config.seed, self._epoch, self._device)
            order = epoch_order(self._config.seed, self._epoch, len(self._train), self._sampling_weights)
            self._order = order.to(self._device)
        return self._partial

    @property
    def steps_left(self) -> int:
        """How many steps of the epoch under way are left."""
        return self._steps_per_epoch - self._step

    def next_batch(self, scale: float | None = None) -> Batch:
        """The images of the next step, as the network takes them; to be trained on before another one is drawn.

        Args:
            scale: of their side, over that in validation; None: the one of this epoch.
        """
        partial = self.begun_epoch()
        if not self._model.training:  # as it is after an evaluation
            train_mode(self._forward)
        indices = self._order[self._step * self._batch_size : (self._step + 1) * self._batch_size]
        turn = None
        if self._first_mirrored is not None:
            turn = self._first_mirrored[indices.cpu()] ^ bool(self._epoch % 2)
        batch = self._train.augmented(indices, self._augmentation, partial.generator, turn)
        scale = scale or scale_at(self._config.augment, self._epoch, self._config.epochs)
        return replace(batch, images=self._inference.shaped(batch.images, scale))

    def train_on(self, batch: Batch) -> None:
        """One step, whole. Its loss and gradient norm are summed up on the device, where nothing waits for them."""
        self._optimizer.zero_grad(set_to_none=True)
        with self.precision():
            logits = self._forward(batch.images)
        loss = self.loss(logits, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        self.learn(loss)

    def _lr(self, step: int) -> float:
        """The learning rate at a step of this epoch."""
        config, steps = self._config, self._steps_per_epoch
        at, total = self._epoch * steps + step, config.epochs * steps
        return lr_at(config.schedule, config.optimizer.lr, at, total, steps, self._stopping.val_history)

    def _finish_epoch(self, partial: PartialEpoch) -> EpochResult:
        with partial.running():
            train_loss, grad_norm = partial.means(self._steps_per_epoch)
        lr, trained = self._lr(self._steps_per_epoch - 1), time.perf_counter()
        probe_logits = self._inference.logits(self.model, self._train, self._probe)
        probe = accuracy(probe_logits, self._train.labels[self._probe.to(self._device)])
        val_logits = self._inference.logits(self.model, self._val)
        val = score(val_logits, self._val.labels)
        self._epoch, self._step, self._partial = self._epoch + 1, 0, None
        averaged = self._rung_average.metrics(
            self._epoch, lambda model: score(self._inference.logits(model, self._val), self._val.labels)
        )
        stopping = self._stopping
        stopping.val_history.append(val.loss)
        reason = stopping.stop_reason(train_loss)
        report = stopping.end_epoch(
            reason, self.model, lambda: class_report(val_logits, self._val.labels, self._class_names)
        )
        return EpochResult(
            epoch=self._epoch, train_loss=train_loss, train_accuracy=probe, val_loss=val.loss,
            val_accuracy=val.accuracy, val_precision=val.precision, val_recall=val.recall, val_f1=val.f1,
            lr=lr, grad_norm=grad_norm,
            images_per_second=self._steps_per_epoch * self._batch_size / partial.seconds,
            seconds=partial.seconds + time.perf_counter() - trained, last=reason is not None, stop_reason=reason,
            best_epoch=None if report is None else stopping.best_epoch, report=report,
            collapsed=None if reason == "diverged" else collapse(
                val.one_class, train_loss, self._first_loss.item(), len(self._class_names)
            ), averaged=averaged,
        )  # fmt: skip

    def rehearse(self) -> None:
        """Take three steps and score as many images as at once in an evaluation, for the memory that it takes."""
        for _ in range(3):
            self.train_on(self.next_batch(scale=1.0))
        at_once = min(len(self._val), self._inference.batch_size(self._val))
        self._inference.logits(self.model, self._val, torch.arange(at_once))

    def learn(self, loss: Tensor) -> None:
        """The optimizer's part of a step, the gradients being there.

        Args:
            loss: of the step, float32 [].
        """
        config, steps = self._config, self._steps_per_epoch
        momentum = momentum_at(config.schedule, self._epoch * steps + self._step, config.epochs * steps)
        set_rates(self._optimizer, self._lr(self._step), momentum)
        norm = nn.utils.get_total_norm([p.grad for p in self._trained if p.grad is not None])
        if config.regularization.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(self._trained, config.regularization.clip_norm, norm)
        self._optimizer.step()
        if self._ema is not None:
            self._ema.update()
        self._rung_average.update()
        if self._epoch == self._step == 0:
            self._first_loss.copy_(loss.detach())
        self.begun_epoch().add(loss.detach(), norm)
        self._step += 1

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The loss of logits [b, classes], as `training_loss` has it."""
        return training_loss(self._config, logits, batch, self._class_weights)

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimizer, validation history, config, and what the images were: tensors and plain data.

        The tensors are those that training changes: save them before the next step.
        """
        return {
            "config": self._config.model_dump(mode="json"),
            "epoch": self._epoch,
            "step": self._step,
            "partial_epoch": None if self._partial is None else self._partial.state_dict(),
            "first_loss": float(self._first_loss),
            "model": self._model.state_dict(),
            "ema": None if self._ema is None else self._ema.module.state_dict(),
            "ema_steps": 0 if self._ema is None else self._ema.steps,
            "rung_average": self._rung_average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "normalization": self._normalization.model_dump(mode="json"),
            "class_names": self._class_names,
            "image_size": self._image_size,
            "fingerprint": self._fingerprint,
            **self._stopping.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`, a `state_dict` of a run with the same config.

        Raises:
            ConfigError: if it does not fit. Part of it may have been loaded by then: take another run, or train from
                the beginning.
        """
        with translate_mismatch():
            check_same_classes(state["class_names"], self._class_names)
            self._epoch, self._step = state["epoch"], state["step"]
            self._first_loss.fill_(state.get("first_loss", 0.0))
            self._stopping.load_state_dict(state)
            self._partial = None
            if state["partial_epoch"] is not None:
                self.begun_epoch().load_state_dict(state["partial_epoch"])
            self._model.load_state_dict(state["model"])
            load_optimizer(self._optimizer, state["optimizer"])
            if self._ema is not None:
                self._ema.load(state["ema"], state["ema_steps"])
            self._rung_average.load_state_dict(state.get("rung_average"))
