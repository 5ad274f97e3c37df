"""A first study for somebody's images: what they are decides network, objective, batch sizes and epochs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np

from search.study.parse import parse_study
from search.study.spec import StudySpec
from trainables.config import ConfigError, PluginModel, parse_config, parse_yaml
from trainables.config.plugins import allowing, is_dotted_path, plugin_names
from trainables.data.arrow import read_labels
from trainables.data.store import PreparedData

__all__ = ["starter_study"]

_SMALL = 64  # pixels a side up to which the networks of CIFAR are meant
_LONG, _SHORT = 27, 12  # epochs: from scratch, and from weights
# Learning rates to search: from scratch, and those that do not destroy what pretrained weights know.
_RATES = {"sgd": "0.02, 0.5", "adamw": "5e-4, 0.02"}
_FINE_TUNING_RATES = {"sgd": "1e-3, 0.1", "adamw": "1e-5, 1e-3"}
_FOR_SMALL = ("cifar_resnet", "wide_resnet")  # which see large ones at 64 pixels a side
_IMAGENET = (18, 34, 50, 101, 152)


class Starter(NamedTuple):
    """A study's YAML with comments, ready to be searched and to be edited, and what it says, parsed.

    `arguments` are those of an own network that it could search, too, where a line is no comment any more.
    """

    text: str
    spec: StudySpec
    arguments: tuple[str, ...]


def starter_study(
    store: PreparedData, source: str, name: str, file: Path, *, model: str | None = None, pretrained: str | None = None
) -> Starter:
    """A study for these images.

    Args:
        store: the images, prepared.
        source: what `data.source` is to be.
        name: the study's.
        file: where the text will be, for what its comments tell to type.
        model: `resnetN` with a depth, `wrn-DEPTH-WIDTH`, a ResNet of timm by its name, or a plug-in's kind; None: what
            suits the images.
        pretrained: what `model.pretrained` is to be; None: trained from scratch.

    Raises:
        ConfigError: if there is no such model, or the name is no folder's.
    """
    counts = np.bincount(read_labels(store.directory / "train.arrow"), minlength=store.num_classes)
    small = store.image_size is not None and max(store.image_size) <= _SMALL
    network = _network(model or ("resnet20" if small else "resnet50"), small)
    resolution = None if small else _SMALL if network["kind"] in _FOR_SMALL else _resolution(store)
    size = (resolution, resolution) if resolution else store.image_size
    if _is_plugin(network["kind"]):
        _try(network, store.num_classes, size)
    images, largest = store.counts["train"], 128 if small else 32
    searchable = {} if pretrained else _searchable(network, store.num_classes, size)
    if pretrained is not None:
        network["pretrained"] = pretrained
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined, autoescape=False,  # noqa: S701 (YAML; texts from outside are quoted)
    )  # fmt: skip
    text = environment.get_template("starter.yaml.j2").render(
        source=source, quoted=json.dumps(source), name=name, file=file, description=store.description,
        allowed=allowing(network["kind"]),
        model="{" + ", ".join(f"{key}: {json.dumps(value)}" for key, value in network.items()) + "}",
        stages=_stage_count(network) if pretrained else 0, pretrained=pretrained,
        called=network["kind"], searchable=", ".join(f"{name}: {text}" for name, text in searchable.items()),
        flip="false" if source == "digits" else "true",
        resolution=resolution,
        rates=_FINE_TUNING_RATES if pretrained else _RATES,
        ratio=counts.max() / max(counts.min(), 1), majority=counts.max() / counts.sum(),
        batches=[size for size in (largest // 4, largest // 2, largest) if size <= max(images // 10, largest // 4)],
        epochs=_SHORT if pretrained else _LONG,
    )  # fmt: skip
    return Starter(text + "\n", parse_study(parse_yaml(text, str(file))), tuple(searchable))


def _network(name: str, small: bool) -> dict[str, Any]:
    """The `model` section for `resnetN`, a family of its own by its depth, and for the other names of networks."""
    if _is_plugin(name):
        return {"kind": name}
    if wide := re.fullmatch(r"wrn-?(\d+)-(\d+)", name.lower()):
        return {"kind": "wide_resnet", "depth": int(wide[1]), "width": int(wide[2])}
    numbered = re.fullmatch(r"resnet-?(\d+)", name.lower())
    if numbered is None:
        return {"kind": "timm", "name": name, **({"small_images": True} if small else {})}
    depth = int(numbered[1])
    if depth in _IMAGENET:
        return {"kind": "torchvision_resnet", "depth": depth, **({"small_images": True} if small else {})}
    return {"kind": "cifar_resnet", "depth": depth}


def _is_plugin(kind: str) -> bool:
    return is_dotted_path(kind) or kind in plugin_names("model")


def _searchable(network: dict[str, Any], num_classes: int, size: tuple[int, int] | None) -> dict[str, str]:
    """Ranges around the defaults of an own network's numbers as YAML, where it takes all lower ends, and all upper."""
    model = parse_config({"model": network}).model
    if not isinstance(model, PluginModel):
        return {}
    ranges: dict[str, str] = {}
    lowest: dict[str, float] = {}
    highest: dict[str, float] = {}
    for name, default in model.settings.items():
        ends: tuple[float, float]
        if type(default) is int and default > 1:  # no switch: it may load weights
            ends = default // 2, 2 * default
            text = f"{{choice: [{ends[0]}, {default}, {ends[1]}]}}"
        elif isinstance(default, float) and default >= 0:
            ends = (default / 2, 2 * default) if default else (0.0, 0.5)
            text = f"{{float: [{ends[0]:g}, {ends[1]:g}]}}"
        else:
            continue
        low, high = lowest | {name: ends[0]}, highest | {name: ends[1]}
        if all(_takes(network | {"settings": at}, num_classes, size) for at in (low, high)):
            lowest, highest, ranges[name] = low, high, text
    return ranges


def _takes(network: dict[str, Any], num_classes: int, size: tuple[int, int] | None) -> bool:
    try:
        _try(network, num_classes, size)
    except ConfigError:
        return False
    return True


def _try(network: dict[str, Any], num_classes: int, size: tuple[int, int] | None) -> None:
    """Build a network of others once: what is wrong with it is told before a study is written."""
    from trainables.models import build_model  # loads torch

    build_model(parse_config({"model": {**network, "pretrained": "none"}}).model, num_classes, size)


def _stage_count(network: dict[str, Any]) -> int:
    from trainables.models.cost import stage_count  # loads torch

    return stage_count(parse_config({"model": {**network, "pretrained": "none"}}).model)


def _resolution(store: PreparedData) -> int:
    """Their own size where all are alike, at most ImageNet's 224 pixels."""
    return 224 if store.image_size is None else min(224, max(store.image_size))
