"""Pretrained weights: found or downloaded, checked before a trial starts, and loaded into a network.

What a file holds is decided in `fitting.py`; this module says where files are and what the program does with them.
"""

from __future__ import annotations

import socket
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainables.checkpoints.checkpoint import is_checkpoint
from trainables.checkpoints.weights_file import read_weights
from trainables.config import (
    ConfigError,
    Model,
    Normalization,
    PluginModel,
    Problem,
    TimmModel,
    TorchvisionResNet,
    validate,
)
from trainables.config.network import is_published
from trainables.data.images import Images
from trainables.models.fitting import SETTING, Loaded, fitted
from trainables.models.input_scale import IMAGENET, InputScale, measured_scale
from trainables.models.networks import build_network
from trainables.models.timm_network import published_normalization, published_weights

__all__ = [
    "IMAGENET", "InputScale", "Loaded", "check_pretrained", "download", "load_pretrained", "pretrained_scale",
]  # fmt: skip

LOOKED_AT = 64  # images, to find how weights want their input scaled
NETWORK_TIMEOUT = 30.0  # seconds without a byte after which a download fails


def check_pretrained(config: Model, num_classes: int | None = None) -> Loaded | None:
    """Make sure that every trial will find its weights: downloads published ones and fits them to the network.

    Says what would be loaded, None without weights. Without `num_classes` a head is taken to be of other classes; the
    weights of a plug-in's network, which may not allow that, are then left to `build_model`.

    Raises:
        ConfigError: if the file is missing or holds no weights that fit, or they cannot be downloaded.
    """
    is_plugin = isinstance(config, PluginModel)
    if config.pretrained == "none" or (is_plugin and num_classes is None):
        return None
    with torch.device("cpu" if is_plugin else "meta"):
        model = build_network(config, num_classes or 1)
    return fitted(*_checkpoint(config), model, config)[1]


def load_pretrained(model: nn.Module, config: Model) -> Loaded:
    """Copy the weights that `config.pretrained` names into `model`, in place; see `fitting.fitted`.

    Raises:
        ConfigError: if the weights cannot be loaded or, the head aside, do not fit; it names the keys.
    """
    weights, loaded = fitted(*_checkpoint(config), model, config)
    model.load_state_dict(weights, strict=False)  # `fitted` was strict already
    return loaded


def pretrained_scale(config: Model, images: Images, own: Normalization) -> InputScale | None:
    """How the pretrained weights expect their input to be scaled; None without such weights.

    A checkpoint of ours records it, torchvision's and timm's weights carry it; of other files it is measured on the
    images. Those that remember nothing of their input (group norm, a plug-in's network) are taken to expect ImageNet's.

    Args:
        config: of the network.
        images: of the training split; the first few are looked at.
        own: the statistics of all of them.

    Raises:
        ConfigError: if the file cannot be read, the record is malformed, or the published weights are unknown.
    """
    if config.pretrained == "none":
        return None
    if isinstance(config, TorchvisionResNet) and is_published(config.pretrained):
        preset = _published(config).transforms()
        published = Normalization(mean=tuple(preset.mean), std=tuple(preset.std))
        return InputScale(published, "the mean and std that torchvision publishes with them")
    of_timm = published_normalization(config) if isinstance(config, TimmModel) else None
    if of_timm is not None and is_published(config.pretrained):
        return InputScale(of_timm, "the mean and std that timm publishes with them")
    checkpoint, file = _checkpoint(config)
    recorded = checkpoint.get("normalization") if isinstance(checkpoint, dict) else None
    if recorded is not None:
        return InputScale(_recorded(recorded), "the mean and std that the file records")
    measured, pixels = None, images.batch(torch.arange(min(LOOKED_AT, len(images))))
    if not isinstance(config, PluginModel):
        with torch.device("meta"):
            model = build_network(config, 1)
        measured = measured_scale(model, fitted(checkpoint, file, model, config)[0], pixels, own, config.native_side)
    if measured is None and of_timm is not None:
        return InputScale(of_timm, "the mean and std of timm's own weights, assumed: it remembers nothing of its input")
    return measured or InputScale(IMAGENET, "ImageNet's mean and std, assumed: it remembers nothing of its input")


def _recorded(tree: object) -> Normalization:
    try:
        return validate(Normalization, tree)
    except ConfigError as error:
        raise ConfigError(
            Problem(f"{SETTING}: normalization.{found.path}", found.value, found.rule) for found in error.problems
        ) from None


def download(url: str) -> Path:
    """The local copy of published weights, fetched once into torch's cache (`$TORCH_HOME/hub/checkpoints`).

    The file is checked against the hash in its name and appears whole or not at all.

    Raises:
        ConfigError: if there is no copy and it cannot be downloaded, saying where to put one by hand.
    """
    name = url.rpartition("/")[2]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / name
    if path.is_file():
        return path
    default = socket.getdefaulttimeout()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        socket.setdefaulttimeout(NETWORK_TIMEOUT)  # torch.hub has no timeout of its own and would wait forever
        torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rpartition("-")[2], progress=False)
    except (OSError, RuntimeError, HTTPException) as error:
        way_out = f"put the file at {path}, or give the path of weights you have"
        raise ConfigError.single(SETTING, url, f"must be downloadable ({error}): {way_out}") from None
    finally:
        socket.setdefaulttimeout(default)
    return path


def _published(config: TorchvisionResNet) -> Any:
    from torchvision.models import get_model_weights  # slow to import, and rarely needed

    name = config.pretrained.removeprefix("torchvision:")
    known = get_model_weights(config.torchvision_name).__members__
    if name not in known:
        names = ", ".join(f"torchvision:{key}" for key in known)
        raise ConfigError.single(SETTING, config.pretrained, f"must be 'none', a path, or one of {names}")
    return known[name]


def _checkpoint(config: Model) -> tuple[object, Path]:
    """The content of the file that holds the weights, and the file."""
    if isinstance(config, TorchvisionResNet) and is_published(config.pretrained):
        return read_weights(download(_published(config).url), SETTING)
    if isinstance(config, TimmModel) and is_published(config.pretrained):
        return published_weights(config), Path(config.pretrained)
    content, file = read_weights(Path(config.pretrained).expanduser(), SETTING)
    if is_checkpoint(content):  # of a run with patience that has not ended, whose best weights are not its weights yet
        content = {key: value for key, value in content.items() if key != "best"}
    return content, file
