"""What the nodes of a cluster are asked before a search starts."""

from __future__ import annotations

import logging

import pytest
import ray

from search.tune.nodes import fastest_precision_on_nodes
from trainables.precision import fastest_precision


@pytest.mark.slow
def test_precision_is_that_of_the_nodes_that_have_room_for_a_trial() -> None:
    ray.init(  # which takes our word for the GPU
        "local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
    )
    try:
        assert fastest_precision_on_nodes({"CPU": 1}, "cpu") == fastest_precision("cpu")
        assert fastest_precision_on_nodes({"CPU": 3}, "cpu") is None  # no such node yet
        assert fastest_precision_on_nodes({"CPU": 1, "GPU": 0.5}, "cuda") == fastest_precision("cuda")
        assert fastest_precision_on_nodes({"CPU": 1, "GPU": 0}, "cuda") == fastest_precision("cuda")
        assert fastest_precision_on_nodes({"CPU": 1, "GPU": 2}, "cuda") is None
    finally:
        ray.shutdown()
