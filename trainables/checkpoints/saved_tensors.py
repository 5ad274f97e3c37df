"""Whether what a checkpoint holds can be continued: its tensors, before any of them is taken over.

torch checks the names and shapes of a model's weights, and no more: an optimizer takes momentum of another shape, and
fails steps later or broadcasts it; another weight decay replaces the config's in silence.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from trainables.checkpoints.saved_state import check_float, check_keys, check_whole, refusal

__all__ = ["check_optimizer", "check_random_stream", "check_tensor", "check_tensors", "is_dense"]


def is_dense(tensor: Tensor) -> bool:
    """Whether every number of the tensor lies in memory, as in whatever is trained; a file may hold others."""
    return not tensor.is_nested and tensor.layout == torch.strided and not tensor.is_meta


def _form(tensor: Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}".removeprefix("torch.")


def _shown(value: object) -> object:
    if not isinstance(value, Tensor):
        return value
    return _form(value) if is_dense(value) else "a tensor that is not dense"


def check_tensor(found: object, wanted: Tensor, name: str) -> Tensor:
    """`found` as a dense tensor with the shape and dtype of `wanted`.

    Raises:
        ConfigError: if it is none.
    """
    if not isinstance(found, Tensor) or not is_dense(found) or _form(found) != _form(wanted):
        raise refusal(name, _shown(found), f"must be a dense tensor, {_form(wanted)}")
    return found.detach()


def check_tensors(found: object, wanted: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """`found` as a state dict with exactly the names, shapes and dtypes of `wanted`.

    Raises:
        ConfigError: naming the first tensor that does not fit.
    """
    plain = check_keys(found, list(wanted), name)
    unknown = next((key for key in plain if key not in wanted), None)
    if unknown is not None:
        raise refusal(name, unknown, "must have the model's names only")
    return {key: check_tensor(plain[key], tensor, f"{name}.{key}") for key, tensor in wanted.items()}


def check_optimizer(found: object, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """`found` as a state of this optimizer: its settings but for `lr`, and tensors that fit its parameters.

    Raises:
        ConfigError: naming what does not fit.
    """
    plain = check_keys(found, ["state", "param_groups"], "optimizer")
    groups, own = plain["param_groups"], optimizer.state_dict()["param_groups"]
    if type(groups) is not list or len(groups) != len(own):
        raise refusal("optimizer.param_groups", groups, f"must be a list of {len(own)}")
    for number, (group, wanted) in enumerate(zip(groups, own, strict=True)):
        name = f"optimizer.param_groups.{number}"
        # What another version of torch has more or less of is no difference: the optimizer keeps its own.
        group = check_keys(group, ["params", "lr"], name)
        for key in wanted.keys() & group.keys() - {"lr"}:
            if not _equal(group[key], wanted[key]):
                raise refusal(f"{name}.{key}", _shown(group[key]), f"must be {_short(wanted[key])}, as the config says")
        wanted["lr"] = check_float(group["lr"], f"{name}.lr")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    entry, state = _entry(optimizer), dict[int, dict[str, Any]]()
    for index, found_entry in check_keys(plain["state"], [], "optimizer.state").items():
        name = f"optimizer.state.{index}"
        parameter = parameters[check_whole(index, name, 0, len(parameters) - 1)]
        saved = check_keys(found_entry, list(entry), name)
        for key, one in entry.items():
            if isinstance(one, Tensor):
                shape = one.shape if one.dim() == 0 else parameter.shape
                check_tensor(saved[key], torch.empty(shape, dtype=one.dtype, device="meta"), f"{name}.{key}")
            elif saved[key] is not None:
                raise refusal(f"{name}.{key}", _shown(saved[key]), "must be null")
        state[int(index)] = {key: saved[key] for key in entry}
    return {"state": state, "param_groups": own}


def _entry(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What an optimizer of this kind keeps of a parameter with one dimension, after a step."""
    parameter = torch.zeros(2, requires_grad=True)
    parameter.grad = torch.zeros(2)
    kind = type(optimizer)
    settings = inspect.signature(kind).parameters  # AdamW has a default that it does not take
    probe = kind([parameter], **{key: value for key, value in optimizer.defaults.items() if key in settings})
    probe.step()
    return dict(probe.state[parameter])


def _equal(found: object, wanted: object) -> bool:
    """Whether settings are equal: scalars, or lists and tuples of scalars."""
    if type(found) is not type(wanted):
        return False
    if isinstance(found, list | tuple) and isinstance(wanted, list | tuple):
        return len(found) == len(wanted) and all(map(_equal, found, wanted))
    return found == wanted


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def check_random_stream(found: object, name: str) -> Tensor:
    """`found` as the state of a CPU generator.

    Raises:
        ConfigError: if it is none.
    """
    stream = check_tensor(found, torch.Generator().get_state(), name)
    try:
        torch.Generator().set_state(stream)
    except RuntimeError:
        raise refusal(name, _shown(stream), "must be the state of a random generator") from None
    return stream
