"""From a TrialConfig to a trial that can run."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.config import TrialConfig
from trainables.result import Trainable
from trainables.synthetic import SyntheticRun

if TYPE_CHECKING:
    from trainables.data.store import PreparedData

__all__ = ["build_trainable", "load_torch"]


@cache
def load_torch() -> None:
    """Load what trains a network, in a process that trains one after another; call it before the first is built.

    What that creates stays to the end and is hidden from Python's garbage collector: looking through it takes a third
    of the time to load it, and then 0.3 s whenever a trial's memory is collected, as much as two epochs on digits.
    """
    gc.disable()
    try:
        for name in ("trainables.training.loop", "torch._dynamo"):  # the latter is loaded by the first optimizer
            import_module(name)
        gc.freeze()
    finally:
        gc.enable()


def build_trainable(
    config: TrialConfig, cache: Path, store: PreparedData | None = None, rungs: Iterable[int] = ()
) -> Trainable:
    """The trial that `config` describes, ready at epoch 0; images come from `store`, or are prepared under `cache`.

    At `rungs` its results hold what averaged weights score, too; a synthetic trial has no weights.

    Raises:
        ConfigError: if the data or the pretrained weights cannot be had.
    """
    if not config.model.is_network:
        return SyntheticRun(config)
    from trainables.data.images import load_splits  # here, since a synthetic trial needs no torch
    from trainables.training.loop import Run

    return Run(config, load_splits(config.data, cache, store), rungs)
