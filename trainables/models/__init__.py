"""Networks: built, initialized or loaded, frozen."""

from __future__ import annotations

from trainables.config import CifarResNet, Model, TorchvisionResNet
from trainables.models.pretrained import load_pretrained
from trainables.models.resnet import StagedResNet, build_network

__all__ = ["build_model"]


def build_model(config: Model, num_classes: int) -> StagedResNet:
    """The network a trial trains: initialized from torch's global generator, pretrained weights loaded, stages frozen.

    Raises:
        ConfigError: if the kind has no network, or the pretrained weights cannot be had or do not fit.
    """
    model = build_network(config, num_classes)
    if isinstance(config, CifarResNet | TorchvisionResNet):
        if config.pretrained != "none":
            load_pretrained(model, config)
        model.freeze(config.frozen_stages)
    return model
