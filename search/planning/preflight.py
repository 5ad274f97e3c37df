"""Validate the images and weights of a study before any trial starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from search.study.spec import StudySpec
from search.study.validation import probes
from trainables.config import TrialConfig
from trainables.data.store import PreparedData, Request, request

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
    return stores
