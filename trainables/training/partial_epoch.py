"""An epoch under way: what must survive an interruption for the rest of it to come out as if there had been none."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from trainables.seeds import derived_seed

__all__ = ["PartialEpoch"]


class PartialEpoch:
    """Sums, random streams and time of an epoch that has begun and not ended.

    Dropout draws from torch's global generators, which anyone may use in the same process. They hold this epoch's
    stream only inside `running`; outside, its state is stored here.

    Attributes:
        generator: of the CPU, for augmentation.
        seconds: wall time inside `running`, carried from process to process: an interrupted epoch takes as long as its
            parts, and not the time between them.

    Args:
        seed: the trial's.
        epoch: counted from 0; the streams follow from these two.
        device: the model's.
    """

    def __init__(self, seed: int, epoch: int, device: torch.device) -> None:
        self._device = device
        self._loss_sum = torch.zeros((), device=device)
        self._norm_sum = torch.zeros((), device=device)
        self.generator = torch.Generator().manual_seed(derived_seed(seed, "augment", epoch))
        torch.manual_seed(derived_seed(seed, "dropout", epoch))
        self._global_streams = self._read_global_streams()
        self.seconds = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Let this epoch's dropout stream and clock run. Does not wait for the device."""
        torch.set_rng_state(self._global_streams["cpu"])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(self._global_streams["cuda"], self._device)
        started = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - started
        self._global_streams = self._read_global_streams()

    def _read_global_streams(self) -> dict[str, Tensor]:
        streams = {"cpu": torch.get_rng_state()}
        if self._device.type == "cuda":
            streams["cuda"] = torch.cuda.get_rng_state(self._device)
        return streams

    def add(self, loss: Tensor, norm: Tensor) -> None:
        """Count one step's loss and gradient norm, float32 [] on the device, where the sums stay."""
        self._loss_sum = self._loss_sum + loss
        self._norm_sum = self._norm_sum + norm

    def means(self, steps: int) -> tuple[float, float]:
        """Mean loss and mean gradient norm over `steps` steps. Waits for the device."""
        return self._loss_sum.item() / steps, self._norm_sum.item() / steps

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain data, 10 KB, nearly all of it the two generators' states."""
        return {
            "loss_sum": self._loss_sum,
            "norm_sum": self._norm_sum,
            "augment_stream": self.generator.get_state(),
            "global_streams": self._global_streams,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`; a stream that it lacks, being another device's, starts at the epoch's beginning."""
        self._loss_sum, self._norm_sum = (state[key].to(self._device) for key in ("loss_sum", "norm_sum"))
        self.generator.set_state(state["augment_stream"])
        streams = state["global_streams"]
        self._global_streams = {device: streams.get(device, own) for device, own in self._global_streams.items()}
        self.seconds = state["seconds"]
