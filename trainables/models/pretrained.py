"""Pretrained weights: found, read safely, and fitted to a network whatever wrapper, prefix or head name they come with.

`torch.load(weights_only=True)` and `torch.hub` do the reading and the downloading; this module adds what they leave
open: which of a checkpoint's mappings holds the weights, what its names mean, whether they fit, and one clear error if
they do not.
"""

from __future__ import annotations

import socket
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainables.checkpoints.checkpoint import is_dense, read_tensors
from trainables.config import (
    ConfigError,
    Model,
    Normalization,
    PluginModel,
    Problem,
    TorchvisionResNet,
    validate,
)
from trainables.models.networks import build_network
from trainables.models.protocol import head, head_name

__all__ = ["IMAGENET", "check_pretrained", "download", "load_pretrained", "pretrained_normalization"]

IMAGENET = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
NETWORK_TIMEOUT = 30.0  # seconds without a byte after which a download fails

_PATH = "model.pretrained"
_WRAPPERS = ("ema", "model_ema", "state_dict", "model", "model_state_dict", "net")  # the first one present is taken

_NUMBERS = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32)


def check_pretrained(config: Model) -> None:
    """Make sure that every trial will find its weights: downloads published ones and fits them to the network.

    Allocates no network and needs no number of classes: a head that does not fit is replaced, and so no error. Only
    `build_model` can check the weights of a plug-in's network, whose head may be unknown.

    Raises:
        ConfigError: if the file is missing or holds no state dict that fits, or the weights cannot be downloaded.
    """
    if config.pretrained == "none" or isinstance(config, PluginModel):
        return
    with torch.device("meta"):
        model = build_network(config, num_classes=1)
    _fitted(_checkpoint(config), model, config)


def load_pretrained(model: nn.Module, config: Model) -> None:
    """Copy the weights that `config.pretrained` names into `model`, in place.

    Takes a bare state dict or one wrapped as `ema` (preferred), `state_dict` or `model`, with any common prefix of its
    names and any name of its head. The head is loaded if it has the model's number of classes; otherwise the model
    keeps its own fresh one.

    Raises:
        ConfigError: if the weights cannot be loaded or, the head aside, do not fit; it names the keys.
    """
    fitted = _fitted(_checkpoint(config), model, config)
    model.load_state_dict(fitted, strict=False)  # `_fitted` was strict already


