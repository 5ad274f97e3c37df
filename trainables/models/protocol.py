"""What the program knows about a network beside its `forward`, whoever wrote it.

A network takes float images [b, 3, h, w] and returns logits [b, classes]. Whoever builds it may say which modules are
its stages and which is its head: freeze depth, the ratio of learning rates and pretrained weights for other classes
need them. They are recorded by name, so that they hold for copies, compiled and unpickled networks as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import nn

__all__ = ["Structure", "describe", "freeze", "head", "head_name", "is_fusible", "stages", "train_mode"]

_ATTRIBUTE = "resnet_search_structure"


@dataclass(frozen=True, slots=True)
class Structure:
    """The names of a network's modules by stage, from the input on, and of its head, which is in no stage.

    `fusible` promises that a forward pass draws no random numbers and that torch.vmap takes it, so that several trials
    can be trained as one (`trainables.training.fused`). `frozen` is how many stages are frozen.
    """

    stages: tuple[tuple[str, ...], ...] = ()
    head: str | None = None
    fusible: bool = False
    frozen: int = 0


def describe(
    model: nn.Module, stages: Iterable[Iterable[nn.Module]] = (), head: nn.Module | None = None, fusible: bool = False
) -> None:
    """Record what a network is made of.

    Raises:
        ValueError: if one of the modules is not part of the network.
    """
    names = {module: name for name, module in model.named_modules()}
    try:
        staged = tuple(tuple(names[module] for module in stage) for stage in stages)
        structure = Structure(staged, None if head is None else names[head], fusible)
    except KeyError as error:
        raise ValueError(f"must be modules of the network, and a {type(error.args[0]).__name__} is not") from None
    setattr(model, _ATTRIBUTE, structure)


def _structure(model: nn.Module) -> tuple[nn.Module, Structure]:
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    return model, getattr(model, _ATTRIBUTE, Structure())


def stages(model: nn.Module) -> list[list[nn.Module]]:
    """The modules of each stage, from the input on, the head left out; empty if the network has none."""
    model, structure = _structure(model)
    return [[model.get_submodule(name) for name in stage] for stage in structure.stages]


def head_name(model: nn.Module) -> str | None:
    """The name of the head in `model.named_modules()`; None if the network has none."""
    return _structure(model)[1].head


def head(model: nn.Module) -> nn.Module | None:
    """What makes logits of features; None if the network does not say."""
    model, structure = _structure(model)
    return None if structure.head is None else model.get_submodule(structure.head)


def is_fusible(model: nn.Module) -> bool:
    """Whether several such networks can be trained as one."""
    return _structure(model)[1].fusible


def freeze(model: nn.Module, count: int) -> None:
    """Fix the first `count` stages for good: they get no gradients, and `train_mode` leaves them in eval mode."""
    model, structure = _structure(model)
    setattr(model, _ATTRIBUTE, replace(structure, frozen=count))
    for stage in stages(model)[:count]:
        for module in stage:
            module.requires_grad_(False)
            module.eval()


def train_mode(model: nn.Module) -> None:
    """Switch all but the frozen stages to train mode, so that frozen batch norms keep their running statistics."""
    model.train()
    for stage in stages(model)[: _structure(model)[1].frozen]:
        for module in stage:
            module.eval()
