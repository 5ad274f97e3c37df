"""How many trials fit on one GPU, measured by letting the largest of a study take a step on one."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from search.storage.prepared_images import fetch_prepared
from search.storage.remote import RemoteFolder, open_storage
from search.study.spec import StudySpec
from trainables.config import ConfigError, TrialConfig, parse_config
from trainables.config.plugins import allow_plugins, allowed_plugins
from trainables.data.store import Request, request

__all__ = ["calibrated", "largest", "measured_share", "share_of_one"]

SPARE = 0.05  # of the GPU's memory: fragments, and differences between trials
PARTS = 10_000  # into which Ray divides a GPU


def calibrated(
    spec: StudySpec, configs: Sequence[TrialConfig], cache: Path, available: Mapping[str, float],
    prepared: Mapping[Request, str], place: RemoteFolder | None,
) -> StudySpec:  # fmt: skip
    """The study with `gpus_per_trial: auto` decided by measuring on a GPU of the connected Ray, when one is free.

    Args:
        spec: the study.
        configs: between them, every network that a trial may be.
        cache: of prepared images.
        available: what Ray has, by kind (`CPU`, `GPU`).
        prepared, place: the fingerprints of the images that a storage holds prepared, and that storage.

    Raises:
        ConfigError: if not even one trial fits, or there is no network to measure.
    """
    import ray

    measured = largest(configs)
    if not measured:
        raise ConfigError.single("--gpus-per-trial", "auto", "must be a number: this study trains no network")

    stored = [(config.model_dump(mode="json"), prepared.get(request(config.data))) for config in measured]
    uri = None if place is None else place.uri
    share: float = ray.get(ray.remote(num_gpus=1)(measured_share).remote(stored, cache, uri, allowed_plugins()))
    per_gpu = available["CPU"] / available["GPU"] / spec.resources.cpus_per_trial
    return spec.with_resources(gpus_per_trial=share_of_one(share, int(per_gpu)))


def largest(configs: Sequence[TrialConfig]) -> list[TrialConfig]:
    """Each network among `configs` with each optimizer that it comes with, and the largest batch and resolution."""
    networks = [config for config in configs if config.model.is_network]
    batch = max((config.batch_size for config in networks), default=1)
    resolution = max((config.data.resolution or 0 for config in networks), default=0) or None
    first = {
        (config.model, config.optimizer.kind, config.regularization.ema_decay > 0): config
        for config in reversed(networks)
    }
    return [
        config.model_copy(
            update={"batch_size": batch, "data": config.data.model_copy(update={"resolution": resolution})}
        )
        for config in first.values()
    ]


def measured_share(
    trials: Sequence[tuple[dict[str, Any], str | None]], cache: Path, uri: str | None, plugins: Iterable[str] = ()
) -> float:
    """The share of this process's GPU that the largest of some trials takes, 0..1, CUDA's own memory included.

    Args:
        trials: the config of each, and the fingerprint of its images if the storage holds them prepared.
        cache: of prepared images.
        uri: of the storage, if there is one.
        plugins: packages whose dotted paths a config may name.

    Raises:
        ConfigError: if one of them does not fit.
    """
    import torch

    from trainables.data.images import load_splits
    from trainables.training.execution import configure_process
    from trainables.training.loop import Run
    from trainables.training.memory import translate_oom

    allow_plugins(plugins)
    share = 0.0
    for tree, fingerprint in trials:
        config = parse_config(tree)
        store = fetch_prepared(open_storage(uri), fingerprint, cache) if uri and fingerprint else None
        configure_process(config.execution)
        with translate_oom(config):
            Run(config, load_splits(config.data, cache, store), rungs=(1,)).rehearse()
        free, total = torch.cuda.mem_get_info()
        share = max(share, 1 - free / total)
        gc.collect()
        torch.cuda.empty_cache()
    return share


def share_of_one(share: float, most: int) -> float:
    """The GPU share to ask for a trial that takes `share` of its memory, so that at most `most` run on one GPU."""
    fit = max(1, min(int((1 - SPARE) / share), most))
    return math.floor(PARTS / fit) / PARTS
