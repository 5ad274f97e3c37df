"""A search with a smaller network: what it trains, what is carried over, and which studies cannot have one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from search.study.overrides import override
from search.study.parse import load_study, parse_study
from search.study.proxy import carried_over, scaled_rate
from search.study.smoke import shrink
from trainables.config import CifarResNet, ConfigError, TorchvisionResNet, WideResNet
from trainables.models.networks import build_network

BLOCKS = ("BasicBlockA", "PreActivationBlock", "BasicBlock", "Bottleneck")
TREE: dict[str, Any] = {
    "study": "deep",
    "trial": {"model": {"kind": "cifar_resnet", "depth": 56}, "data": {"source": "digits"}},
    "space": {"optimizer": {"kind": {"choice": {
        "sgd": {"lr": {"float": [0.01, 1.0], "log": True}}, "adamw": {"lr": {"float": [1e-4, 0.01], "log": True}},
    }}}},
    "recipes": {"naive": {"config": {"optimizer": {"kind": "adam"}}}},
    "budget": {"trials": 5, "epochs": 9},
    "refit": {"top": 2, "seeds": 3},
    "proxy": {"depth": 20, "train_samples": 500},
}  # fmt: skip


def test_the_search_trains_the_small_network_and_the_study_keeps_its_own() -> None:
    spec = parse_study(TREE)
    small, own = (each.trial_config(spec.recipe_config("naive")) for each in spec.phases)
    assert (small.model, small.data.train_samples) == (CifarResNet(depth=20), 500)
    assert (own.model, own.data.train_samples) == (CifarResNet(depth=56), None)
    assert small.optimizer == own.optimizer
    assert spec.most_refit_runs == (2 + 1 + 1) * 3  # the best trial is raced with both learning rates
    assert parse_study({**TREE, "proxy": {"train_samples": 500}}).most_refit_runs == (2 + 1) * 3
    assert parse_study(spec.model_dump()) == spec


def test_it_is_part_of_what_a_study_is_and_changes_no_study_without_one() -> None:
    spec, plain = parse_study(TREE), parse_study({key: value for key, value in TREE.items() if key != "proxy"})
    assert "proxy" not in plain.model_dump()
    assert "proxy" not in plain.identity()
    assert plain.phases == (plain,)
    assert plain.difference(spec) == ["proxy.depth: (not set) -> 20", "proxy.train_samples: (not set) -> 500"]


def test_the_rate_of_sgd_is_carried_by_effective_depth_and_all_else_stays() -> None:
    spec = parse_study(TREE)
    assert spec.proxy is not None
    own = spec.own.trial_config({})
    found = spec.trial_config({"optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.8}, "batch_size": 32})
    config = found.model_dump(mode="json")
    scaled, words = carried_over(config, spec.proxy, own, scaled=True)
    # 20 layers: stem, 9 additions and the linear layer; 56 layers: 27 additions
    assert scaled["optimizer"] == {**config["optimizer"], "lr": pytest.approx(0.1 * (11 / 29) ** 1.5)}
    assert words == (
        "settings as found at depth 20 on 500 images; learning rate carried from 0.1 to 0.0234 by depth^(-3/2)"
    )
    kept, words = carried_over(config, spec.proxy, own, scaled=False)
    assert words == "all settings as found at depth 20 on 500 images"
    network = {"model": own.model.model_dump(), "data": own.data.model_dump(mode="json")}
    assert kept == {**config, **network}
    assert scaled == {**kept, "optimizer": scaled["optimizer"]}
    adam = spec.trial_config({"optimizer": {"kind": "adamw", "lr": 0.001}}).model_dump(mode="json")
    assert carried_over(adam, spec.proxy, own, scaled=True) == carried_over(adam, spec.proxy, own, scaled=False)


@pytest.mark.parametrize(
    "config",
    [
        CifarResNet(depth=20), CifarResNet(depth=56), WideResNet(depth=16, width=1), WideResNet(depth=28, width=2),
        *(TorchvisionResNet(depth=depth) for depth in (18, 34, 50, 101, 152)),
    ],
)  # fmt: skip
def test_the_effective_depth_is_that_of_the_network(config: CifarResNet | WideResNet | TorchvisionResNet) -> None:
    with torch.device("meta"):
        modules = list(build_network(config, 10).modules())
    blocks = [module for module in modules if type(module).__name__ in BLOCKS]
    projections = [m for m in blocks for name in ("shortcut", "downsample") if getattr(m, name, None) is not None]
    assert config.effective_depth == 1 + len(blocks) + len(projections) + 1  # stem and linear layer


def test_the_law() -> None:
    assert scaled_rate(0.1, CifarResNet(depth=8), CifarResNet(depth=8)) == 0.1
    assert scaled_rate(0.1, CifarResNet(depth=8), CifarResNet(depth=110)) == pytest.approx(0.1 * (5 / 56) ** 1.5)


@pytest.mark.parametrize(
    ("changes", "path", "rule"),
    [
        ({"proxy": {}}, "proxy", "must set depth or train_samples"),
        ({"proxy": {"depths": 8}}, "proxy.depths", "unknown key"),
        ({"proxy": {"depth": 56}}, "proxy.depth", "must be below the study's own model.depth, 56"),
        ({"proxy": {"depth": 18}}, "proxy.depth", "must be 6n+2, for example 14 or 20"),
        ({"refit": None}, "proxy", "needs `refit`"),
        ({"trial": {"model": {"kind": "synthetic"}}}, "proxy.depth", "synthetic has no depth"),
        ({"space": {"model": {"depth": {"choice": [32, 56]}}}}, "proxy.depth", "or model.depth out of space"),
        ({"recipes": {"wide": {"config": {"model": {"kind": "wide_resnet"}}}}}, "proxy.depth", "or model.kind out of"),
        ({"space": {"data": {"train_samples": {"int": [600, 900]}}}}, "proxy.train_samples", "or data.train_samples"),
        ({"fixed": {"data.train_samples": 500}}, "proxy.train_samples", "own data.train_samples, 500"),
    ],
)
def test_a_proxy_that_makes_no_sense_is_refused(changes: dict[str, Any], path: str, rule: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_study({**TREE, **changes})
    assert [problem.path for problem in caught.value.problems] == [path]
    assert rule in caught.value.problems[0].rule


def test_what_is_fixed_is_not_searched_and_may_have_a_proxy() -> None:
    tree = {**TREE, "space": {**TREE["space"], "model": {"depth": {"choice": [32, 56]}}}}
    spec = override(tree, sets=["model.depth=32", "proxy.depth=8"])
    assert [phase.trial_config({}).model for phase in spec.phases] == [CifarResNet(depth=8), CifarResNet(depth=32)]
    with pytest.raises(ConfigError, match=r"--set proxy\.depth: must be below"):
        override(spec, sets=["proxy.depth=38"])


def test_a_smoke_run_keeps_the_proxy_below_its_own_images() -> None:
    spec = shrink(override(load_study("cifar10_resnet20"), sets=["proxy.depth=8", "proxy.train_samples=10000"]))
    small, own = (phase.trial_config({}) for phase in spec.phases)
    assert (small.model, own.model) == (CifarResNet(depth=8), CifarResNet(depth=20))
    assert 0 < small.data.train_samples < own.data.train_samples  # type: ignore[operator]
