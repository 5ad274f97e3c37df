from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.algorithms.schedulers.halving import rung_levels
from search.algorithms.schedulers.registry import build_scheduler
from search.study.overrides import override
from search.study.parse import load_study, parse_study
from search.study.settings import ASHASettings, NoSchedulerSettings
from search.study.smoke import shrink
from search.study.spec import StudySpec
from spaces import Choice, study_names, walk
from trainables.config import TrialConfig

NAMES = study_names()


def small(name: str, **options: Any) -> StudySpec:
    spec = load_study(name)
    if spec.trial["data"]["source"] is None:
        options = {"data": "imagefolder:images"} | options
    return shrink(override(spec, **options))


def configs(spec: StudySpec) -> list[TrialConfig]:
    """The recipes, and a draw from either end of the space."""

    def end(last: bool) -> dict[str, Any]:
        def draw(_: str, domain: Any) -> Any:
            if isinstance(domain, Choice):
                return domain.options[-1 if last else 0]
            return domain.high if last else domain.low

        return walk(spec.parsed_space, draw).tree

    trees = [*(recipe.config for recipe in spec.recipes.values()), end(False), end(True)]
    return [spec.trial_config(tree) for tree in trees]


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_small_but_the_model(name: str) -> None:
    spec = small(name)
    assert spec.budget.trials <= max(8, len(spec.recipes) + 3)
    assert spec.budget.epochs <= 4
    assert spec.resources.concurrent in (1, 2)
    assert spec.refit is None or spec.most_scored(10_000) <= 4 * 400
    whole = load_study(name)
    assert spec.trial["model"] == whole.trial["model"]
    assert spec.recipes.keys() >= whole.recipes.keys()
    for config in configs(spec):
        assert config.batch_size <= 16
        assert (config.data.resolution or 32) <= 64
        assert config.data.train_samples is not None
        assert config.data.train_samples <= 1024
        assert config.data.val_samples is not None
        assert config.data.val_samples + config.data.train_eval_samples <= config.data.train_samples


@pytest.mark.parametrize("name", NAMES)
def test_asha_has_two_rungs_and_trials_enough_to_stop_some(name: str) -> None:
    spec = small(name)
    assert isinstance(spec.scheduler, ASHASettings)
    levels = rung_levels(spec.scheduler.grace_period, spec.scheduler.reduction_factor, spec.budget.epochs)
    assert len(levels) >= 2
    assert spec.budget.trials - len(spec.recipes) >= 3
    # Among equally spread trials, recipes first, some are stopped.
    scheduler = build_scheduler(spec)
    stopped = [scheduler.on_result(trial, levels[0], 1.0 / (trial + 1)).stop for trial in range(spec.budget.trials)]
    assert any(stopped)


def test_a_resnet_110_takes_minutes_on_two_cores() -> None:
    spec = small("cifar10_resnet110", data="parquet:images")
    assert spec.budget.trials >= 6
    assert spec.trial["model"]["depth"] == 110
    data = spec.trial["data"]
    epochs = len(spec.recipes) * spec.budget.epochs + 2 * (spec.budget.trials - len(spec.recipes))
    seconds = epochs / 2 * (data["train_samples"] / 27 + (data["val_samples"] + data["train_eval_samples"]) / 81)
    assert seconds < 120  # without the start; five minutes where the cores are half taken


def test_deeper_networks_see_fewer_images() -> None:
    def images(depth: int) -> int:
        spec = override(load_study("cifar10_resnet20"), sets=[f"model.depth={depth}"])
        count: int = shrink(spec).trial_config({}).data.train_samples or 0
        return count

    assert images(8) == 1024
    assert 1024 > images(20) > images(56) > images(110) > images(1202) == 64


def test_large_images_are_made_small() -> None:
    photos = parse_study({
        "study": "photos", "budget": {"trials": 4, "epochs": 2},
        "trial": {"model": {"kind": "torchvision_resnet", "depth": 18}, "data": {"source": "imagefolder:/photos"}},
        "space": {"data": {"resolution": {"choice": [None, 96, 224]}}},
    })  # fmt: skip
    shrunk = shrink(photos)
    assert {config.data.resolution for config in configs(shrunk)} == {64}
    assert shrunk.budget.trials == 1, "nothing is left to search"


def test_the_costliest_network_that_is_searched_counts() -> None:
    spec = load_study("cifar10_resnet20")
    depths = {**spec.space, "model": {"depth": {"choice": [8, 110, 20]}}}
    searched = parse_study({**spec.model_dump(), "space": depths})
    assert (
        shrink(searched).trial["data"]["train_samples"]
        == shrink(load_study("cifar10_resnet110")).trial["data"]["train_samples"]
    )


def test_small_images_keep_their_size() -> None:
    assert small("cifar10_resnet110").trial["data"]["resolution"] is None
    assert small("digits_resnet8").trial["data"]["resolution"] is None
    assert small("cifar10_resnet110", data="parquet:images").trial["data"]["resolution"] == 32


def test_what_was_set_is_capped_too() -> None:
    spec = small("cifar10_resnet20", sets=["batch_size=512", "data.train_samples=5000", "optimizer.lr=0.3"], trials=3)
    assert spec.fixed == {"batch_size": 16, "data.train_samples": 740, "optimizer.lr": 0.3}
    assert spec.budget.trials == 3
    assert small("cifar10_resnet20", sets=["batch_size=4"]).trial_config({}).batch_size == 4


def test_shorter_runs_still_have_a_scheduler_that_fits() -> None:
    assert small("digits_resnet8", epochs=2).scheduler == ASHASettings(grace_period=1, reduction_factor=2)
    assert small("digits_resnet8", epochs=1, sets=["scheduler.kind=none"]).scheduler == NoSchedulerSettings()
    assert small("digits_resnet8", sets=["scheduler.reduction_factor=8"]).scheduler == ASHASettings(reduction_factor=3)


def test_trials_that_want_every_core_run_alone() -> None:
    assert small("digits_resnet8", cpus_per_trial=4096).resources.concurrent == 1
    assert small("digits_resnet8", concurrent=1).resources.concurrent == 1


def test_shrinking_twice_changes_nothing(tmp_path: Path) -> None:
    for name in NAMES:
        spec = small(name)
        assert shrink(spec) == spec
