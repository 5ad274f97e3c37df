from __future__ import annotations

from pathlib import Path

from search.planning.preflight import check_inputs, coarse_stems, possible_configs
from search.study.parse import parse_study
from trainables.config import CifarResNet, TorchvisionResNet


def test_possible_configs_use_every_option_however_deep_it_lies() -> None:
    depths = {"cifar_resnet": [8, 14, 20], "torchvision_resnet": [18, 50]}
    kinds = {kind: {"depth": {"choice": options}} for kind, options in depths.items()}
    spec = parse_study(
        {"study": "nested", "space": {"model": {"kind": {"choice": kinds}}}, "budget": {"trials": 4, "epochs": 3}}
    )
    models = {config.model for config in possible_configs(spec)}
    assert {model.depth for model in models if isinstance(model, CifarResNet)} == {8, 14, 20}
    assert {model.depth for model in models if isinstance(model, TorchvisionResNet)} == {18, 50}


def test_a_stem_too_coarse_for_the_images_is_told_before_training(tmp_path: Path) -> None:
    def told(model: dict[str, object]) -> tuple[str, ...]:
        trial = {"model": model, "data": {"source": "digits"}, "optimizer": {"kind": "sgd"}}
        space = {"optimizer": {"lr": {"float": [0.01, 0.1]}}}
        spec = parse_study({"study": "small", "trial": trial, "space": space, "budget": {"trials": 2, "epochs": 3}})
        return coarse_stems(spec, check_inputs(spec, tmp_path))

    (line,) = told({"kind": "torchvision_resnet", "depth": 18})
    assert "downsamples images of 8 pixels to 1 x 1" in line
    assert told({"kind": "cifar_resnet", "depth": 8}) == ()
