"""Validate the images and weights of a study before any trial starts."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from search.planning.batches import check_batches
from search.study.spec import StudySpec
from search.study.validation import probes
from trainables.config import ConfigError, PluginModel, Problem, TimmModel, TrialConfig
from trainables.data.store import PreparedData, Request, request

if TYPE_CHECKING:
    from trainables.data.images import Splits

__all__ = ["check_inputs", "check_weights", "coarse_stems", "configs_of", "possible_configs"]

NOT_OF_WEIGHTS = {"frozen_stages", "dropout", "zero_init_residual"}  # they change nothing in which weights fit


def possible_configs(spec: StudySpec) -> Iterator[TrialConfig]:
    """Configs that between them use every recipe and every option of every choice of the space, in each phase."""
    return chain.from_iterable(map(configs_of, spec.phases))


def configs_of(phase: StudySpec) -> Iterator[TrialConfig]:
    """`possible_configs` of one of a study's phases."""
    for name in phase.recipes:
        yield phase.trial_config(phase.recipe_config(name))
    for _, point in probes(phase.parsed_space):
        yield phase.trial_config(point.tree)


def check_inputs(spec: StudySpec, cache: Path) -> dict[Request, PreparedData]:
    """Prepare the images that any trial may use, and try networks of others on them; returns the stores of the images.

    Raises:
        ConfigError: if images cannot be had; nothing has been started then.
    """
    configs = [config for config in possible_configs(spec) if config.model.is_network]
    if not configs:
        return {}
    from trainables.data.images import load_splits  # loads torch

    stores = {request(data): load_splits(data, cache).store for data in dict.fromkeys(c.data for c in configs)}
    check_batches(spec, cache)
    for config in _one_of_each(configs):
        _try(config, load_splits(config.data, cache))
    return stores


def check_weights(spec: StudySpec, stores: Mapping[Request, PreparedData], cache: Path) -> tuple[str, ...]:
    """Fetch the pretrained weights that any trial may use; two lines for each file say what is loaded of it.

    Args:
        spec: the study.
        stores: as `check_inputs` returns them.
        cache: of prepared images.

    Raises:
        ConfigError: naming all weights that cannot be had or do not fit; nothing has been started then.
    """
    configs = [config for config in possible_configs(spec) if config.model.pretrained != "none"]
    if not configs:
        return ()
    from trainables.data.images import load_splits  # loads torch
    from trainables.training.weights import weights_lines

    one_of_each: dict[str, TrialConfig] = {}
    for config in configs:
        one_of_each.setdefault(config.model.model_dump_json(exclude=NOT_OF_WEIGHTS), config)
    lines: dict[str, None] = {}
    problems: list[Problem] = []
    for config in one_of_each.values():
        store = stores[request(config.data)]
        try:
            lines |= dict.fromkeys(weights_lines(config, load_splits(config.data, cache, store).train, store))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return tuple(lines)


def coarse_stems(spec: StudySpec, stores: Mapping[Request, PreparedData]) -> tuple[str, ...]:
    """A line for each network of a trial that leaves one pixel of the images; `stores` as `check_inputs` has them."""
    from trainables.models.cost import coarse_stem  # loads torch

    lines: dict[str, None] = {}
    for config in possible_configs(spec):
        size = stores[request(config.data)].image_size if config.model.is_network else None
        if size is not None and (line := coarse_stem(config, size)):
            lines[line] = None
    return tuple(lines)


def _one_of_each(configs: Iterable[TrialConfig]) -> Iterable[TrialConfig]:
    """A config of each network of a plug-in, with each of its settings, or timm, with and without all it may lack."""
    return {
        (
            config.model.kind,
            config.model.pretrained,
            config.model.frozen_stages,
            config.optimizer.backbone_lr_ratio == 1,
            _variant(config.model),
        ): config
        for config in configs
        if isinstance(config.model, PluginModel | TimmModel)
    }.values()


def _variant(model: PluginModel | TimmModel) -> Hashable:
    if isinstance(model, TimmModel):
        return model.name, model.small_images, model.dropout > 0, model.drop_path > 0
    return json.dumps(model.settings)


def _try(config: TrialConfig, splits: Splits) -> None:
    from trainables.models import build_model
    from trainables.training.optim import build_optimizer

    side = config.data.resolution
    size = (side, side) if side else splits.train.size
    build_optimizer(config.optimizer, build_model(config.model, splits.store.num_classes, size))
