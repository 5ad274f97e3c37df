"""A search on a cluster of two kinds of nodes whose driver is killed goes on with the money that was left."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.cluster_utils import Cluster

from search.journal.cost import Spending
from search.journal.events import CostCounted, EpochReported, Event, SessionStarted, TrialEnded
from search.journal.log import read
from search.journal.records import TrialStatus
from search.journal.state import StudyState
from search.views.summary import look
from tests.search.killed_search import (
    TIMEOUT,
    begin,
    command,
    environment,
    journal_lines,
    result,
    synthetic_study,
    written,
)
from tests.search.mlflow_contents import runs_of

PRICES = ("--price", "head=100", "--price", "gpu_spot=500")  # a sixth of the currency a second
DEARER = ("--price", "head=10000", "--price", "gpu_spot=50000")  # what is left is used up in a second
LIMIT = 20.0
IMPATIENT = """
from search.run import run
from search.tune import adapters
from trainables.cli import run_verb

adapters.UNPLACED_SECONDS = 5.0
run_verb(run)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head on which no trial runs, and one other node; each has its type as from the autoscaler."""
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("RAY_NODE_TYPE_NAME", "head")
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        environ.setenv("RAY_NODE_TYPE_NAME", "gpu_spot")
        nodes.add_node(num_cpus=1)
    nodes.wait_for_nodes()
    yield nodes
    nodes.shutdown()


def endless() -> dict[str, Any]:
    """Trials that nothing but the budget ends."""
    tree = synthetic_study("asha", trials=3, epochs=100_000) | {"scheduler": {"kind": "none"}}
    tree["trial"]["model"]["seconds_per_epoch"] = 0.1
    return tree


@pytest.mark.slow
def test_what_a_killed_search_has_cost_is_neither_lost_nor_spent_again(tmp_path: Path, cluster: Cluster) -> None:
    study, folder = written(endless(), tmp_path), tmp_path / "killed"
    there = environment() | {"RAY_ADDRESS": cluster.address}

    def search(*options: str) -> subprocess.CompletedProcess[str]:
        arguments = command(study, tmp_path, *options)
        return subprocess.run(arguments, env=there, capture_output=True, text=True, timeout=TIMEOUT, check=False)

    limit = ("--max-cost", f"{LIMIT:g}")
    refused = search(*limit, *PRICES[:2])
    assert refused.returncode == 2
    assert "gpu_spot is missing: --price gpu_spot=X" in refused.stderr
    assert journal_lines(folder) == 0
    planned = search(*limit, *PRICES, "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert (
        "with 1 gpu_spot, 1 head up now, for 600.00 an hour together; cut off at 20.00, after about 2 min"
        in planned.stdout
    )

    first = begin(study, tmp_path, 1, *limit, *PRICES, RAY_ADDRESS=cluster.address)
    ends = time.monotonic() + TIMEOUT
    while (
        first.poll() is None and StudyState.of(read(folder / "journal")).spending.spent < 1 and time.monotonic() < ends
    ):
        time.sleep(0.05)
    assert first.poll() is None
    first.kill()
    first.communicate()
    before = StudyState.of(read(folder / "journal")).spending.spent
    assert 1 <= before < LIMIT
    assert look(folder).cost == before

    done = search(*limit, *DEARER)
    assert done.returncode == 0, done.stdout + done.stderr
    events = list(read(folder / "journal"))
    assert_limit_held(events)
    second = events[next(i for i, e in enumerate(events) if isinstance(e, SessionStarted) and e.session == 2) :]
    counts = [event for event in second if isinstance(event, CostCounted)]
    assert counts[0].total == before
    assert {tuple(sorted(event.nodes.items())) for event in counts} == {(("gpu_spot", 1), ("head", 1))}
    assert {event.rate for event in counts} == {60_000.0}
    found = result(tmp_path)
    assert [(record.status, record.stop_reason) for record in found.trials] == [(TrialStatus.STOPPED, "max_cost")]
    spent = StudyState.of(events).spending.spent
    assert f"cost: {spent:.2f} of {LIMIT:.2f}" in done.stdout
    parent, _ = runs_of(f"sqlite:///{tmp_path}/mlflow.db", "killed")
    assert parent.data.metrics["cost"] == spent


@pytest.mark.slow
def test_a_search_whose_node_never_comes_ends_when_its_money_is_used_up(tmp_path: Path, cluster: Cluster) -> None:
    types = {"head": {"resources": {"CPU": 0}}, "sold_out": {"resources": {"CPU": 8}, "max_workers": 1}}
    config = {"head_node_type": "head", "max_workers": 1, "available_node_types": types}
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(config))
    options = ("--cpus-per-trial", "8", "--max-cost", "1", "--price", "3600")
    _, _, _, *arguments = command(written(endless(), tmp_path), tmp_path, *options)
    done = subprocess.run(
        [sys.executable, "-c", IMPATIENT, *arguments],
        env=environment()
        | {"RAY_ADDRESS": cluster.address, "RESNET_SEARCH_CLUSTER": str(tmp_path / "cluster.yaml")},
        capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = result(tmp_path).trials
    assert (record.status, record.stop_reason, record.history) == (TrialStatus.STOPPED, "max_cost", ())


def assert_limit_held(events: list[Event]) -> None:
    """The trial went on as long as there was money, and was stopped by the first result after that."""
    state = Spending()
    for event, following in pairwise(events):
        state = state.after(event)
        if isinstance(event, EpochReported):
            assert isinstance(following, TrialEnded) or state.spent < LIMIT
        elif isinstance(event, TrialEnded):
            assert state.spent >= LIMIT
