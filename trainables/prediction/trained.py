"""A checkpoint opened for use: the network that its metrics are of, its classes and its preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from trainables.checkpoints.checkpoint import config_of, load_checkpoint
from trainables.checkpoints.resume import translate_mismatch
from trainables.config import ConfigError, Data, Normalization, TrialConfig, validate
from trainables.data.decode import Square
from trainables.data.images import size_of
from trainables.data.store import default_cache, open_store
from trainables.models.trained import trained_network
from trainables.prediction.preprocessing import Preprocessing

__all__ = ["TrainedNetwork", "open_checkpoint"]

# What these sources' images have been in every version; other checkpoints of old ones do not say it.
_SIDES = {"cifar10": 32, "cifar100": 32, "digits": 8}


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network.

    Attributes:
        network: on the CPU, in eval mode, with the weights that the trial's metrics are of.
        config: it was trained with.
        class_names: by label.
        preprocessing: of its images.
        epoch: how many epochs it was trained.
        fingerprint: of its images; None where it is not known.
    """

    network: nn.Module
    config: TrialConfig
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    epoch: int
    fingerprint: str | None


def open_checkpoint(path: Path) -> TrainedNetwork:
    """Read a checkpoint that `trainables.train --checkpoint` or a search wrote.

    Raises:
        ConfigError: if it is none, is damaged or does not fit, or is of an older version and the size of its images
            cannot be found.
    """
    state = load_checkpoint(path)
    config = config_of(state)
    if not config.model.is_network:
        raise ConfigError.single("model.kind", config.model.kind, "must be a network: a synthetic curve has no weights")
    with translate_mismatch():
        class_names = tuple(state["class_names"])
        network = trained_network(config, state)
        preprocessing = Preprocessing(
            size=_image_size(state, config.data, path), decoding=config.data.decoding,
            normalization=validate(Normalization, state["normalization"]), resolution=config.data.resolution,
        )  # fmt: skip
    return TrainedNetwork(
        network.eval(), config, class_names, preprocessing, int(state["epoch"]), state.get("fingerprint")
    )


def _image_size(state: Mapping[str, Any], data: Data, path: Path) -> tuple[int, int]:
    """(height, width) of the images that were trained on, before `data.resolution` is applied to pixels."""
    if "image_size" in state:
        height, width = state["image_size"]
        return height, width
    if data.source in _SIDES:
        return _SIDES[data.source], _SIDES[data.source]
    store = open_store(default_cache(), state.get("fingerprint") or "")
    if store is not None:
        size = size_of(store, data)
        return (size.side, size.side) if isinstance(size, Square) else size
    if data.resolution is not None:
        return data.resolution, data.resolution
    rule = (
        "is of an older version, which does not say how large its images were: prepare them on this machine "
        f"(python -m trainables.evaluate {path}), or train it again"
    )
    raise ConfigError.single("checkpoint", str(path), rule)
