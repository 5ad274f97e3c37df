"""A trial in a Ray worker, as far as it can be tried without Ray."""

from __future__ import annotations

import resource
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from search.storage.remote import local_storage
from search.tune.trainable import ResNetTrial
from trainables.config import ConfigError, parse_config


def leg(tmp_path: Path, **more: Any) -> dict[str, Any]:
    config = parse_config({"model": {"kind": "synthetic"}, "data": {"source": "synthetic"}, "epochs": 3})
    return {
        "trial": 0, "leg": 1, "config": config.model_dump(mode="json"), "cache": str(tmp_path / "cache"),
        "storage": str(tmp_path / "study"), "folder": "checkpoints/trial-0000/leg-01", "reported": 0, "prepared": None,
        "save_at": [2], "save_every": 600.0, "interrupt": "checkpoints/interrupt-0001",
        "gpus": 0.0, "fuse": False, "version": metadata.version("resnet-search"),
    } | more  # fmt: skip


def test_it_saves_where_it_must_and_another_leg_goes_on_from_there(tmp_path: Path) -> None:
    study = local_storage(tmp_path / "study")
    study.write("study.yaml", b"")
    first = ResNetTrial(leg(tmp_path))
    told = [first.step() for _ in range(2)]
    assert [result["checkpoint"] for result in told] == [
        None,
        study.where("checkpoints/trial-0000/leg-01/epoch-0002.pt"),
    ]
    second = ResNetTrial(leg(tmp_path, leg=2, reported=2, folder="checkpoints/trial-0000/leg-02"))
    last = second.step()
    assert (last["epoch"], last["last"]) == (3, True)
    assert study.exists("checkpoints/trial-0000/leg-02/epoch-0003.pt")
    study.write("checkpoints/interrupt-0001", b"")
    third = ResNetTrial(leg(tmp_path, leg=3, reported=1))  # what it never reported is trained again
    assert third.step()["interrupted"]


def test_a_node_that_does_not_see_the_study_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"does not see .*study: it must be on a folder that all nodes share"):
        ResNetTrial(leg(tmp_path))


def test_a_node_with_another_version_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"the driver 0\.0\.1"):
        ResNetTrial(leg(tmp_path, version="0.0.1"))


def test_a_batch_that_does_not_fit_into_memory_is_told_with_the_way_out(tmp_path: Path) -> None:
    local_storage(tmp_path / "study").write("study.yaml", b"")
    tree = {
        "model": {"kind": "cifar_resnet", "depth": 8},
        "data": {"source": "digits", "resolution": 1024},
        "batch_size": 1024,
        "epochs": 1,
    }
    trial = ResNetTrial(leg(tmp_path, config=parse_config(tree).model_dump(mode="json")))
    before = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + 2**30, before[1]))
    try:
        with pytest.raises(ConfigError, match=r"batch_size: 1024 images of 1024 x 1024 pixels do not fit .* got 1024"):
            trial.step()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
