"""What the connected cluster has, and what it can grow to: a search may ask for a GPU node that is not there yet."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
import yaml

__all__ = ["NodeWatch", "at_most", "expected_resources"]

VARIABLE = "RESNET_SEARCH_CLUSTER"  # the file that `ray up` leaves on the head
PATIENCE = 30.0  # seconds for machines that were set up before to join
LOOK_SECONDS = 10.0


def expected_resources() -> dict[str, float]:
    """CPUs, GPUs and the like of the connected cluster when it is as large as it may become.

    An autoscaling cluster starts its nodes when trials ask for them, and machines that are set up for the first time
    come minutes after the head. Where the cluster's file does not say what a node has, those that belong to the cluster
    in any case are waited for a little, and one that is still away is taken for the largest that is there.
    """
    config = _cluster_config()
    if config is None:
        return _there()
    known = all(node_type.get("resources") for node_type in config["available_node_types"].values())
    if known:
        grown = at_most(config)
    else:
        nodes = 1 + config.get("max_workers", 0)
        deadline = time.monotonic() + PATIENCE
        while len(_alive()) < nodes and time.monotonic() < deadline:
            time.sleep(1)
        alive = [node["Resources"] for node in _alive()]
        missing = max(nodes - len(alive), 0)
        grown = {kind: amount + missing * max(node.get(kind, 0) for node in alive) for kind, amount in _there().items()}
    there = _there()
    return there | {kind: max(amount, there.get(kind, 0.0)) for kind, amount in grown.items()}


def _there() -> dict[str, float]:
    return dict(ray.cluster_resources())  # type: ignore[no-untyped-call]


def at_most(config: Mapping[str, Any]) -> dict[str, float]:
    """What a cluster has with all the nodes that its file allows, as far as the file says what a node has.

    Args:
        config: Ray's cluster file, with `available_node_types`. If `max_workers` allows fewer, the first types count.
    """
    types, left = config["available_node_types"], config.get("max_workers", 0)
    total = Counter[str]()
    total.update(types[config["head_node_type"]].get("resources", {}))
    for name, node_type in types.items():
        if name == config["head_node_type"]:
            continue
        nodes = min(node_type.get("max_workers", left), left)
        left -= nodes
        total.update({kind: nodes * amount for kind, amount in node_type.get("resources", {}).items()})
    return {kind: float(amount) for kind, amount in total.items()}


def _cluster_config() -> Mapping[str, Any] | None:
    path = Path(os.environ.get(VARIABLE, "")).expanduser()
    if not path.is_file():
        return None
    config: Mapping[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return config


def _alive() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


class NodeWatch:
    """Tells of the cluster's nodes when they have changed; looks every ten seconds."""

    def __init__(self) -> None:
        self._looked, self._told = -LOOK_SECONDS, ""

    def __call__(self) -> str | None:
        """A line about nodes, CPUs and GPUs if there is something new to tell."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return None
        self._looked = time.monotonic()
        nodes = _alive()
        cpus, gpus = (sum(node["Resources"].get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
        line = f"cluster: {_many(len(nodes), 'node')} with {_many(cpus, 'CPU')} and {_many(gpus, 'GPU')} for trials"
        if line == self._told:
            return None
        self._told = line
        return line


def _many(count: float, what: str) -> str:
    return f"{count:g} {what}{'s' * (count != 1)}"
