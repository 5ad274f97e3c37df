"""Optimizers and learning rates.

The rules are torch's own; what it lacks is the form. A schedule here is a pure function of the step and the validation
history, so that a resumed, shortened or replayed trial needs no scheduler state: torch's schedulers are stateful, and
its ReduceLROnPlateau cannot be replayed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from trainables.config import (
    LAMB,
    SGD,
    WSD,
    Adam,
    AdamW,
    ConfigError,
    Constant,
    Cosine,
    Cyclic,
    Lion,
    Muon,
    NAdamW,
    OneCycle,
    Optimizer,
    Plateau,
    RMSprop,
    Schedule,
    Step,
)
from trainables.models.protocol import head

__all__ = ["build_optimizer", "load_optimizer", "lr_at", "momentum_at", "set_rates"]

PLATEAU_THRESHOLD = 1e-4  # the relative improvement that counts, ReduceLROnPlateau's default


def build_optimizer(config: Optimizer, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a model of `build_model`, whose frozen parameters it leaves out.

    Its groups come in a fixed order, empty ones left out: backbone then head, and in each what is decayed then what is
    not (biases and one-dimensional parameters, unless `decay_norm_and_bias`). Each carries `lr_ratio`: a step's
    learning rate is `lr_at(...)` times that. A network that does not say which its head is has no backbone either.

    Raises:
        ConfigError: if the backbone is to learn at another rate than the head, and the network has no head.
    """
    last = head(model)
    if last is None and config.backbone_lr_ratio != 1:
        rule = "must be 1 for a plug-in's network that does not declare its `head(model)`"
        raise ConfigError.single("optimizer.backbone_lr_ratio", config.backbone_lr_ratio, rule)
    head_parameters = {id(parameter) for parameter in (last or model).parameters()}
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {
        (part, decayed): [] for part in ("backbone", "head") for decayed in (True, False)
    }
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decayed = config.decay_norm_and_bias or not (parameter.ndim <= 1 or name.endswith("bias"))
            groups["head" if id(parameter) in head_parameters else "backbone", decayed].append(parameter)
    settings: list[dict[str, Any]] = []
    for (part, decayed), parameters in groups.items():
        if parameters:
            ratio = config.backbone_lr_ratio if part == "backbone" else 1.0
            decay = config.weight_decay if decayed else 0.0
            settings.append(
                {"params": parameters, "lr": config.lr * ratio, "lr_ratio": ratio, "weight_decay": decay, "name": part}
            )
    # Fused and foreach compute the same numbers as the plain loop, in one kernel a group: on CPU 5 times as fast.
    match config:
        case SGD():
            return torch.optim.SGD(
                settings, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=True
            )
        case Adam():
            betas = (config.beta1, config.beta2)
            return torch.optim.Adam(settings, lr=config.lr, betas=betas, eps=config.eps, fused=True)
        case AdamW():
            betas = (config.beta1, config.beta2)
            return torch.optim.AdamW(settings, lr=config.lr, betas=betas, eps=config.eps, fused=True)
        case RMSprop():
            return torch.optim.RMSprop(
                settings, lr=config.lr, alpha=config.alpha, eps=config.eps, momentum=config.momentum, foreach=True
            )
        case NAdamW():
            betas = (config.beta1, config.beta2)
            return torch.optim.NAdam(
                settings, lr=config.lr, betas=betas, eps=config.eps, decoupled_weight_decay=True, foreach=True
            )
        case LAMB() | Lion() | Muon():
            return _of_timm(config, settings)


