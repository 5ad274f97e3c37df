"""Validate the images and weights of a study before any trial starts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from search.study.spec import StudySpec
from search.study.validation import probes
from trainables.config import PluginModel, TrialConfig
from trainables.data.store import PreparedData, Request, request

if TYPE_CHECKING:
    from trainables.data.images import Splits

__all__ = ["check_inputs", "possible_configs"]


def possible_configs(spec: StudySpec) -> Iterator[TrialConfig]:
    """Configs that between them use every recipe and every option of every choice of the space."""
    for recipe in spec.recipes.values():
        yield spec.trial_config(recipe.config)
    for _, point in probes(spec.parsed_space):
        yield spec.trial_config(point.tree)


def check_inputs(spec: StudySpec, cache: Path) -> dict[Request, PreparedData]:
    """Prepare the images and fetch the pretrained weights that any trial may use; returns the stores of the images.

    Raises:
        ConfigError: if images or weights cannot be had; nothing has been started then.
    """
    configs = [config for config in possible_configs(spec) if config.model.is_network]
    if not configs:
        return {}
    from trainables.data.images import load_splits  # loads torch
    from trainables.models.pretrained import check_pretrained

    stores = {request(data): load_splits(data, cache).store for data in dict.fromkeys(c.data for c in configs)}
    for model in dict.fromkeys(config.model for config in configs):
        check_pretrained(model)
    for config in _one_of_each_plugin(configs):
        _try_plugin(config, load_splits(config.data, cache))
    return stores


def _one_of_each_plugin(configs: Iterable[TrialConfig]) -> Iterable[TrialConfig]:
    """A config of each plug-in's network, with and without what needs its stages, its head or pretrained weights."""
    return {
        (
            config.model.kind,
            config.model.pretrained,
            config.model.frozen_stages,
            config.optimizer.backbone_lr_ratio == 1,
        ): config
        for config in configs
        if isinstance(config.model, PluginModel)
    }.values()


def _try_plugin(config: TrialConfig, splits: Splits) -> None:
    from trainables.models import build_model
    from trainables.training.optim import build_optimizer

    side = config.data.resolution
    size = (side, side) if side else splits.train.size
    build_optimizer(config.optimizer, build_model(config.model, splits.store.num_classes, size))
