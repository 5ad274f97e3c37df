"""How long a study may take here, guessed by arithmetic from one small network that is timed.

`search.planning.calibration` prepares the images and times the study's own steps instead: half a minute for one study.
"""

from __future__ import annotations

import math
import time

from search.algorithms.forecast import expected_survivors
from search.algorithms.schedulers.registry import build_scheduler
from search.study.spec import StudySpec
from trainables.config import CifarResNet, ConfigError, TrialConfig
from trainables.config.images import SOURCES, split_source

__all__ = ["gflops_here", "guessed_seconds"]

START_SECONDS = 20.0
STEP_SECONDS = 0.005  # of a step, however little it computes: some hundred operations, forward and back
_BATCH, _SIDE = 64, 32


def gflops_here(steps: int = 8) -> float:
    """How many GFLOP (multiply-adds) a second this machine computes, with all its cores, as it trains a small ResNet.

    The fastest of so many steps counts: the others waited for what else the machine does.
    """
    import torch

    from trainables.models import build_model
    from trainables.models.cost import forward_gflops

    config, device = CifarResNet(depth=8), "cuda" if torch.cuda.is_available() else "cpu"
    model = build_model(config, 10).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.zeros(_BATCH, 3, _SIDE, _SIDE, device=device).contiguous(memory_format=torch.channels_last)
    fastest = math.inf
    for _ in range(steps):
        begun = time.perf_counter()
        loss = model(images).sum()
        loss.backward()
        loss.item()  # waits for the device
        fastest = min(fastest, time.perf_counter() - begun)
    return 3 * _BATCH * (forward_gflops(config, _SIDE) or 0.0) / fastest


def guessed_seconds(spec: StudySpec, gflops: float) -> float | None:
    """About how long a whole search takes, refit included; None if that depends on the user's own images.

    Args:
        spec: of the study.
        gflops: of this machine, from `gflops_here`.
    """
    try:
        searched, refit = (_epoch_seconds(phase.trial_config({}), gflops) for phase in (spec, spec.own))
    except ConfigError:  # without images
        return None
    if searched is None or refit is None:
        return None
    epochs = expected_survivors(lambda: build_scheduler(spec), spec.budget.trials, spec.budget.epochs).epochs
    return START_SECONDS + epochs * searched + spec.most_refit_runs * spec.budget.epochs * refit


def _epoch_seconds(config: TrialConfig, gflops: float) -> float | None:
    from trainables.models.cost import forward_gflops  # loads torch

    if config.model.epoch_seconds is not None:
        return config.model.epoch_seconds
    source = SOURCES.get(split_source(config.data.source)[0])
    if source is None or source.images is None or source.side is None:
        return None
    images = min(source.images * (1 - config.data.val_fraction), config.data.train_samples or source.images)
    forward = forward_gflops(config.model, config.data.resolution or source.side)
    if forward is None:
        return None
    # A step computes the forward pass and twice as much backward.
    return 3 * images * forward / gflops + images / config.batch_size * STEP_SECONDS
