from __future__ import annotations

from pathlib import Path

import pytest
import torch

from search.planning.preflight import possible_configs
from search.planning.resources import check_resources
from search.study.overrides import override
from search.study.parse import load_study
from search.tune.gpu_share import largest, measured_share, share_of_one
from trainables.config import ConfigError, parse_config


@pytest.mark.parametrize(
    ("share", "most", "gpus"),
    [(0.01, 100, 0.0105), (0.1, 100, 0.1111), (0.1, 4, 0.25), (0.3, 8, 0.3333), (0.48, 8, 1.0), (0.97, 8, 1.0)],
)
def test_as_many_fit_as_memory_and_cores_allow(share: float, most: int, gpus: float) -> None:
    asked = share_of_one(share, most)
    assert asked == pytest.approx(gpus, abs=1e-9)
    assert share < asked


def test_the_largest_trials_are_every_network_with_the_largest_batch_and_resolution() -> None:
    spec = load_study("cifar10_resnet50_transfer")
    configs = list(possible_configs(spec))
    found = largest(configs)
    assert {config.model for config in found} == {config.model for config in configs}
    assert len(found) == len({(config.model, config.optimizer.kind) for config in configs})
    assert {config.batch_size for config in found} == {max(config.batch_size for config in configs)}
    assert {config.data.resolution for config in found} == {max(config.data.resolution or 0 for config in configs)}


def test_without_a_gpu_auto_is_refused() -> None:
    spec = override(load_study("digits_resnet8"), gpus_per_trial="auto")
    with pytest.raises(ConfigError, match=r"--gpus-per-trial: must be at most 0, what this Ray has, got 'auto'"):
        check_resources(spec, {"CPU": 2.0, "GPU": 0.0})


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="--gpus-per-trial: must be a number, 0 for none, or auto, got 'many'"):
        override(load_study("digits_resnet8"), gpus_per_trial="many")


@pytest.mark.gpu
def test_what_a_trial_takes_is_measured(tmp_path: Path) -> None:
    config = parse_config(
        {"model": {"kind": "cifar_resnet", "depth": 8}, "data": {"source": "digits"}, "execution": {"device": "cuda"}}
    )
    small = measured_share([(config.model_dump(mode="json"), None)], tmp_path, None)
    held = torch.zeros(torch.cuda.mem_get_info()[1] // 4, dtype=torch.uint8, device="cuda")
    large = measured_share([(config.model_dump(mode="json"), None)], tmp_path, None)
    assert 0 < small < 0.25 <= large - small + 0.01 < 0.3
    del held
