"""`Model`: the union of the networks that a trial may train, by their `kind`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from trainables.config.network import CifarResNet, PluginModel, SyntheticCurve, TorchvisionResNet
from trainables.config.plugins import is_dotted_path, is_recorded, plugin_names
from trainables.config.timm_model import TimmModel
from trainables.config.wide_resnet import WideResNet

__all__ = ["Model", "architecture"]

_KINDS, _PLUGIN = ("cifar_resnet", "wide_resnet", "torchvision_resnet", "timm", "synthetic"), "plugin"


def _member(tree: object) -> str | None:
    """The tag of the union's member that `tree` is for; one that there is not for an unknown kind."""
    kind = tree.get("kind") if isinstance(tree, Mapping) else getattr(tree, "kind", None)
    if kind is None:
        return None
    if kind in _KINDS or not isinstance(kind, str):
        return str(kind)
    return _PLUGIN if is_dotted_path(kind) or is_recorded(kind) or kind in plugin_names("model") else kind


Model = Annotated[
    Annotated[CifarResNet, Tag("cifar_resnet")]
    | Annotated[WideResNet, Tag("wide_resnet")]
    | Annotated[TorchvisionResNet, Tag("torchvision_resnet")]
    | Annotated[TimmModel, Tag("timm")]
    | Annotated[SyntheticCurve, Tag("synthetic")]
    | Annotated[PluginModel, Tag(_PLUGIN)],
    Discriminator(_member),
]

# Settings that change neither a network's layers nor the size of what goes through them.
_OTHERS: dict[str, Any] = {
    "pretrained": "none", "frozen_stages": 0, "dropout": 0.0, "drop_path": 0.0, "zero_init_residual": False,
}  # fmt: skip


def architecture(model: Model) -> Model:
    """The model with nothing set that changes neither how large a network is nor what a forward pass of it costs."""
    return model.model_copy(update={key: value for key, value in _OTHERS.items() if key in type(model).model_fields})
