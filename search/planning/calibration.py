"""How long an epoch takes on this machine, timed before a search."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from search.planning.disk import checkpoint_bytes
from search.study.spec import StudySpec
from trainables.config import TrialConfig

__all__ = ["Calibration", "Plan", "calibrate"]

# Enough for a stable rate, little enough to wait for: the second of two short epochs is timed.
CALIBRATION_STEPS = 3
CALIBRATION_EVALUATION = 256


@dataclass(frozen=True)
class Calibration:
    """One epoch's expected seconds on a device to itself (None: not known), and the bytes of one checkpoint."""

    epoch_seconds: float | None
    checkpoint_bytes: int


@dataclass(frozen=True)
class Plan:
    """What a study would do: so many trials at once, on so many nodes of each type (empty if nothing has a price).

    `images` describes the prepared images, three lines for each source; `weights` says what is loaded of pretrained
    weights, `prior` which trials of earlier studies the searcher is told of.
    """

    spec: StudySpec
    concurrent: int
    calibration: Calibration
    nodes: Mapping[str, int]
    images: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    prior: tuple[str, ...] = ()


def calibrate(config: TrialConfig, cache: Path) -> Calibration:
    """Time a few steps of `config` on this machine, its device and threads; not for a GPU that only others have."""
    if config.model.epoch_seconds is not None:
        return Calibration(config.model.epoch_seconds, checkpoint_bytes(config, cache))
    import torch

    if config.execution.device == "cuda" and not torch.cuda.is_available():
        return Calibration(None, checkpoint_bytes(config, cache))

    from trainables.data.images import load_splits
    from trainables.training.execution import configured
    from trainables.training.loop import Run

    whole = load_splits(config.data, cache)
    images = len(whole.train)
    tree = config.model_dump()
    tree["data"]["train_samples"] = min(CALIBRATION_STEPS * config.batch_size, images)
    tree["data"]["val_samples"] = tree["data"]["train_eval_samples"] = CALIBRATION_EVALUATION
    tree["epochs"] = 2
    short = TrialConfig.model_validate(tree)
    splits = load_splits(short.data, cache)
    with configured(short.execution):
        run = Run(short, splits)
        *_, result = run.epochs()
    batch = min(short.batch_size, len(splits.train))
    trained = len(splits.train) // batch * batch  # a last batch that is not full is left out
    evaluation = max(result.seconds - trained / result.images_per_second, 0.0)
    scored = len(splits.val) + min(CALIBRATION_EVALUATION, len(splits.train))
    evaluated = len(whole.val) + min(config.data.train_eval_samples, images)
    seconds = images / result.images_per_second + evaluation * evaluated / scored
    buffer = io.BytesIO()
    torch.save(run.state_dict(), buffer)
    return Calibration(seconds, buffer.tell())
