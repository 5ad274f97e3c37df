from __future__ import annotations

from pathlib import Path

from search.planning.preflight import check_inputs, coarse_stems, possible_configs
from search.study.parse import parse_study
from search.study.spec import StudySpec
from tests.search.sample_study import sample_spec
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
    tree = sample_spec().model_dump()
    tree["trial"] = {"model": {"kind": "torchvision_resnet", "depth": 18}, "data": {"source": "digits"}, "optimizer": {"kind": "sgd"}}
    spec = StudySpec.model_validate(tree)
    (line,) = coarse_stems(spec, check_inputs(spec, tmp_path))
    assert "too coarse for images of 8 pixels, whose last maps are 1 x 1" in line
    tree["trial"] = {"model": {"kind": "cifar_resnet", "depth": 8}, "data": {"source": "digits"}, "optimizer": {"kind": "sgd"}}
    spec = StudySpec.model_validate(tree)
    assert coarse_stems(spec, check_inputs(spec, tmp_path)) == ()
