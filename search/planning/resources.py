"""What a study's trials run on: device, threads and precision decided, and how many trials fit at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

from search.journal.cost import UNTYPED, Prices, unpriced
from search.study.spec import StudySpec
from trainables.config import ConfigError
from trainables.cpu import available_cpus
from trainables.precision import Precision, fastest_precision

__all__ = ["check_prices", "check_resources", "cluster_address", "resolved_execution"]


def cluster_address() -> str | None:
    """The Ray cluster that this process uses, as RAY_ADDRESS names it; None for a Ray of its own on this machine."""
    return os.environ.get("RAY_ADDRESS") or None


def resolved_execution(
    spec: StudySpec, cuda: bool, cpus_per_trial: float, fastest: Callable[[str], Precision] = fastest_precision
) -> StudySpec:
    """The study with what it leaves to the machine decided: device, threads, layout, precision and GPUs a trial.

    `fastest` maps a device to its fastest precision where trials run: on a cluster, not this machine's processor.

    Raises:
        ConfigError: if it asks for CUDA and there is none, or for a GPU a trial and the CPU.
    """
    asked = spec.trial["execution"]
    gpus = spec.resources.gpus_per_trial
    device = asked["device"]
    if device == "auto":
        device = "cuda" if cuda and gpus != 0 else "cpu"
    if device == "cuda" and not cuda:
        raise ConfigError.single("trial.execution.device", device, "must be cpu or auto: there is no CUDA device")
    if device == "cuda" and gpus == 0:
        raise ConfigError.single("resources.gpus_per_trial", gpus, "must be above 0 with execution.device cuda")
    if device == "cpu" and gpus:
        raise ConfigError.single("resources.gpus_per_trial", gpus, "must be 0 on the CPU")
    changes = {
        "device": device,
        "threads": asked["threads"] or max(1, int(cpus_per_trial)),
        "memory_format": "channels_last" if asked["memory_format"] == "auto" else asked["memory_format"],
        "precision": fastest(device) if asked["precision"] == "auto" else asked["precision"],
    }
    if gpus is None:
        gpus = 1.0 if device == "cuda" else 0.0
    return spec.with_execution(**changes).with_resources(gpus_per_trial=gpus)


def check_resources(spec: StudySpec, available: Mapping[str, float]) -> int:
    """How many trials run at once, given what Ray has (`CPU`, `GPU`): as many as fit, at most `resources.concurrent`.

    Raises:
        ConfigError: if not even one trial fits.
    """
    fits: list[int] = []
    for kind, amount in spec.resources.of_a_trial.items():
        if amount > 0:
            have = available.get(kind, 0.0)
            if have < amount:
                rule = f"must be at most {have:g}, what this Ray has"
                asked = spec.resources.gpus_per_trial if kind == "GPU" else amount
                raise ConfigError.single(f"--{kind.lower()}s-per-trial", asked, rule)
            fits.append(int(have / amount + 1e-9))
    most = min(fits, default=available_cpus())
    return min(most, spec.resources.concurrent or most)


def check_prices(prices: Prices | None, types: Iterable[str]) -> None:
    """Every type of node that is there, or may come, must have a price, if prices are given by type.

    Raises:
        ConfigError: naming the types without one.
    """
    if not (missing := unpriced(prices, types)):
        return
    options = " ".join(f"--price {kind}=X" for kind in missing)
    what = f" ({UNTYPED}: one whose type Ray does not know)" if UNTYPED in missing else ""
    rule = f"must name every type of node, and {', '.join(missing)} is missing{what}: {options}, or --price X for each"
    raise ConfigError.single("--price", prices, rule)
