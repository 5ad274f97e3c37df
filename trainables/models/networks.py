"""From a model's config to its architecture: a ResNet, one of timm's networks, or what a plug-in builds."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from trainables.config import (
    CifarResNet,
    ConfigError,
    Model,
    PluginModel,
    TimmModel,
    TorchvisionResNet,
    WideResNet,
)
from trainables.config.arguments import arguments_of, called_with
from trainables.config.plugins import checked_settings, load_plugin, said
from trainables.models.protocol import describe
from trainables.models.resnet import cifar_resnet, torchvision_resnet
from trainables.models.timm_network import timm_network
from trainables.models.wide_resnet import wide_resnet

__all__ = ["REFUSALS", "build_network", "check_logits"]

REFUSALS = Exception  # what a network raises on images that it does not take: others' raise anything


def build_network(config: Model, num_classes: int) -> nn.Module:
    """The architecture alone, freshly initialized from torch's global generator: nothing loaded, nothing frozen.

    Raises:
        ConfigError: if the kind has no network, timm's lacks what is asked for, or a plug-in does not build one.
    """
    match config:
        case CifarResNet():
            return cifar_resnet(config, num_classes)
        case WideResNet():
            return wide_resnet(config, num_classes)
        case TorchvisionResNet():
            return torchvision_resnet(config, num_classes)
        case TimmModel():
            return timm_network(config, num_classes)
        case PluginModel():
            return _plugin_network(config, num_classes)
        case _:
            raise ConfigError.single("model.kind", config.kind, "must be a network: a synthetic curve is none")


def _plugin_network(config: PluginModel, num_classes: int) -> nn.Module:
    build: Any = load_plugin("model", config.kind)
    arguments = called_with(checked_settings(arguments_of(build), config.settings), num_classes)
    call = f"{config.kind.rpartition(':')[2]}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"
    try:
        model = build(**arguments)
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 (their code)
        rule = f"must build a network, and {call} fails: {said(error)}"
        raise ConfigError.single("model.kind", config.kind, rule) from None
    if not isinstance(model, nn.Module):
        rule = f"must build a torch.nn.Module, and {call} returned a {type(model).__name__}"
        raise ConfigError.single("model.kind", config.kind, rule)
    try:
        stages = build.stages(model) if hasattr(build, "stages") else ()
        head = build.head(model) if hasattr(build, "head") else None
    except Exception as error:  # noqa: BLE001 (their code)
        rule = f"stages(model) and head(model) must return modules of the network, and fail: {said(error)}"
        if isinstance(build, type):
            rule += "; if these methods are for something else, name a function that builds the network"
        raise ConfigError.single("model.kind", config.kind, rule) from None
    try:
        describe(model, stages, head, fusible=getattr(build, "fusible", False))
    except ValueError as error:
        raise ConfigError.single("model.kind", config.kind, f"stages(model) and head(model) {error}") from None
    return model


def check_logits(model: nn.Module, config: Model, num_classes: int, size: tuple[int, int]) -> None:
    """Try a network of others on two black images of `size` (height, width); ours and torchvision's need no trial.

    Raises:
        ConfigError: unless it takes them and returns logits [2, num_classes].
    """
    if not isinstance(config, PluginModel | TimmModel):
        return
    key, named = ("model.name", config.name) if isinstance(config, TimmModel) else ("model.kind", config.kind)
    model.eval()
    try:
        with torch.inference_mode():
            logits = model(torch.zeros(2, 3, *size))
    except REFUSALS as error:
        rule = f"must take images [b, 3, {size[0]}, {size[1]}], and fails on them ({said(error)})"
        raise ConfigError.single(key, named, rule) from None
    found = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if found != [2, num_classes]:
        rule = f"must return logits [b, {num_classes}], and returned {found} for b = 2"
        raise ConfigError.single(key, named, rule)
    model.train()
