"""Learning curves to search on without training: three synthetic families whose curves cross.

Each is a closed form over a space with conditional branches, at the usual places of a real search, with noise that
depends on the seed and the configuration only. They are made up to be hard for early stopping, each in its own way, and
stay as they were before the first comparison: whatever it shows, they are not tuned to it.

- `late_bloomers`: decaying schedules, warm-up, strong augmentation and depth look worse early and end better.
- `early_overfitters`: large networks without regularization lead for some epochs, and then their accuracy falls.
- `edge_of_divergence`: the best learning rates lie close to those that diverge, which lead until they do; noisy.

A fourth, `in_order`, came after the first comparison, to see what is paid where nothing crosses: final accuracies of
`late_bloomers`, reached along one common curve.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from spaces import Scalar, Space, parse_space, path_of

__all__ = ["CHANCE", "EPOCHS", "Curve", "Family", "IN_ORDER", "SYNTHETIC", "Synthetic"]

EPOCHS = 27
CHANCE = 0.1  # what a network reports once its weights are not numbers


@dataclass(frozen=True)
class Curve:
    """What training a configuration shows.

    `reported` is its accuracy after each epoch, in 0..1, CHANCE from the epoch on in which it diverged (`diverged`,
    None if it did not). `final` is its accuracy after the last epoch without noise. An epoch takes `seconds`. Where it
    is known, `averaged` is what the average of its weights scores after each epoch, for which `scoring` seconds more
    are needed.
    """

    reported: tuple[float, ...]
    seconds: float
    final: float
    diverged: int | None = None
    averaged: tuple[float, ...] = ()
    scoring: float = 0.0


class Family(Protocol):
    """Curves over one space, all of the same number of epochs."""

    @property
    def name(self) -> str: ...
    @property
    def space(self) -> Space: ...
    @property
    def epochs(self) -> int: ...

    def curve(self, values: Mapping[str, Scalar], seed: int) -> Curve:
        """The curve of a point of the space, by its qualified keys; the same for the same seed."""
        ...


@dataclass(frozen=True)
class Shape:
    """A curve before noise: accuracy after each epoch, seconds an epoch, and how far beyond the edge of divergence the
    configuration lies (below 0: it is stable), in decades of the learning rate.
    """

    clean: np.ndarray
    seconds: float
    beyond: float = -math.inf


@dataclass(frozen=True)
class Synthetic:
    """A family in closed form.

    `epoch_noise` and `run_noise` are standard deviations, drawn anew for each epoch and once for a run; `edge_noise`
    that of the edge of divergence, in decades.
    """

    name: str
    space: Space
    shape: Callable[[Mapping[str, Any]], Shape]
    epoch_noise: float
    run_noise: float
    edge_noise: float = 0.0
    epochs: int = EPOCHS

    def curve(self, values: Mapping[str, Scalar], seed: int) -> Curve:
        """The noisy curve of a point; which path it takes depends on the seed and on every value."""
        shape = self.shape({path_of(key): value for key, value in values.items()})
        text = json.dumps([self.name, sorted(values.items())])
        draws = np.random.default_rng([seed, zlib.crc32(text.encode())])
        noise = draws.normal(0, self.run_noise) + draws.normal(0, self.epoch_noise, self.epochs)
        beyond = shape.beyond + draws.normal(0, self.edge_noise)
        reported = np.clip(shape.clean + noise, 0.0, 1.0)
        final, diverged = float(shape.clean[-1]), None
        if beyond > 0:  # the farther beyond, the sooner
            diverged = min(1 + int(26 * math.exp(-3.5 * beyond)), self.epochs)
            reported[diverged - 1 :] = CHANCE
            final = CHANCE
        return Curve(tuple(reported.tolist()), shape.seconds, final, diverged)


AFTER = np.arange(1, EPOCHS + 1, dtype=float)  # epochs trained


def _parabola(off: float, width: float) -> float:
    """0 at the best value, falling to -1 at `width` from it and on."""
    return -((off / width) ** 2)


LATE_BLOOMERS = parse_space({
    "model": {"depth": {"choice": [8, 20, 56]}},
    "optimizer": {"kind": {"choice": {
        "sgd": {
            "lr": {"float": [1e-3, 1.0], "log": True},
            "momentum": {"float": [0.5, 0.99]},
            "weight_decay": {"float": [1e-5, 1e-2], "log": True},
        },
        "adamw": {
            "lr": {"float": [1e-5, 1e-1], "log": True},
            "weight_decay": {"float": [1e-4, 1.0], "log": True},
        },
    }}},
    "schedule": {"kind": {"choice": {
        "constant": {},
        "step": {"gamma": {"float": [0.05, 0.5]}},
        "cosine": {"warmup": {"float": [0.0, 0.3]}},
    }}},
    "augment": {"strength": {"float": [0.0, 1.0]}},
    "batch_size": {"choice": [32, 64, 128, 256]},
})  # fmt: skip


def _late_bloomers(config: Mapping[str, Any]) -> Shape:
    strength, depth, schedule = config["augment.strength"], config["model.depth"], config["schedule.kind"]
    if config["optimizer.kind"] == "sgd":
        rate_off = math.log10(config["optimizer.lr"] / (1 - config["optimizer.momentum"]))
        decay_off = math.log10(config["optimizer.weight_decay"] / 5e-4)
        plateau = 0.80
    else:
        rate_off = math.log10(config["optimizer.lr"] / 2e-3)
        decay_off = math.log10(config["optimizer.weight_decay"] / 0.05)
        plateau = 0.79
    plateau += 0.08 * max(_parabola(rate_off, 1.0), -6.0) + 0.012 * _parabola(decay_off, 1.0)
    plateau += {8: 0.0, 20: 0.025, 56: 0.04}[depth]
    plateau += 0.06 * (1 + _parabola(strength - 0.75, 0.75))
    plateau -= 0.006 * abs(math.log2(config["batch_size"] / 128))
    time_constant = 1.2 * (1 + 1.5 * strength) * {8: 1.0, 20: 1.4, 56: 2.2}[depth] * 10 ** (0.15 * abs(rate_off))
    trained = AFTER
    gain = np.zeros(EPOCHS)
    if schedule == "step":  # milestones at one half and three quarters
        share = 0.035 * (1 + _parabola(config["schedule.gamma"] - 0.15, 0.35))
        gain = share * (AFTER > EPOCHS * 0.5) + 0.5 * share * (AFTER > EPOCHS * 0.75)
    elif schedule == "cosine":
        warmup = config["schedule.warmup"] * EPOCHS
        trained = np.maximum(AFTER - 0.5 * warmup, 0.35 * AFTER)
        gain = (0.055 + 0.01 * _parabola(config["schedule.warmup"] - 0.1, 0.1)) * (AFTER / EPOCHS) ** 3
    # A high rate that never falls keeps the loss from settling; one that falls later costs some progress at first.
    early = 0.95 if schedule != "constant" else 1.0
    clean = plateau * early * (1 - np.exp(-trained / time_constant)) + gain
    clean += plateau * (1 - early) * (AFTER / EPOCHS) if schedule != "constant" else 0.0
    seconds = {8: 1.0, 20: 1.6, 56: 3.5}[depth] * (128 / config["batch_size"]) ** 0.2
    return Shape(np.maximum(clean, CHANCE), seconds)


EARLY_OVERFITTERS = parse_space({
    "model": {"width": {"choice": [16, 32, 64, 128]}},
    "optimizer": {
        "kind": {"choice": {
            "sgd": {"lr": {"float": [1e-3, 1.0], "log": True}, "nesterov": {"choice": [False, True]}},
            "adam": {"lr": {"float": [1e-5, 1e-1], "log": True}},
        }},
        "weight_decay": {"float": [1e-6, 1e-2], "log": True},
    },
    "augment": {"kind": {"choice": {
        "none": {},
        "crops": {"strength": {"float": [0.0, 1.0]}},
        "mixup": {"alpha": {"float": [0.05, 2.0], "log": True}},
    }}},
    "regularization": {"dropout": {"float": [0.0, 0.6]}, "label_smoothing": {"float": [0.0, 0.2]}},
})  # fmt: skip


def _early_overfitters(config: Mapping[str, Any]) -> Shape:
    width = config["model.width"]
    capacity = math.log2(width / 16) / 3
    sgd = config["optimizer.kind"] == "sgd"
    rate_off = math.log10(config["optimizer.lr"] / (0.08 if sgd else 1.5e-3))
    mixed = {
        "none": 0.0,
        "crops": 0.45 * config.get("augment.strength", 0.0),
        "mixup": 0.40 * (1 + max(_parabola(math.log10(config.get("augment.alpha", 0.3) / 0.3), 1.0), -1.0)),
    }[config["augment.kind"]]
    regularized = min(
        mixed + 0.4 * config["regularization.dropout"] + 0.8 * config["regularization.label_smoothing"]
        + 0.04 * math.log10(config["optimizer.weight_decay"] / 1e-6), 1.0,
    )  # fmt: skip
    top = 0.76 + 0.12 * capacity + (0.01 if sgd else 0.0) + (0.005 if config.get("optimizer.nesterov") else 0.0)
    top += 0.09 * max(_parabola(rate_off, 1.0), -5.0) - 0.09 * max(regularized - 0.6 - 0.2 * capacity, 0.0)
    time_constant = (0.8 + 6.0 * regularized) * (1.3 - 0.4 * capacity) * 10 ** (-0.25 * min(rate_off, 0.5))
    # High rates overfit sooner; regularization delays it and takes most of it away.
    onset = 2.0 + 8.0 * regularized - 1.0 * min(max(rate_off, -1.0), 1.0)
    lost = 0.60 * (0.25 + 0.75 * capacity) * (1 - regularized) ** 2
    falling = lost * (1 - np.exp(-np.maximum(AFTER - onset, 0.0) / 7.0))
    clean = top * (1 - np.exp(-AFTER / max(time_constant, 0.3))) - falling
    return Shape(np.maximum(clean, CHANCE), {16: 0.8, 32: 1.0, 64: 1.7, 128: 3.0}[width])


EDGE_OF_DIVERGENCE = parse_space({
    "model": {"norm": {"choice": {
        "batch": {},
        "group": {"groups": {"choice": [4, 8, 16, 32]}},
        "none": {"init_scale": {"float": [0.05, 2.0], "log": True}},
    }}},
    "optimizer": {"kind": {"choice": {
        "sgd": {
            "lr": {"float": [1e-3, 10.0], "log": True},
            "momentum": {"float": [0.0, 0.99]},
        },
        "rmsprop": {
            "lr": {"float": [1e-5, 1e-1], "log": True},
            "alpha": {"float": [0.8, 0.999]},
        },
    }}},
    "schedule": {"warmup": {"float": [0.0, 0.3]}},
    "batch_size": {"choice": [64, 128, 256, 512]},
})  # fmt: skip


def _edge_of_divergence(config: Mapping[str, Any]) -> Shape:
    norm, batch = config["model.norm"], config["batch_size"]
    scale = 1.0
    if config["optimizer.kind"] == "sgd":
        rate = math.log10(config["optimizer.lr"] / (1 - config["optimizer.momentum"]))
        edge, top = 0.9, 0.87
    else:
        rate = math.log10(config["optimizer.lr"])
        edge, top = -2.3 + 4 * (config["optimizer.alpha"] - 0.9), 0.855
    edge += 0.25 * math.log2(batch / 128) / 2 + 1.2 * config["schedule.warmup"]
    if norm == "group":
        edge -= 0.15
        top -= 0.01 + 0.004 * abs(math.log2(config["model.groups"] / 16))
    elif norm == "none":
        off = math.log10(config["model.init_scale"] / 0.3)
        edge += -0.7 - 0.4 * abs(off)
        top += 0.015 + 0.02 * max(_parabola(off, 0.5), -3.0)
        scale = 0.85
    beyond = rate - edge
    # Accuracy rises up to the edge: large steps find flat minima.
    short = min(beyond, 0.0)
    final = top + 0.05 * short - 0.035 * short**2 - 0.006 * abs(math.log2(batch / 128))
    final += 0.03 * _parabola(config["schedule.warmup"] - 0.15, 0.15)
    time_constant = 1.5 * 10 ** (-0.3 * max(short, -4.0)) * (1 + 6 * config["schedule.warmup"])
    clean = max(final, CHANCE) * (1 - np.exp(-AFTER / time_constant))
    return Shape(np.maximum(clean, CHANCE), scale * (128 / batch) ** 0.35, beyond)


SYNTHETIC: tuple[Synthetic, ...] = (
    Synthetic("late_bloomers", LATE_BLOOMERS, _late_bloomers, epoch_noise=0.008, run_noise=0.004),
    Synthetic("early_overfitters", EARLY_OVERFITTERS, _early_overfitters, epoch_noise=0.010, run_noise=0.005),
    Synthetic(
        "edge_of_divergence", EDGE_OF_DIVERGENCE, _edge_of_divergence, epoch_noise=0.025, run_noise=0.008,
        edge_noise=0.05,
    ),
)  # fmt: skip


def _in_order(config: Mapping[str, Any]) -> Shape:
    shape = _late_bloomers(config)
    return Shape(np.maximum(shape.clean[-1] * (1 - np.exp(-AFTER / 4.0)), CHANCE), shape.seconds)


IN_ORDER = Synthetic("in_order", LATE_BLOOMERS, _in_order, epoch_noise=0.008, run_noise=0.004)
