"""Weights fitted to a network: all of its trunk or nothing, its head where the classes agree, the rest named."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from trainables.checkpoints.checkpoint import is_dense
from trainables.config import ConfigError, Model
from trainables.data.source import listed
from trainables.models.encoders import Encoder, Tensors, candidates, chosen, group, mappings, nearest
from trainables.models.families import Family, family_of
from trainables.models.looks import looks_like
from trainables.models.protocol import head, head_name

__all__ = ["SETTING", "Loaded", "fitted"]

SETTING = "model.pretrained"
MOST_NAMED = 5  # of what was ignored

_NUMBERS = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32)
# Layers that follow an encoder and classify nothing.
_NO_CLASSIFIER = re.compile(r"proj|predict|prototype|mlp|queue|criterion|loss|center|decoder|momentum|target|student")


@dataclass(frozen=True)
class Loaded:
    """What was taken from a file, and what was not.

    Attributes:
        lines: two for people: what was loaded, from which part of the file; what was ignored and newly initialized.
        new: the names of the network's modules that keep their fresh weights.
        class_names: what the head's classes are called, by label; () if the file does not say.
    """

    lines: tuple[str, str]
    new: tuple[str, ...]
    class_names: tuple[str, ...] = ()


def fitted(content: object, file: Path, model: nn.Module, config: Model) -> tuple[Tensors, Loaded]:
    """The tensors of a file by the names of `model`.

    All of the trunk must be there. The head is among them if it has the model's number of classes. What else is in the
    file (projections, predictors, queues, a second encoder) is ignored, unless it looks like more of the trunk.

    Args:
        content: of the file.
        file: for the messages.
        model: may be on the meta device.
        config: of the model.

    Raises:
        ConfigError: if the file holds no such network, or several and nothing says which one.
    """
    there, wanted = list(mappings(content)), _trunk(model)
    found = [one for where, tensors in there for one in candidates(where, tensors, list(wanted))]
    faults = [_faults(one[1], model) if 2 * one[0] > len(wanted) else ["too little"] for one in found]
    encoders = chosen(found, list(wanted), {i: not fault for i, fault in enumerate(faults)})
    if not there:
        keys = f", in it: {', '.join(map(str, content))[:100]}" if isinstance(content, dict) and content else ""
        raise ConfigError.single(SETTING, config.pretrained, f"must hold a state dict, tensors by name: none{keys}")
    if len(encoders) > 1:
        raise _ambiguous(encoders, file, config)
    encoder = encoders[0] if encoders else nearest(found)
    if encoder is None or (misfit := _faults(encoder, model)):
        if encoder is not None and head_name(model) is None and (rule := _undeclared_head(encoder, model, config)):
            raise ConfigError.single(SETTING, config.pretrained, rule)
        raise _misfit(encoder, there, [] if encoder is None else misfit, model, config)
    parts = {part for where, tensors in there for name in (*where, *tensors) for part in name.split(".")}
    # Beside tensors a key may tell the family too, but not one that is there without content, such as `ema: None`.
    said = (
        [k for k, v in content.items() if v is not None and not isinstance(v, int)] if isinstance(content, dict) else []
    )
    family = family_of([*map(str, said), *parts])
    layers, used = _head(encoder, model, family)
    inside = encoder.inside()
    body = {name: inside[name] for name in wanted if name in inside}
    left = {encoder.prefix + name for name in body} | used
    others = [one.place for count, one in found if 2 * count > len(wanted) and one.path != encoder.path]
    name = head_name(model)
    new = (name,) if name is not None and not layers else ()
    first = f"weights: {len(left)} of {sum(len(tensors) for _, tensors in there)} tensors of {file.name} loaded"
    first += _origin(encoder, family, others) + _stored_as(body.values())
    second = f"weights: ignored {_ignored(encoder, left, there)}; newly initialized: {', '.join(new) or 'none'}"
    names = content.get("class_names") if isinstance(content, dict) else None
    named = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    return {**body, **layers}, Loaded((first, second), new, tuple(names) if named and names else ())


def _trunk(model: nn.Module) -> Tensors:
    name = head_name(model)
    return {key: value for key, value in model.state_dict().items() if name is None or not key.startswith(f"{name}.")}


def _faults(encoder: Encoder, model: nn.Module) -> list[str]:
    """What keeps the encoder from being the network's trunk, in words."""
    wanted, inside, name = _trunk(model), encoder.inside(), head_name(model)
    roots = {_root(key) for key in wanted}
    # In an nn.Sequential the head is a number like the trunk's modules, but no part of the trunk.
    last = model.state_dict().keys() - wanted.keys()
    own = [key for key in inside if key not in last and (name is None or _root(key) in roots)]
    shared = [key for key in wanted if key in inside]
    fitting = [key for key in shared if inside[key].shape == wanted[key].shape]
    other_shapes = [
        f"{key} {list(inside[key].shape)} for {list(wanted[key].shape)}" for key in shared if key not in fitting
    ]
    faults = {
        "missing": [key for key in wanted if key not in inside and not key.endswith("num_batches_tracked")],
        "unexpected": [key for key in own if key not in wanted and key != "n_averaged"],
        "of another shape": other_shapes,
        "not finite numbers": [key for key in fitting if not _is_finite(inside[key])],
    }
    return [f"{fault}: {listed(keys, 3)}" for fault, keys in faults.items() if keys]


