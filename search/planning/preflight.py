"""Validate the images and weights of a study before any trial starts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from search.planning.batches import check_batches
from search.study.spec import StudySpec
from search.study.validation import probes
from trainables.config import PluginModel, TrialConfig
from trainables.config.trial import coarse_stem
from trainables.data.store import PreparedData, Request, request

if TYPE_CHECKING:
    from trainables.data.images import Splits

__all__ = ["check_inputs", "check_weights", "coarse_stems", "possible_configs"]


def possible_configs(spec: StudySpec) -> Iterator[TrialConfig]:
    """Configs that between them use every recipe and every option of every choice of the space."""
    for recipe in spec.recipes.values():
        yield spec.trial_config(recipe.config)
    for _, point in probes(spec.parsed_space):
        yield spec.trial_config(point.tree)


def check_inputs(spec: StudySpec, cache: Path) -> dict[Request, PreparedData]:
    """Prepare the images that any trial may use, and try plug-ins' networks on them; returns the stores of the images.

    Raises:
        ConfigError: if images cannot be had; nothing has been started then.
    """
    configs = [config for config in possible_configs(spec) if config.model.is_network]
    if not configs:
        return {}
    from trainables.data.images import load_splits  # loads torch

    stores = {request(data): load_splits(data, cache).store for data in dict.fromkeys(c.data for c in configs)}
    check_batches(spec, cache)
    for config in _one_of_each_plugin(configs):
        _try_plugin(config, load_splits(config.data, cache))
    return stores


def check_weights(spec: StudySpec, stores: Mapping[Request, PreparedData]) -> tuple[str, ...]:
    """Fetch the pretrained weights that any trial may use; two lines for each file say what is loaded of it.

    Args:
        spec: the study.
        stores: as `check_inputs` returns them.

    Raises:
        ConfigError: if weights cannot be had or do not fit; nothing has been started then.
    """
    configs = [config for config in possible_configs(spec) if config.model.pretrained != "none"]
    if not configs:
        return ()
    from trainables.models.pretrained import check_pretrained  # loads torch

    lines: dict[str, None] = {}
    unfrozen = ((c.model.model_copy(update={"frozen_stages": 0}), stores[request(c.data)].num_classes) for c in configs)
    for model, classes in dict.fromkeys(unfrozen):
        loaded = check_pretrained(model, classes)
        lines |= dict.fromkeys(() if loaded is None else loaded.lines)
    return tuple(lines)


def coarse_stems(spec: StudySpec, stores: Mapping[Request, PreparedData]) -> tuple[str, ...]:
    """A line for each network of a trial that leaves one pixel of the images; `stores` as `check_inputs` has them."""
    lines: dict[str, None] = {}
    for config in possible_configs(spec):
        size = stores[request(config.data)].image_size if config.model.is_network else None
        if size is not None and (line := coarse_stem(config, size)):
            lines[line] = None
    return tuple(lines)


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
