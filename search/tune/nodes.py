"""What the connected cluster has, and what it can grow to: a search may ask for a GPU node that is not up yet.

How a node's type is known (Ray 2.60, tried with `ray start`): a node that is started with RAY_NODE_TYPE_NAME in its
environment carries it as the label `ray.io/node-group`. Autoscaler v2, which `ray up` uses, sets it for head and
workers to the name under `available_node_types`; KubeRay, by its sources, to that of the group where its own autoscaler
v2 is on. Autoscaler v1 (the local provider needs it) sets nothing: there the head is known by its resource
`node:__internal_head__`, and any other node only where the file leaves no choice.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import ray
import yaml
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.journal.cost import UNTYPED, Prices, unpriced
from trainables.precision import Precision, fastest_precision

__all__ = [
    "NodeWatch", "alive_nodes", "at_most", "expected_resources", "fastest_precision_on_nodes", "node_type",
    "possible_types",
]  # fmt: skip

VARIABLE = "RESNET_SEARCH_CLUSTER"  # the file that `ray up` leaves on the head
PATIENCE = 30.0  # seconds for machines that are installed to join
LONGEST_INSTALLATION = 1800.0  # seconds; PyTorch is gigabytes
INSTALLING = re.compile(r"^ \S+: \S+, (syncing-files|setting-up)$", re.MULTILINE)  # in what `ray status` prints
LOOK_SECONDS = 10.0
TYPE_LABEL = "ray.io/node-group"
HEAD = "node:__internal_head__"


def expected_resources(show: Callable[[str], None]) -> dict[str, float]:
    """CPUs, GPUs and the like of the connected cluster when it is as large as it may become.

    An autoscaling cluster starts its nodes when trials ask for them, and machines that are installed for the first
    time join minutes after the head. Where the cluster's file does not say what a node has, its fixed nodes are waited
    for: as long as one is being installed, else half a minute. One that is still missing is assumed to be as large as
    the largest that is there.

    Args:
        show: shows the user a line.
    """
    config = _cluster_config()
    if config is None:
        return _there()
    if all(node_type.get("resources") for node_type in config["available_node_types"].values()):
        there, grown = _there(), at_most(config)
        return there | {kind: max(amount, there.get(kind, 0.0)) for kind, amount in grown.items()}
    nodes = 1 + config.get("max_workers", 0)
    _wait_for(nodes, show)
    alive = [node["Resources"] for node in _alive()]
    missing = max(nodes - len(alive), 0)
    return {kind: amount + missing * max(node.get(kind, 0) for node in alive) for kind, amount in _there().items()}


def _wait_for(nodes: int, show: Callable[[str], None]) -> None:
    began = looked = time.monotonic()
    deadline, shown = began + PATIENCE, False
    while len(_alive()) < nodes and time.monotonic() < deadline:
        time.sleep(1)
        if time.monotonic() - looked > LOOK_SECONDS:
            if _one_is_installed():
                deadline = min(time.monotonic() + PATIENCE, began + LONGEST_INSTALLATION)
                if not shown:
                    show(f"{len(_alive())} of {_many(nodes, 'node')} are there; waiting while another one is installed")
                shown = True
            looked = time.monotonic()
    if (there := len(_alive())) < nodes:
        show(
            f"{there} of {_many(nodes, 'node')} are there; the others are counted on, and used once they join. "
            "Why they have not: /tmp/ray/session_latest/logs/monitor.log on the head"
        )


def _one_is_installed() -> bool:
    """Whether the autoscaler is installing a node now, which only `ray status` says."""
    command = [sys.executable, "-P", "-m", "ray.scripts.scripts", "status"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (Ray's own command)
    return INSTALLING.search(done.stdout) is not None


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


def possible_types() -> set[str]:
    """The types of the nodes that are there, and of those that the cluster's file allows."""
    config = _cluster_config() or {"available_node_types": {}}
    allowed = {
        name
        for name, node_type in config["available_node_types"].items()
        if name == config["head_node_type"] or node_type.get("max_workers", config.get("max_workers", 0)) > 0
    }
    return allowed | set(alive_nodes())


def alive_nodes(nodes: Iterable[Mapping[str, Any]] | None = None) -> Counter[str]:
    """How many nodes of each type are alive now; of `nodes`, if Ray was asked for them already."""
    config = _cluster_config()
    return Counter(sorted(node_type(node, config) for node in (_alive() if nodes is None else nodes)))


def fastest_precision_on_nodes(trial: Mapping[str, float], device: str) -> Precision | None:
    """What `execution.precision: auto` comes to on a `cpu` or `cuda` device: bf16 if every node multiplies it.

    Nodes that have no room for a trial are left out, and those that may come later are not waited for: None if there is
    none yet.

    Args:
        trial: what one trial asks for, by kind (`CPU`, `GPU`; on `cuda` it needs some of a GPU, if it is not said yet).
        device: where trials run.
    """
    if device == "cuda":
        trial = {**trial, "GPU": trial.get("GPU") or 1e-4}
    # A process that has looked at the GPUs of its node keeps seeing all of them: no trial may get it afterwards.
    ask = ray.remote(num_cpus=0, max_calls=1)(fastest_precision)
    answers = [
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(device)
        for node in _alive()
        if all(node["Resources"].get(kind, 0) >= amount for kind, amount in trial.items())
    ]
    found = set(ray.get(answers))
    return "fp32" if len(found) > 1 else found.pop() if found else None


def node_type(node: Mapping[str, Any], config: Mapping[str, Any] | None) -> str:
    """The name of a node's type in the cluster's file; `cost.UNTYPED` if it cannot be known.

    Args:
        node: one of `ray.nodes()`.
        config: the cluster's file, None without one.
    """
    if label := node["Labels"].get(TYPE_LABEL):
        return str(label)
    if config is None:
        return UNTYPED
    head = config["head_node_type"]
    if HEAD in node["Resources"]:
        return str(head)
    others = [
        name for name, node_type in config["available_node_types"].items()
        if name != head or node_type.get("max_workers", 0) > 0
    ]  # fmt: skip
    return str(others[0]) if len(others) == 1 else UNTYPED


def _cluster_config() -> Mapping[str, Any] | None:
    path = Path(os.environ.get(VARIABLE, "")).expanduser()
    if not path.is_file():
        return None
    config: Mapping[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return config


def _alive() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


class NodeWatch:
    """Reports the cluster's nodes when they have changed; looks every ten seconds.

    Args:
        prices: those of the study; node types without one are reported.

    Attributes:
        types: how many nodes of each type were up at the last look; before it, one machine without a cluster.
    """

    def __init__(self, prices: Prices | None = None) -> None:
        self._looked, self._reported = -LOOK_SECONDS, ""
        self._prices = prices
        self.types = Counter({UNTYPED: 1})

    def __call__(self) -> str | None:
        """A line about nodes, CPUs and GPUs if they have changed."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return None
        self._looked = time.monotonic()
        nodes = _alive()
        self.types = alive_nodes(nodes)
        cpus, gpus = (sum(node["Resources"].get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
        line = f"cluster: {_many(len(nodes), 'node')} with {_many(cpus, 'CPU')} and {_many(gpus, 'GPU')} for trials"
        if missing := unpriced(self._prices, self.types):
            line += f"; without a price, counted as the most expensive: {', '.join(missing)}"
        changed, self._reported = line != self._reported, line
        return line if changed else None


def _many(count: float, what: str) -> str:
    return f"{count:g} {what}{'s' * (count != 1)}"