def _root(name: str) -> str:
    """The module that a tensor is of, without its number: another `layer5` is more of the network."""
    return name.split(".")[0].rstrip("0123456789")


def _is_finite(tensor: Tensor) -> bool:
    return is_dense(tensor) and tensor.dtype in _NUMBERS and bool(tensor.isfinite().all())


def _head(encoder: Encoder, model: nn.Module, family: Family | None) -> tuple[Tensors, set[str]]:
    """The head's tensors by the model's names, none if the file has no classifier of as many classes.

    Also the names that they have in the encoder's mapping.
    """
    name, last, wanted = head_name(model), head(model), model.state_dict()
    if name is None:
        return {}, set()
    prefix = encoder.prefix + name
    if isinstance(last, nn.Linear) and not (family is not None and not family.classifies):
        prefix = _classifier(encoder, prefix, last.in_features) or prefix
    elif isinstance(last, nn.Linear):
        return {}, set()
    layers = {}
    for key in (key for key in wanted if key.startswith(f"{name}.")):
        tensor = encoder.tensors.get(prefix + key.removeprefix(name))
        if tensor is not None and tensor.shape == wanted[key].shape and _is_finite(tensor):
            layers[key] = tensor
        elif tensor is None and key.endswith("bias"):
            layers[key] = torch.zeros(wanted[key].shape)
        elif not key.endswith("num_batches_tracked"):
            return {}, set()
    return layers, {used for key in layers if (used := prefix + key.removeprefix(name)) in encoder.tensors}


def _classifier(encoder: Encoder, usual: str, features: int) -> str | None:
    """The name of the one linear layer that follows the encoder; None if there is none, or one that is no classifier.

    A head of several layers belongs to the pretraining.
    """
    matrices: dict[tuple[bool, str], list[str]] = {}
    with_encoder = set()
    for name, tensor in encoder.tensors.items():
        inside = name.startswith(encoder.prefix)
        root = inside, group(encoder, name.removeprefix(encoder.prefix) if inside else name, inside)
        if tensor.ndim > 2:
            with_encoder.add(root)
        if tensor.ndim == 2 and name.endswith("weight"):
            matrices.setdefault(root, []).append(name)
    single = [
        names[0].removesuffix(".weight")
        for root, names in matrices.items()
        if len(names) == 1 and encoder.tensors[names[0]].shape[1] == features
        and root not in with_encoder and not _NO_CLASSIFIER.search(names[0])
    ]  # fmt: skip
    return usual if usual in single else single[0] if len(single) == 1 else None


def _origin(encoder: Encoder, family: Family | None, others: list[str]) -> str:
    place = f", from {encoder.place}" if encoder.place else ""
    instead = f", not from {', '.join(others[:2])}" if others else ""
    return f"{place}{instead}{f' ({family.name})' if family is not None else ''}"


def _stored_as(tensors: Iterable[Tensor]) -> str:
    types = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors if tensor.is_floating_point()}
    return f", converted from {' and '.join(sorted(types))}" if types - {"float32"} else ""


