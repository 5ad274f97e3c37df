"""The trial that is timed to tell how long a search takes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from statistics import fmean

from search.algorithms.searchers.random import draws
from search.study.spec import StudySpec
from trainables.config import PluginModel, TrialConfig
from trainables.config.model import architecture
from trainables.data.store import PreparedData, Request, request

__all__ = ["typical"]

DRAWS = 32


def typical(phase: StudySpec, images: Mapping[Request, PreparedData]) -> tuple[TrialConfig, str]:
    """The config that stands for the trials of a study's phase, and what to call it.

    It is that of the trial defaults; where networks or their images' sizes are searched, the one of some random draws
    whose forward pass takes the work nearest to their mean.

    Args:
        phase: one of `StudySpec.phases`.
        images: the prepared images of every trial.
    """
    points = islice(draws(phase.parsed_space, phase.seed, 0), DRAWS)
    drawn = [phase.trial_config(point.tree) for point in points] if phase.parsed_space.domains() else []
    if len({(architecture(config.model), config.data.resolution) for config in drawn}) < 2:
        return phase.trial_config({}), "the trial defaults"
    work = [_gflops(config, images) for config in drawn]
    mean = fmean(work)
    _, chosen = min(zip(work, drawn, strict=True), key=lambda pair: abs(pair[0] - mean))
    return chosen, chosen.model.kind if isinstance(chosen.model, PluginModel) else chosen.model.label


def _gflops(config: TrialConfig, images: Mapping[Request, PreparedData]) -> float:
    """Of a forward pass; 0 where that is not known."""
    from trainables.models.cost import forward_gflops  # loads torch

    store, side = images.get(request(config.data)), config.data.resolution
    if side is None and store is not None and store.image_size is not None:
        side = max(store.image_size)
    return 0.0 if side is None else forward_gflops(config.model, side) or 0.0
