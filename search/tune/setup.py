"""What a search has to run on, decided and checked before its first trial: machine, images, GPU share, disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from search.algorithms.forecast import expected_survivors
from search.algorithms.schedulers.base import Scheduler
from search.algorithms.schedulers.registry import build_scheduler
from search.journal.cost import UNTYPED
from search.planning.disk import check_space, largest_checkpoint, needed_bytes, reserve_bytes
from search.planning.preflight import check_inputs, check_weights, coarse_stems, possible_configs
from search.planning.resources import check_prices, check_resources, cluster_address, resolved_execution
from search.storage.prepared_images import share_prepared
from search.storage.remote import RemoteFolder
from search.study.spec import StudySpec
from search.tune.connection import connect
from search.tune.gpu_share import calibrated
from search.tune.nodes import alive_nodes, expected_resources, fastest_precision_on_nodes, possible_types
from search.views.console import say
from trainables.cpu import available_cpus
from trainables.data.store import PreparedData, Request, default_cache, described
from trainables.precision import Precision, fastest_precision

__all__ = ["Setup", "nodes_now", "resolve", "set_up"]


@dataclass(frozen=True)
class Setup:
    """A study ready to start.

    Attributes:
        spec: the study, with everything decided that it left to the machine.
        concurrent: how many trials run at once.
        cache: the folder of prepared images.
        images: the prepared images of every trial, by what was asked for.
        weights: what is loaded of pretrained weights, two lines for each file.
        shared: the fingerprints of those that lie in the study's storage, too.
        reserve: bytes that must stay free on disk while the search runs.
    """

    spec: StudySpec
    concurrent: int
    cache: Path
    images: dict[Request, PreparedData]
    weights: tuple[str, ...]
    shared: Mapping[Request, str]
    reserve: int

    @property
    def pool(self) -> int | None:
        """How many images there are to train and validate on, caps aside; None if the study has none."""
        counts = [images.counts["train"] + images.counts["val"] for images in self.images.values()]
        return counts[-1] if counts else None

    @property
    def fingerprint(self) -> str | None:
        """That of the trial defaults' images; None if the study has none."""
        return next((images.fingerprint for images in reversed(self.images.values())), None)


def nodes_now() -> Mapping[str, int]:
    """How many nodes of each type are there: those of the cluster, or this machine alone."""
    return alive_nodes() if cluster_address() else {UNTYPED: 1}


def resolve(spec: StudySpec, console: Console) -> tuple[StudySpec, int]:
    """The study with device, threads and precision decided, and how many of its trials run at once.

    Raises:
        ConfigError: if not even one trial fits, or a node type has no price.
    """
    resources = _resources(spec, lambda line: say(console, line))
    concurrent = check_resources(spec, resources)
    if spec.resources.prices is not None:
        types: Iterable[str] = possible_types() if cluster_address() else [UNTYPED]
        check_prices(spec.resources.prices, types)

    def fastest(device: str) -> Precision:
        if not cluster_address():
            return fastest_precision(device)
        found = fastest_precision_on_nodes(spec.resources.of_a_trial, device)
        if found is None:
            why = "no node for trials is up yet, so that they will train in float32"
            say(console, f"{why}; if all nodes multiply bfloat16, give --set execution.precision=bf16", "yellow")
        return found or "fp32"

    cuda = resources.get("GPU", 0) > 0
    return resolved_execution(spec, cuda, spec.resources.cpus_per_trial, fastest), concurrent


def set_up(
    spec: StudySpec, out: Path, storage: RemoteFolder | None, scheduler: Scheduler | None, console: Console,
    searching: bool = True,
) -> Setup:  # fmt: skip
    """Decide what is left to the machine, prepare the images, and check that everything is there.

    Args:
        spec: the study.
        out: absolute; where its folder is.
        storage: where the study is stored beside this machine, if anywhere.
        scheduler: what the user passed instead of the study's own, unused so far.
        console: for messages.
        searching: False for a comparison alone, which needs no scheduler.

    Raises:
        ConfigError: naming whatever is missing; no trial has been started then.
    """
    spec, concurrent = resolve(spec, console)
    if spec.resources.fuse and not spec.resources.gpus:
        why = "without a GPU the trials share one trial's threads, and take longer together than apart"
        say(console, f"resources.fuse: {why}", "yellow")
    cache = default_cache()
    with console.status("preparing images"):
        images = check_inputs(spec, cache)
        weights = check_weights(spec, images, cache)
        shared = share_prepared(storage, images) if storage is not None and cluster_address() else {}
    for line in (*described(images), *weights):
        say(console, line)
    for line in coarse_stems(spec, images):
        say(console, line, "yellow")
    if spec.resources.gpus_per_trial == "auto":
        spec, concurrent = _measured(spec, cache, shared, storage, console)
    checkpoints = [largest_checkpoint(phase, cache) for phase in spec.phases]
    needed = reserve = reserve_bytes(concurrent, max(checkpoints))
    if searching and storage is None:
        survival = expected_survivors(
            lambda: build_scheduler(spec, deepcopy(scheduler)), spec.budget.trials, spec.budget.epochs
        )
        needed = needed_bytes(spec, survival, concurrent, checkpoints)
    check_space(out, needed)
    return Setup(spec, concurrent, cache, images, weights, shared, reserve)


def _resources(spec: StudySpec, report: Callable[[str], None]) -> dict[str, float]:
    """What there is to run on: the cluster that RAY_ADDRESS names (which is joined for it), else this machine."""
    if cluster_address():
        connect()
        return expected_resources(report)
    gpus = 0
    if spec.resources.gpus_per_trial != 0:
        import torch  # takes seconds, which a search on the CPU alone need not wait for

        gpus = torch.cuda.device_count()
    return {"CPU": float(available_cpus()), "GPU": float(gpus)}


def _measured(
    spec: StudySpec, cache: Path, shared: Mapping[Request, str], storage: RemoteFolder | None, console: Console
) -> tuple[StudySpec, int]:
    resources = _resources(spec, lambda line: say(console, line))
    with console.status("measuring how many trials fit on a GPU"):
        connect()
        spec = calibrated(spec, list(possible_configs(spec)), cache, resources, shared, storage)
    concurrent = check_resources(spec, resources)
    say(console, f"{spec.resources.gpus:g} GPUs a trial, as measured: {concurrent} at once")
    return spec, concurrent
