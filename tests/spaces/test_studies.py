"""The studies that ship, and the page about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.study.overrides import override
from search.study.parse import load_study
from search.study.spec import StudySpec
from spaces import Choice, Fixed, Float, Int, Space, parse_space, path_of, read_study, space_rows, study_names
from spaces.domains import domain_text
from trainables.config import CifarResNet, Constant, SyntheticCurve, TorchvisionResNet

ROOT = Path(__file__).parents[2]
SHIPPED = [
    "cifar10_resnet110", "cifar10_resnet20", "cifar10_resnet50_transfer", "digits_resnet8", "imagefolder_resnet50",
    "imagefolder_transfer", "synthetic",
]  # fmt: skip


def study(name: str) -> StudySpec:
    spec = load_study(name)
    return override(spec, data="imagefolder:images") if spec.trial["data"]["source"] is None else spec


def searched(spec: StudySpec) -> set[str]:
    return {path_of(key) for key in spec.parsed_space.domains()}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_study_is_whole(name: str) -> None:
    spec = study(name)
    assert spec.study == name
    assert spec.description
    assert len(spec.recipes) >= 2
    assert all(recipe.description and recipe.source for recipe in spec.recipes.values())
    assert {"optimizer.kind", "optimizer.lr", "optimizer.weight_decay", "schedule.kind"} <= searched(spec)
    first = next(iter(spec.recipes.values()))
    assert spec.locate(first.config) is not None  # so that the search learns from it
    assert spec.locate(spec.recipes["naive"].config) is None
    naive = spec.trial_config(spec.recipes["naive"].config)
    assert (naive.optimizer.kind, naive.optimizer.lr, naive.optimizer.weight_decay) == ("adam", 1e-3, 0)
    assert naive.schedule == Constant()
    assert naive.augment.strength == 0
    assert naive.regularization == type(naive.regularization)()


def test_the_network_of_each_study() -> None:
    assert study_names() == SHIPPED
    assert {name: study(name).trial_config({}).model for name in SHIPPED} == {
        "cifar10_resnet110": CifarResNet(depth=110),
        "cifar10_resnet20": CifarResNet(depth=20),
        "cifar10_resnet50_transfer": TorchvisionResNet(depth=50, pretrained="torchvision:IMAGENET1K_V2"),
        "digits_resnet8": CifarResNet(depth=8),
        "imagefolder_resnet50": TorchvisionResNet(depth=50, pretrained="torchvision:IMAGENET1K_V2"),
        "imagefolder_transfer": TorchvisionResNet(depth=18, pretrained="torchvision:IMAGENET1K_V1"),
        "synthetic": SyntheticCurve(),
    }


@pytest.mark.parametrize("name", ["cifar10_resnet20", "cifar10_resnet110"])
def test_the_published_recipe_is_that_of_the_paper(name: str) -> None:
    spec = study(name)
    config = spec.trial_config(spec.recipes["he2015"].config)
    optimizer, schedule, augment = config.optimizer, config.schedule, config.augment
    assert optimizer.kind == "sgd"
    assert (optimizer.lr, optimizer.momentum, optimizer.nesterov, optimizer.weight_decay) == (0.1, 0.9, False, 1e-4)
    assert optimizer.decay_norm_and_bias
    assert schedule.kind == "step"
    assert (schedule.milestones, schedule.gamma) == ((32_000 / 64_000, 48_000 / 64_000), 0.1)
    assert schedule.warmup == (400 / 64_000 if name == "cifar10_resnet110" else 0)
    assert (augment.strength, augment.pad_crop * 32, augment.flip) == (1.0, 4, True)
    assert (augment.policy, augment.cutout, augment.mixup, augment.cutmix) == ("none", 0, 0, 0)
    assert (config.batch_size, config.regularization.label_smoothing, config.data.val_fraction) == (128, 0, 0.1)


@pytest.mark.parametrize("name", ["cifar10_resnet20", "cifar10_resnet110"])
def test_freeze_depth_is_searched_as_soon_as_weights_are_given(name: str) -> None:
    gated = {"model.frozen_stages", "optimizer.backbone_lr_ratio"}
    assert not gated & searched(study(name))
    assert gated <= searched(override(study(name), sets=["model.pretrained=weights.pt"]))


def test_a_resnet_50_from_scratch_is_an_easy_override() -> None:
    spec = override(study("imagefolder_resnet50"), sets=["model.pretrained=none"])
    assert not {"model.frozen_stages", "optimizer.backbone_lr_ratio"} & searched(spec)
    for recipe in spec.recipes.values():
        assert spec.trial_config(recipe.config).model == TorchvisionResNet(depth=50)


def test_the_transfer_study_searches_what_the_question_is_about() -> None:
    spec = study("cifar10_resnet50_transfer")
    assert {"model.frozen_stages", "optimizer.backbone_lr_ratio", "data.resolution"} <= searched(spec)
    naive = spec.trial_config(spec.recipes["naive"].config)
    assert naive.data.resolution == 32
    assert isinstance(naive.model, TorchvisionResNet)
    assert naive.model.frozen_stages == 5


def test_digits_are_never_flipped() -> None:
    spec = study("digits_resnet8")
    assert not spec.trial["augment"]["flip"]
    assert "augment.flip" not in searched(spec)
    assert spec.budget.trials >= 12


# --- the page


def test_the_page_of_studies_is_whole() -> None:
    page = (ROOT / "docs/studies.md").read_text(encoding="utf-8")
    for name in SHIPPED:
        space = parse_space(read_study(name)["space"])
        rows = space_rows(space)
        assert [path for path, _, _ in rows] == [path_of(key) for key in space.domains()]
        section = page.split(f"## {name}\n")[1]
        assert all(f"| `{path}` | {values} | {when} |" in section for path, values, when in rows)


def test_a_row_says_on_what_it_hangs() -> None:
    inner = {"lr": {"float": [0.1, 1], "log": True, "requires": "model.pretrained"}}
    space = parse_space({"o": {"kind": {"choice": {"sgd": inner, "adam": {}}}}})
    assert space_rows(space) == [
        ("o.kind", "sgd, adam", ""),
        ("o.lr", "0.1 to 1, log", "o.kind is sgd, with model.pretrained"),
    ]


def test_domains_in_words() -> None:
    assert domain_text(Float(1e-5, 0.5, log=True)) == "1e-05 to 0.5, log"
    assert domain_text(Float(0, 1, step=0.25)) == "0 to 1, step 0.25"
    assert domain_text(Int(1, 5)) == "1 to 5"
    assert domain_text(Int(0, 2_000_000, step=2)) == "0 to 2000000, step 2"
    assert domain_text(Choice((None, True, 0.5, "a"), (Space(),) * 4)) == "null, true, 0.5, a"
    assert domain_text(Fixed((0.3, 0.6))) == "0.3, 0.6 (fixed)"


def test_studies_are_read_from_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spaces").mkdir()
    (tmp_path / "spaces" / "synthetic.yaml").write_text("not: this")
    monkeypatch.chdir(tmp_path)
    assert load_study("synthetic").study == "synthetic"
    with pytest.raises(KeyError):
        read_study("../synthetic")
