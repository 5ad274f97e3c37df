"""How much disk a search needs, and whether it is there."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from search.algorithms.forecast import Survival
from search.planning.preflight import configs_of
from search.study.spec import StudySpec
from trainables.config import ConfigError, Model, TrialConfig
from trainables.config.model import architecture

__all__ = ["RESERVE", "check_space", "checkpoint_bytes", "largest_checkpoint", "needed_bytes", "reserve_bytes"]

RESERVE = 50_000_000  # bytes for journal, MLflow and tables
# The last, the best, and the one being written; and in each the average that rungs compare, at most half as much again.
PER_LIVE_TRIAL = 5
PER_FINISHED_TRIAL = 2  # the last and the best


def largest_checkpoint(phase: StudySpec, cache: Path) -> int:
    """About how large the largest checkpoint of a study's phase is, whichever networks and optimizers are searched."""
    different = {
        (architecture(c.model), c.optimizer.state_slots, c.regularization.ema_decay > 0): c
        for c in (phase.trial_config({}), *configs_of(phase))
    }
    return max(checkpoint_bytes(config, cache) for config in different.values())


def checkpoint_bytes(config: TrialConfig, cache: Path) -> int:
    """About how large a checkpoint of this trial is, from its number of weights."""
    if not config.model.is_network:
        return 1000
    from trainables.data.images import load_splits

    weights = _weights(architecture(config.model), load_splits(config.data, cache).store.num_classes)
    copies = 1 + config.optimizer.state_slots + (1 if config.regularization.ema_decay else 0)
    return 4 * weights * copies + 100_000


@cache
def _weights(model: Model, classes: int) -> int:
    from trainables.models.networks import build_network

    # On torch's meta device it would need no memory, but two seconds of imports.
    return sum(tensor.numel() for tensor in build_network(model, classes).state_dict().values())


def needed_bytes(spec: StudySpec, survival: Survival, concurrent: int, checkpoints: Sequence[int]) -> int:
    """What a whole search will hold on disk at its end, when stopped trials have deleted their checkpoints.

    The runs of its refit are there until the test split was scored. `checkpoints` are the largest of each phase.
    """
    # A paused trial may still run to the end.
    searched = (spec.budget.trials if survival.pauses else survival.finished) * checkpoints[0]
    finished = searched + spec.most_refit_runs * checkpoints[-1]
    return RESERVE + round(PER_FINISHED_TRIAL * finished + PER_LIVE_TRIAL * concurrent * max(checkpoints))


def reserve_bytes(concurrent: int, checkpoint: int) -> int:
    """What must stay free while a search runs, so that its live trials can be saved and the journal be closed."""
    return RESERVE + PER_LIVE_TRIAL * concurrent * checkpoint


def check_space(folder: Path, needed: int) -> None:
    """See that the folder's disk has room.

    Raises:
        ConfigError: if it has not.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        rule = f"must have about {needed / 1e6:,.0f} MB free for checkpoints and results, and has {free / 1e6:,.0f} MB"
        raise ConfigError.single("--out", str(folder), f"{rule}: free some, or choose another folder")
