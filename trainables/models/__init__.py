"""Networks: built, initialized or loaded, frozen."""

from __future__ import annotations

from torch import nn

from trainables.config import ConfigError, Model, TimmModel
from trainables.models.networks import build_network, check_logits
from trainables.models.pretrained import load_pretrained
from trainables.models.protocol import freeze, stages

__all__ = ["build_model"]


def build_model(config: Model, num_classes: int, size: tuple[int, int] | None = None) -> nn.Module:
    """The network a trial trains: initialized from torch's global generator, pretrained weights loaded, stages frozen.

    With `size`, the (height, width) of the images, a network of timm or of a plug-in is tried on images of that size.

    Raises:
        ConfigError: if the kind has no network, it does not fit the images or has fewer stages than are to be frozen,
            or the pretrained weights cannot be had or do not fit.
    """
    model = build_network(config, num_classes)
    if size is not None:
        check_logits(model, config, num_classes, size)
    if config.pretrained != "none":
        load_pretrained(model, config)
    if config.frozen_stages:
        found = len(stages(model))
        if config.frozen_stages > found:
            rule = f"must be at most {found}, the number of stages that the {config.label} declares by `stages(model)`"
            if isinstance(config, TimmModel):
                rule = f"must be at most {found}, the number of stages of {config.label}"
            raise ConfigError.single("model.frozen_stages", config.frozen_stages, rule)
        freeze(model, config.frozen_stages)
    return model
