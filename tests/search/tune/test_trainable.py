"""A trial in a Ray worker, as far as it can be tried without Ray."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import pytest

from search.storage.remote import local_storage
from search.tune.leg import LegReport, LegRequest
from search.tune.trainable import ResNetTrial
from trainables.config import ConfigError, parse_config
from trainables.config.plugins import allowed_plugins


def start(tmp_path: Path, **more: Any) -> ResNetTrial:
    config = parse_config({"model": {"kind": "synthetic"}, "data": {"source": "synthetic"}, "epochs": 3})
    asked: dict[str, Any] = {
        "trial": 0, "number": 1, "config": config.model_dump(mode="json"), "cache": str(tmp_path / "cache"),
        "storage": str(tmp_path / "study"), "folder": "checkpoints/trial-0000/leg-01", "save_at": (2,),
        "interrupt": "checkpoints/interrupt-0001",
    }  # fmt: skip
    return ResNetTrial(LegRequest(**asked | more).to_dict())


def step(trial: ResNetTrial) -> LegReport:
    return LegReport.from_dict(trial.step())


def test_it_saves_where_it_must_and_another_leg_resumes_from_there(tmp_path: Path) -> None:
    study = local_storage(tmp_path / "study")
    study.write("study.yaml", b"")
    first = start(tmp_path, plugins=("a_package",))
    assert "a_package" in allowed_plugins()
    saved = study.where("checkpoints/trial-0000/leg-01/epoch-0002.pt")
    assert [step(first).checkpoint for _ in range(2)] == [None, saved]
    second = start(tmp_path, number=2, reported=2, folder="checkpoints/trial-0000/leg-02")
    last = step(second).result
    assert last is not None
    assert (last.epoch, last.last) == (3, True)
    assert study.exists("checkpoints/trial-0000/leg-02/epoch-0003.pt")
    study.write("checkpoints/interrupt-0001", b"")
    third = start(tmp_path, number=3, reported=1)  # an epoch that was never reported is trained again
    assert step(third).result is None


def test_a_node_that_does_not_see_the_study_or_has_another_version_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"does not see .*study: it must be on a folder that all nodes share"):
        start(tmp_path)
    with pytest.raises(RuntimeError, match=r"the driver 0\.0\.1"):
        start(tmp_path, version="0.0.1")


def test_a_batch_that_does_not_fit_into_memory_is_reported_with_the_way_out(tmp_path: Path) -> None:
    local_storage(tmp_path / "study").write("study.yaml", b"")
    tree = {
        "model": {"kind": "cifar_resnet", "depth": 8},
        "data": {"source": "digits", "resolution": 1024},
        "batch_size": 1024,
        "epochs": 1,
    }
    trial = start(tmp_path, config=parse_config(tree).model_dump(mode="json"))
    before = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + 2**30, before[1]))
    try:
        with pytest.raises(ConfigError, match=r"batch_size: 1024 images of 1024 x 1024 pixels do not fit .* got 1024"):
            trial.step()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
