"""Networks of timm, told apart into stages and a head by what timm itself says about them.

The stages are those of timm's `group_matcher(coarse=True)`, by which it gives layers rates by depth; the head is its
`get_classifier()`. What lies between the last stage and the head (a norm, a convolution) belongs to that stage. A
network with weights outside of both, such as the position embedding of a transformer, has no stages here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from trainables.config import ConfigError, Normalization, TimmModel
from trainables.models.protocol import describe

__all__ = ["published_normalization", "published_weights", "timm_network"]


def timm_network(config: TimmModel, num_classes: int) -> nn.Module:
    """The architecture of a `TimmModel`, freshly initialized.

    Raises:
        ConfigError: if it has no dropout, stochastic depth or stem of the kind that is asked for.
    """
    import timm  # takes seconds, and the other networks do without

    rates = {"drop_rate": config.dropout, "drop_path_rate": config.drop_path}
    asked: dict[str, Any] = {key: rate for key, rate in rates.items() if rate}
    try:
        model: Any = timm.create_model(config.name, num_classes=num_classes, **asked)
    except TypeError as error:
        refused = re.search("drop_(path_)?rate", str(error))
        if refused is None:
            raise
        key = "model.drop_path" if refused[1] else "model.dropout"
        rule = f"must be 0: timm's {config.name} takes no {refused[0]}"
        raise ConfigError.single(key, rates[refused[0]], rule) from None
    if config.small_images:
        _keep_size(model, config)
    head = model.get_classifier()
    if isinstance(head, nn.Module) and list(head.parameters()):  # some have two, or one that is a function
        fusible = _is_resnet(model) and not asked
        describe(model, _stages(model, head), head, fusible=fusible)
    network: nn.Module = model
    return network


def published_weights(config: TimmModel) -> dict[str, Tensor]:
    """The state dict that timm publishes for a network, its head of the classes that it was trained for.

    timm downloads it, once, into the cache of the Hugging Face Hub.

    Raises:
        ConfigError: if it is not in the cache and cannot be downloaded.
    """
    import timm

    name = _published_name(config)
    try:
        weights: dict[str, Tensor] = timm.create_model(name, pretrained=True).state_dict()
    except (OSError, RuntimeError, ValueError) as error:
        first = str(error).partition("\n")[0][:200]
        saved = f"torch.save(timm.create_model({name!r}, pretrained=True).state_dict(), 'weights.pt')"
        rule = f"must be downloadable ({first}): where there is a network, {saved}, and give the path of that file"
        raise ConfigError.single("model.pretrained", config.pretrained, rule) from None
    return weights


def published_normalization(config: TimmModel) -> Normalization | None:
    """The normalization that timm's published weights of a network expect; None if it publishes none."""
    from timm.models import get_pretrained_cfg

    found = get_pretrained_cfg(_published_name(config))
    return None if found is None else Normalization.model_validate({"mean": found.mean, "std": found.std})


def _published_name(config: TimmModel) -> str:
    publisher, _, tag = config.pretrained.partition(":")
    return f"{config.name}.{tag}" if publisher == "timm" and tag else config.name


def _is_resnet(model: nn.Module) -> bool:
    from timm.models.resnet import ResNet

    return isinstance(model, ResNet)


def _stages(model: Any, head: nn.Module) -> list[list[nn.Module]]:
    """The largest modules that lie in one stage each, from the input on; none if some weight is outside of them all."""
    from timm.models import group_modules

    numbers: dict[str, int] = group_modules(model, model.group_matcher(coarse=True), reverse=True)
    of_head = set(head.modules())
    # timm puts what matches no stage into one group with the head.
    last = min(number for name, number in numbers.items() if model.get_submodule(name) in of_head) - 1
    stage_of = {name: min(n, last) for name, n in numbers.items() if model.get_submodule(name) not in of_head}
    found: dict[int, list[nn.Module]] = {}
    for number, module in _whole("", model, stage_of, head):
        found.setdefault(number, []).append(module)
    staged = [module for stage in found.values() for module in stage]
    covered = {parameter for module in [*staged, head] for parameter in module.parameters()}
    return [found[number] for number in sorted(found)] if covered == set(model.parameters()) else []


def _whole(name: str, module: nn.Module, stage_of: dict[str, int], head: nn.Module) -> Iterator[tuple[int, nn.Module]]:
    prefix = f"{name}." if name else ""
    inside = {number for other, number in stage_of.items() if other == name or other.startswith(prefix)}
    if len(inside) == 1 and head not in module.modules():
        yield inside.pop(), module
    else:
        for child, below in module.named_children():
            yield from _whole(prefix + child, below, stage_of, head)


def _keep_size(model: Any, config: TimmModel) -> None:
    """Let a ResNet's stem keep the size of its images."""
    from timm.models.resnetv2 import ResNetV2

    stem: nn.Module = model
    if isinstance(model, ResNetV2):
        stem, names = model.stem, [name for name, _ in model.stem.named_children()]
    elif _is_resnet(model):
        names = ["conv1", "maxpool"]
    else:
        rule = f"must be false: {config.name} of timm is no ResNet, and has a stem of another kind"
        raise ConfigError.single("model.small_images", True, rule)
    for name in names:
        setattr(stem, name, _without_stride(stem.get_submodule(name)))


def _without_stride(module: nn.Module) -> nn.Module:
    """A part of a stem as it keeps the size of its input: a 7x7 convolution becomes a 3x3 one, pooling nothing."""
    if isinstance(module, nn.Conv2d) and module.kernel_size == (7, 7):
        smaller = type(module)(module.in_channels, module.out_channels, 3, padding=1, bias=module.bias is not None)
        nn.init.kaiming_normal_(smaller.weight, mode="fan_out", nonlinearity="relu")
        return smaller
    if not list(module.parameters()):
        return nn.Identity()
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            part.stride = (1, 1)
    return module
