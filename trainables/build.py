"""From a TrialConfig to a trial that can run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainables.config import SyntheticCurve, TrialConfig
from trainables.result import Trainable
from trainables.synthetic import SyntheticRun

if TYPE_CHECKING:
    from trainables.store import Store

__all__ = ["build_trainable"]


def build_trainable(config: TrialConfig, cache: Path, store: Store | None = None) -> Trainable:
    """The trial that `config` describes, ready at epoch 0; images come from `store`, or are prepared under `cache`.

    Raises:
        ConfigError: if the data or the pretrained weights cannot be had.
    """
    if isinstance(config.model, SyntheticCurve):
        return SyntheticRun(config)
    from trainables.data import load_splits  # here, since a synthetic trial needs no torch
    from trainables.loop import Run

    return Run(config, load_splits(config.data, cache, store))