def _ignored(encoder: Encoder, used: set[str], there: list[tuple[tuple[str, ...], Tensors]]) -> str:
    counts: Counter[str] = Counter()
    matrices: Counter[str] = Counter()
    for name, tensor in encoder.tensors.items():
        if name not in used:
            inside = name.startswith(encoder.prefix)
            root = group(encoder, name.removeprefix(encoder.prefix) if inside else name, inside)
            counts[root] += 1
            matrices[root] += inside and tensor.ndim == 2
    counts.update({" / ".join(where) or "the rest": len(tensors) for where, tensors in there if where != encoder.where})
    heads = {name: f", a head of {number} layers" for name, number in matrices.items() if number > 1}
    named = [
        f"{name} ({count} tensor{'s' * (count > 1)}{heads.get(name, '')})"
        for name, count in list(counts.items())[:MOST_NAMED]
    ]
    more = [f"{len(counts) - MOST_NAMED} more"] if len(counts) > MOST_NAMED else []
    return ", ".join([*named, *more]) or "nothing"


def _ambiguous(encoders: list[Encoder], file: Path, config: Model) -> ConfigError:
    places = ", ".join(encoder.place or "the file itself" for encoder in encoders[:4])
    one = encoders[0]
    keys = "".join(f"[{key!r}]" for key in one.where)
    line = f"import torch; w = torch.load({file.name!r}, weights_only=True){keys}; p = {one.prefix!r}; "
    line += "torch.save({k[len(p):]: v for k, v in w.items() if k.startswith(p)}, 'weights.pt')"
    rule = f"must hold one {config.label}, and holds {len(encoders)} that differ: {places}; save the one you mean: "
    return ConfigError.single(SETTING, config.pretrained, f'{rule}python -c "{line}"')


def _misfit(
    encoder: Encoder | None, there: list[tuple[tuple[str, ...], Tensors]], faults: list[str], model: nn.Module,
    config: Model,
) -> ConfigError:  # fmt: skip
    rule = f"must hold the weights of a {config.label}" + (f" ({'; '.join(faults)})" if faults else "")
    if encoder is not None and encoder.place:
        rule += f" in {encoder.place}"
    way_out = f"take others or set model.{config.architecture_keys} to match"
    if config.kind in ("cifar_resnet", "torchvision_resnet"):
        # Where the network's names are not, those of the largest mapping say what it is.
        inside = {} if encoder is None else encoder.inside()
        largest = max((tensors for _, tensors in there), key=len)
        words, settings = looks_like(_shapes(inside if "layer1.0.conv1.weight" in inside else largest))
        if settings == looks_like(_shapes(model.state_dict()))[1]:  # the right network, but not sound
            more = any(fault.startswith("unexpected") for fault in faults)
            way_out = "take others: it has layers that this network lacks" if more else "take others, or a whole copy"
        else:
            rule += f"; it holds {words}"
            way_out += f" ({settings})" if settings else ""
    return ConfigError.single(SETTING, config.pretrained, f"{rule}; {way_out}")


def _undeclared_head(encoder: Encoder, model: nn.Module, config: Model) -> str | None:
    """The rule for weights of other classes where a plug-in does not say which layer is the head; None for others."""
    inside, wanted = encoder.inside(), model.state_dict()
    both = [(key, inside[key].shape, wanted[key].shape) for key in wanted if key in inside]
    other = [(key, old, new) for key, old, new in both if old != new]
    if inside.keys() != wanted.keys() or not other:
        return None
    # A layer's outputs are the first dimension of its tensors. Were another layer behind it, that would differ, too.
    layer = other[0][0].rpartition(".")[0]
    is_last = isinstance(model.get_submodule(layer), nn.Linear | nn.Conv2d) and all(
        key.rpartition(".")[0] == layer and len(old) == len(new) and old[1:] == new[1:] for key, old, new in other
    )
    if not is_last:
        return None
    there, here = other[0][1][0], other[0][2][0]
    place = re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", f".{layer}")
    name = config.kind.partition(":")[2] or "build"
    method = f"`def head(self): return self{place}` in {name}"
    line = method if name == type(model).__name__ else f"`{name}.head = lambda network: network{place}`"
    return (
        f"fits but for the last layer, {layer} ({there} classes in the file, {here} here): declare it, so that it is "
        f"replaced, {line}; and in the same way `stages`, if freeze depth is to be searched (docs/models.md)"
    )


def _shapes(tensors: Tensors) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
