"""The estimate of disk reckons with the largest network that a study searches over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from search.planning.disk import checkpoint_bytes, largest_checkpoint
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
