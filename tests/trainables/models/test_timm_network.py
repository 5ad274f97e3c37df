"""timm's networks: stages, head, freezing, weights, small images, and every name or setting that is refused."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.config import ConfigError, Normalization, TimmModel, TrialConfig, dump_config, load_config, parse_config
from trainables.data.images import Images, load_splits
from trainables.models import build_model
from trainables.models.cost import batch_norm_problem, forward_gflops
from trainables.models.networks import build_network
from trainables.models.pretrained import IMAGENET, check_pretrained, pretrained_scale
from trainables.models.protocol import head, head_name, is_fusible, stages, train_mode
from trainables.training.loop import Run
from trainables.training.optim import build_optimizer

# Every block, stem and shortcut of timm's ResNets; weights of ten classes in millions, counted with timm 1.0.31.
RESNETS = {
    "resnet18d": 11.20, "resnet26d": 13.99, "resnet50d": 23.55, "resnetrs50": 33.66, "wide_resnet50_2": 66.85,
    "resnext50_32x4d": 23.00, "seresnet50": 26.06, "resnetv2_50": 23.52, "resnetv2_50x1_bit": 23.52,
    "resnetaa50": 23.53, "ecaresnet50t": 23.55, "resnet50_gn": 23.53,
}  # fmt: skip
TINY = {"kind": "timm", "name": "test_resnet", "small_images": True}


def _trial(**model: Any) -> TrialConfig:
    return parse_config({
        "model": TINY | model, "data": {"source": "synthetic", "train_samples": 32, "val_samples": 20},
        "optimizer": {"kind": "sgd", "lr": 0.05}, "batch_size": 16, "epochs": 1, "execution": {"device": "cpu"},
    })  # fmt: skip


def _tiny(**model: Any) -> TimmModel:
    config = _trial(**model).model
    assert isinstance(config, TimmModel)
    return config


def _saved(path: Path, classes: int = 7, **model: Any) -> dict[str, Any]:
    torch.manual_seed(3)
    weights = build_network(_tiny(**model), classes).state_dict()
    torch.save({"state_dict": {f"module.{name}": value for name, value in weights.items()}}, path)  # as its train.py
    return weights


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("name", RESNETS)
def test_a_resnet_has_five_stages_and_a_head_and_its_stem_keeps_small_images(name: str, small: bool) -> None:
    sides: list[int] = []
    with torch.device("meta"):
        model = build_network(TimmModel(name=name, small_images=small), 10)
        first = stages(model)[1][0]
        first.register_forward_pre_hook(lambda _, inputs: sides.append(inputs[0].shape[-1]))
        assert model(torch.empty(2, 3, 64, 64)).shape == (2, 10)
    assert len(stages(model)) == 5
    assert sides == [64 if small else 16]
    if not small:
        assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(
            RESNETS[name], abs=0.01
        )
    last = head(model)
    assert last is not None
    parts = [module for stage in stages(model) for module in stage] + [last]
    covered = [parameter for module in parts for parameter in module.parameters()]
    assert len(covered) == len(set(covered)) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("name", "count", "last"),
    [
        ("efficientnet_b0", 8, "classifier"), ("convnext_tiny", 5, "head.fc"), ("regnety_002", 5, "head.fc"),
        ("densenet121", 5, "classifier"), ("vit_tiny_patch16_224", 0, "head"),
        ("deit_tiny_distilled_patch16_224", 0, None),
    ],
)  # fmt: skip
def test_other_networks_have_the_stages_that_can_be_frozen_as_modules(name: str, count: int, last: str | None) -> None:
    with torch.device("meta"):
        model = build_network(TimmModel(name=name), 10)
    assert (len(stages(model)), head_name(model)) == (count, last)


def test_weights_of_other_classes_frozen_stages_and_rates_of_head_and_backbone(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    weights = _saved(path)
    config = _tiny(pretrained=str(path), frozen_stages=2)
    loaded = check_pretrained(config, 10)
    assert loaded is not None
    assert loaded.new == ("fc",)
    model = build_model(config, 10, (32, 32))
    assert torch.equal(model.get_parameter("layer4.0.conv1.weight"), weights["layer4.0.conv1.weight"])
    train_mode(model)
    assert [module.training for stage in stages(model) for module in stage] == [False, False, False, *[True] * 3]
    optimizer = parse_config({"optimizer": {"kind": "sgd", "backbone_lr_ratio": 0.1}}).optimizer
    assert [(group["name"], group["lr_ratio"]) for group in build_optimizer(optimizer, model).param_groups] == [
        ("backbone", 0.1), ("head", 1.0),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"model\.frozen_stages: must be at most 5, the number of stages of test_res"):
        build_model(config.model_copy(update={"frozen_stages": 6}), 10)
    with pytest.raises(ConfigError, match=r"a resnet10t of timm .*set model\.kind, name and small_images to match"):
        check_pretrained(TimmModel(name="resnet10t", pretrained=str(path)), 10)


def test_weights_bring_timms_normalization(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(build_network(TimmModel(name="resnet18d"), 7).state_dict(), path)  # its stem is not one convolution
    pixels = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    found = [
        pretrained_scale(model, Images(torch.zeros(2, dtype=torch.int64), pixels, 8), IMAGENET)
        for model in (
            TimmModel(name="resnet18d", pretrained=str(path)), TimmModel(name="test_resnet", pretrained="timm"),
        )
    ]  # fmt: skip
    half = Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert [scale and scale.normalization for scale in found] == [IMAGENET, half]
    assert ["assumed" in scale.words for scale in found if scale is not None] == [True, False]


def test_published_weights_that_are_not_here_are_refused_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = importlib.import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    config = TimmModel(name="test_resnet", pretrained="timm:r160_in1k")
    with pytest.raises(ConfigError) as caught:
        check_pretrained(config, 10)
    assert "must be downloadable" in str(caught.value)
    assert "timm.create_model('test_resnet.r160_in1k', pretrained=True)" in str(caught.value)


def test_a_trial_trains_resumes_and_keeps_its_config(tmp_path: Path) -> None:
    config = _trial(drop_path=0.2, dropout=0.1)
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config))
    assert load_config(path) == config
    splits = load_splits(config.data, tmp_path / "cache")
    run = Run(config, splits)
    steps = run.steps()
    next(steps)
    state = run.state_dict()
    state = {key: value.copy() if isinstance(value, dict) else value for key, value in state.items()}
    state["model"] = {name: value.clone() for name, value in run.network.state_dict().items()}
    (result,) = [found for found in steps if found is not None]
    again = Run(config, splits)
    again.load_state_dict(state)
    (resumed,) = [found for found in again.steps() if found is not None]
    assert resumed.last
    assert result.last
    assert run.fusion is None  # it draws random numbers


def test_resnets_without_dropout_can_be_trained_as_one() -> None:
    assert is_fusible(build_network(_tiny(), 2))
    assert not is_fusible(build_network(TimmModel(name="efficientnet_b0"), 2))


def test_drop_path_rises_with_depth_and_is_refused_where_there_is_none() -> None:
    rates = [m.drop_prob for m in build_network(_tiny(drop_path=0.3), 2).modules() if type(m).__name__ == "DropPath"]
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(0.3)
    refused = pytest.raises(ConfigError, match=r"model\.drop_path: must be 0: timm's vgg11 takes no drop_path_rate")
    with refused, torch.device("meta"):
        build_network(TimmModel(name="vgg11", drop_path=0.1), 2)


@pytest.mark.parametrize(
    ("model", "path", "rule"),
    [
        ({"name": "resnet50dd"}, "model.name", "did you mean resnet50d"),
        ({"name": "qqqq"}, "model.name", "timm.list_models('*resnet*') lists them"),
        ({"name": "resnet50d.ra2_in1k"}, "model.name", "write name: resnet50d, pretrained: timm:ra2_in1k"),
        ({"name": "hf-hub:someone/resnet"}, "model.name", "must be a model of timm"),
        ({"name": "MyNet"}, "model.name", "a network of your own is FILE:FUNCTION, without .py, such as my_net:build"),
        ({"name": "resnet50d", "pretrained": "timm:ra9"}, "model.pretrained", "or one of timm:a1_in1k, "),
        ({"name": "resnet18d", "pretrained": "torchvision:DEFAULT"}, "model.pretrained", "for its own networks"),
        ({"name": "resnet50d", "frozen_stages": 1}, "model.frozen_stages", "must be 0 unless"),
        ({"name": "resnet50d", "drop_path_rate": 0.1}, "model.drop_path_rate", "did you mean `model.drop_path`?"),
        ({}, "model.name", "is required"),
    ],
)
def test_a_wrong_name_or_setting_is_one_line(model: dict[str, Any], path: str, rule: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"model": {"kind": "timm", **model}})
    assert [problem.path for problem in caught.value.problems] == [path]
    assert rule in str(caught.value)


def test_images_or_stems_that_a_network_lacks_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.name: must take images \[b, 3, 32, 32\], and fails on them"):
        build_model(TimmModel(name="vit_tiny_patch16_224"), 2, (32, 32))
    assert forward_gflops(TimmModel(name="vit_tiny_patch16_224"), 32) is None
    refused = pytest.raises(
        ConfigError, match=r"model\.small_images: must be false: convnext_tiny of timm is no ResNet"
    )
    with refused, torch.device("meta"):
        build_network(TimmModel(name="convnext_tiny", small_images=True), 2)
    one = _trial(small_images=False).model_copy(update={"batch_size": 1})
    problem = batch_norm_problem(one, 10, (32, 32))
    assert problem is not None
    assert "model.small_images: true, or data.resolution above 32" in problem.rule
