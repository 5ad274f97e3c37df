from __future__ import annotations

from search.planning.preflight import possible_configs
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