def pretrained_normalization(config: Model) -> Normalization | None:
    """The normalization that the pretrained weights expect of their input; None without such weights.

    A checkpoint of ours records it, torchvision's weights carry it; other files are taken to be ImageNet's.

    Raises:
        ConfigError: if the file cannot be read, the record is malformed, or the published weights are unknown.
    """
    if config.pretrained == "none":
        return None
    if isinstance(config, TorchvisionResNet) and _is_published(config):
        preset = _published(config).transforms()
        return Normalization(mean=tuple(preset.mean), std=tuple(preset.std))
    checkpoint = _checkpoint(config)
    recorded = checkpoint.get("normalization") if isinstance(checkpoint, dict) else None
    if recorded is None:
        return IMAGENET
    try:
        return validate(Normalization, recorded)
    except ConfigError as error:
        raise ConfigError(
            Problem(f"{_PATH}: normalization.{found.path}", found.value, found.rule) for found in error.problems
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
        raise ConfigError.single(_PATH, url, f"must be downloadable ({error}): {way_out}") from None
    finally:
        socket.setdefaulttimeout(default)
    return path


def _published(config: TorchvisionResNet) -> Any:
    from torchvision.models import get_model_weights  # slow to import, and rarely needed

    name = config.pretrained.removeprefix("torchvision:")
    known = get_model_weights(f"resnet{config.depth}").__members__
    if name not in known:
        names = ", ".join(f"torchvision:{key}" for key in known)
        raise ConfigError.single(_PATH, config.pretrained, f"must be 'none', a path, or one of {names}")
    return known[name]


def _is_published(config: TorchvisionResNet) -> bool:
    return config.pretrained.startswith("torchvision:")


def _checkpoint(config: Model) -> object:
    if isinstance(config, TorchvisionResNet) and _is_published(config):
        return read_tensors(download(_published(config).url), _PATH)
    return read_tensors(Path(config.pretrained).expanduser(), _PATH)


def _state_dict(checkpoint: object, config: Model) -> dict[str, Tensor]:
    node = checkpoint
    for _ in _WRAPPERS:  # deeper than this is a cycle
        if not isinstance(node, dict) or not node:
            break
        if all(
            isinstance(key, str) and isinstance(value, Tensor) and not value.is_nested for key, value in node.items()
        ):
            return dict(node)
        node = next((node[key] for key in _WRAPPERS if isinstance(node.get(key), dict) and node[key]), None)
    rule = f"must hold a state dict, bare or under one of {', '.join(_WRAPPERS)}: there is none"
    raise ConfigError.single(_PATH, config.pretrained, rule)


def _with_plain_names(weights: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The weights without a prefix that all names share, and with the model's name for the head."""
    known, last, name = model.state_dict(), head(model), head_name(model)
    body = [key for key in known if name is None or not key.startswith(f"{name}.")]
    first = next((key for key in body if key.endswith("weight")), None)
    stems = {key.removesuffix(first) for key in weights if key.endswith(first)} if first else set()
    # Several names may end like the first one: `conv1.weight` is a stem's and each block's.
    prefix = min(stems, key=lambda stem: (-sum(stem + key in weights for key in body), len(stem), stem), default="")
    named = {key.removeprefix(prefix): value for key, value in weights.items()}
    named.pop("n_averaged", None)  # of torch.optim.swa_utils.AveragedModel
    if not isinstance(last, nn.Linear) or f"{name}.weight" in named:
        return named
    heads = [
        key.removesuffix("weight")
        for key, value in named.items()
        if key not in known and key.endswith("weight") and value.ndim == 2 and value.shape[1] == last.in_features
    ]
    if len(heads) == 1:
        for part in ("weight", "bias"):
            if heads[0] + part in named:
                named[f"{name}.{part}"] = named.pop(heads[0] + part)
    return named


def _fitted(checkpoint: object, model: nn.Module, config: Model) -> dict[str, Tensor]:
    wanted, name = model.state_dict(), head_name(model)
    found = _with_plain_names(_state_dict(checkpoint, config), model)
    of_head = [key for key in wanted if name is not None and key.startswith(f"{name}.")]
    sized = [key for key in of_head if key.endswith("weight")]  # whose shapes depend on the number of classes
    if all(key in found and found[key].shape == wanted[key].shape for key in sized):
        found = {**{key: torch.zeros(wanted[key].shape) for key in of_head if key.endswith("bias")}, **found}
    else:
        found = {key: value for key, value in found.items() if key not in of_head}
    optional = {key for key in wanted if key.endswith("num_batches_tracked") or key in of_head}
    shared = [key for key in wanted if key in found]
    fitting = [key for key in shared if found[key].shape == wanted[key].shape]
    faults = {
        "missing": [key for key in wanted if key not in found and key not in optional],
        "unexpected": [key for key in found if key not in wanted],
        "of another shape": [
            f"{key} {list(found[key].shape)} for {list(wanted[key].shape)}" for key in shared if key not in fitting
        ],
        "not finite numbers": [key for key in fitting if not _is_finite(found[key])],
    }
    if any(faults.values()):
        listed = "; ".join(f"{fault}: {_first(keys)}" for fault, keys in faults.items() if keys)
        way_out = f"take others or set model.{config.architecture_keys} to match"
        rule = f"must hold the weights of a {config.label} ({listed}); {way_out}"
        raise ConfigError.single(_PATH, config.pretrained, rule)
    return found


def _is_finite(tensor: Tensor) -> bool:
    return is_dense(tensor) and tensor.dtype in _NUMBERS and bool(tensor.isfinite().all())


def _first(keys: list[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(keys[:3]) + more
