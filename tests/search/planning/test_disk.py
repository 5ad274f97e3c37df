"""The estimate of disk reckons with the largest network that a study searches over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from search.algorithms.forecast import Survival
from search.planning.disk import PER_FINISHED_TRIAL, checkpoint_bytes, largest_checkpoint, needed_bytes
from search.study.parse import parse_study
from trainables.config import parse_config


def test_the_largest_network_with_the_hungriest_optimizer_counts(tmp_path: Path) -> None:
    kinds = {"cifar_resnet": {"depth": 8}, "wide_resnet": {"depth": 10, "width": {"choice": [1, 4]}}}
    space: dict[str, Any] = {"model": {"kind": {"choice": kinds}}, "optimizer": {"kind": {"choice": ["sgd", "adamw"]}}}
    small = {"model": {"kind": "cifar_resnet", "depth": 8}, "data": {"source": "digits"}}
    spec = parse_study({"study": "sizes", "trial": small, "space": space, "budget": {"trials": 4, "epochs": 3}})
    large = {"model": {"kind": "wide_resnet", "depth": 10, "width": 4}, "optimizer": {"kind": "adamw"}}
    expected = checkpoint_bytes(parse_config({"data": {"source": "digits"}, **large}), tmp_path)
    assert largest_checkpoint(spec, tmp_path) == expected > 10 * checkpoint_bytes(parse_config(small), tmp_path)


def test_a_search_with_a_proxy_keeps_small_checkpoints_and_its_refit_large_ones(tmp_path: Path) -> None:
    trial = {"model": {"kind": "cifar_resnet", "depth": 20}, "data": {"source": "digits"}}
    tree = {"study": "sizes", "trial": trial, "budget": {"trials": 1, "epochs": 3}, "refit": {"top": 1, "seeds": 2}}
    spec = parse_study({**tree, "proxy": {"depth": 8}})
    small, large = (largest_checkpoint(phase, tmp_path) for phase in spec.phases)
    assert small < large == largest_checkpoint(parse_study(tree), tmp_path)
    survival = Survival(reached={}, finished=1.0, epochs=3.0, pauses=False)
    needed = [needed_bytes(spec, survival, 1, sizes) for sizes in ([small, large], [large, large])]
    assert needed[1] - needed[0] == PER_FINISHED_TRIAL * (large - small)