def _of_timm(config: LAMB | Lion | Muon, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    import timm.optim  # takes seconds, and the other optimizers do without

    match config:
        case LAMB():
            betas = (config.beta1, config.beta2)
            return timm.optim.lamb.Lamb(groups, lr=config.lr, betas=betas, eps=config.eps, max_grad_norm=None)
        case Lion():
            return timm.optim.lion.Lion(groups, lr=config.lr, betas=(config.beta1, config.beta2))
        case Muon():
            of_two = len({group["name"] for group in groups}) > 1  # a network that names no head has one group for all
            for group in groups:
                group["use_fallback"] = of_two and group["name"] == "head"
            return timm.optim.muon.Muon(groups, lr=config.lr, momentum=config.momentum, nesterov=True)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Continue from `state`, the `state_dict` of an optimizer with the same settings.

    torch compares the number of parameters but not their shapes: momentum of another parameter would be broadcast, or
    fail steps later.

    Raises:
        ValueError: if the state is that of other parameters.
    """
    optimizer.load_state_dict(state)
    for parameter, slots in optimizer.state.items():
        for name, slot in slots.items():
            if isinstance(slot, torch.Tensor) and slot.dim() and slot.shape != parameter.shape:
                raise ValueError(f"{name} of shape {list(slot.shape)} for a parameter of {list(parameter.shape)}")


def lr_at(
    schedule: Schedule, lr: float, step: int, total_steps: int, steps_per_epoch: int, val_history: Sequence[float]
) -> float:
    """The head's learning rate at optimizer step `step` (the first is 0) of a run of `total_steps`.

    Warm-up rises linearly over the first `warmup` x `total_steps` steps, as a factor on the schedule: from 1/(n + 1) at
    step 0 to 1 at step n. The cosine starts where the warm-up ends; all others run over the whole. `val_history`
    holds the val_loss of each finished epoch; only plateau reads it, and only the epochs that end before `step`.

    Raises:
        ValueError: if `step` is negative, or `total_steps` or `steps_per_epoch` below 1.
    """
    if step < 0 or total_steps < 1 or steps_per_epoch < 1:
        raise ValueError(f"step {step} of {total_steps}, {steps_per_epoch} an epoch: must be >= 0, >= 1 and >= 1")
    step = min(step, total_steps)
    if isinstance(schedule, OneCycle):
        levels = lr / schedule.initial_divisor, lr, lr / schedule.final_divisor
        return _cycle(schedule.peak, levels, step, total_steps)
    warmup = round(schedule.warmup * total_steps)
    ramp = min((step + 1) / (warmup + 1), 1.0)
    match schedule:
        case Constant():
            factor = 1.0
        case Step():
            factor = schedule.gamma ** sum(step >= round(m * total_steps) for m in schedule.milestones)
        case Cosine():
            done = max(step - warmup, 0) / max(total_steps - warmup, 1)
            factor = _cosine(1.0, schedule.final_ratio, done)
        case WSD():
            decay = max(round(schedule.decay * total_steps), 1)
            factor = 1 - (1 - schedule.final_ratio) * max(step - (total_steps - decay), 0) / decay
        case Cyclic():
            phase = step * schedule.cycles / total_steps % 1
            factor = schedule.low_ratio + (1 - schedule.low_ratio) * (1 - abs(2 * phase - 1))
        case Plateau():
            factor = _plateau(schedule, val_history[: step // steps_per_epoch])
    return lr * ramp * factor


def momentum_at(schedule: Schedule, step: int, total_steps: int) -> float | None:
    """The momentum (Adam's beta1) at optimizer step `step` of `total_steps`; None leaves the optimizer's own."""
    if not isinstance(schedule, OneCycle) or not schedule.cycle_momentum:
        return None
    high, low = schedule.max_momentum, schedule.base_momentum
    return _cycle(schedule.peak, (high, low, high), min(step, total_steps), total_steps)


def set_rates(optimizer: torch.optim.Optimizer, lr: float, momentum: float | None) -> None:
    """Set an optimizer of `build_optimizer` for its next step: the head's learning rate, and the momentum if given."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_ratio"]
        if momentum is None:
            continue
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        if "momentum" in group:  # Muon has both, for its two kinds of steps
            group["momentum"] = momentum


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


def _cycle(at: float, values: tuple[float, float, float], step: int, total_steps: int) -> float:
    # As torch's OneCycleLR: the peak is at step `at` * total - 1, which for very short runs lies before the first.
    first, middle, last = values
    peak, end = at * total_steps - 1, total_steps - 1
    if step <= peak:
        return _cosine(first, middle, step / peak) if peak > 0 else middle
    return _cosine(middle, last, min((step - peak) / (end - peak), 1.0))


def _plateau(schedule: Plateau, val_history: Sequence[float]) -> float:
    # The rule of torch's ReduceLROnPlateau: mode min, relative threshold, no cooldown. NaN is no improvement.
    factor, best, bad_epochs = 1.0, math.inf, 0
    for loss in val_history:
        if loss < best * (1 - PLATEAU_THRESHOLD):
            best, bad_epochs = loss, 0
        else:
            bad_epochs += 1
        if bad_epochs > schedule.patience:
            factor, bad_epochs = max(factor * schedule.factor, schedule.low_ratio), 0
    return factor
