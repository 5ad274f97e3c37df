"""From one config to another, one valid change at a time."""

from __future__ import annotations

from itertools import chain, combinations
from typing import Any

import pytest

from search.analysis.changes import apply, changes, on_common_ground
from trainables.config import ConfigError, parse_config

NAIVE = {"optimizer": {"kind": "adam", "lr": 1e-3}, "schedule": {"kind": "constant"}, "augment": {"strength": 0.0}}


def config(**parts: Any) -> dict[str, Any]:
    return parse_config({"data": {"source": "cifar10"}, **parts}).model_dump(mode="json")


def every_subset(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Each is valid, and all of them lead to the goal."""
    found = changes(old, new)
    for made in chain.from_iterable(combinations(found, size) for size in range(len(found) + 1)):
        parse_config(apply(old, made))
    assert parse_config(apply(old, found)) == parse_config(new)


def test_a_part_of_another_kind_changes_as_a_whole_and_every_other_setting_alone() -> None:
    new = config(
        optimizer={"kind": "sgd", "lr": 0.13, "momentum": 0.9, "weight_decay": 5e-4}, schedule={"kind": "cosine"},
        augment={"strength": 0.62, "flip": True}, regularization={"label_smoothing": 0.1, "clip_norm": 1.0},
    )  # fmt: skip
    old = config(**NAIVE)
    assert [change.text for change in changes(old, new)] == [
        "augment.strength 0 -> 0.62",
        "augment.flip false -> true",
        "optimizer adam -> sgd (lr 0.13, weight_decay 0.0005, momentum 0.9)",
        "schedule constant -> cosine",
        "regularization.label_smoothing 0 -> 0.1",
        "regularization.clip_norm null -> 1",
    ]
    assert [change.name for change in changes(old, new)][2:4] == ["optimizer", "schedule"]
    every_subset(old, new)
    assert not changes(new, new)


def test_settings_of_one_kind_change_one_by_one() -> None:
    old, new = config(), config(optimizer={"kind": "sgd", "lr": 0.3, "weight_decay": 1e-3}, batch_size=64)
    assert [change.name for change in changes(old, new)] == ["optimizer.lr", "optimizer.weight_decay", "batch_size"]


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        (
            {"optimizer": {"kind": "sgd", "momentum": 0.0, "lr": 0.2}},
            {"optimizer": {"kind": "sgd", "momentum": 0.9, "nesterov": True}},
            ["optimizer.lr", "optimizer.momentum + optimizer.nesterov"],
        ),
        (
            {"augment": {"pad_crop": 0.125, "cutout": 0.5}}, {"augment": {"resized_crop": 0.5}},
            ["augment.pad_crop + augment.resized_crop", "augment.cutout"],
        ),
        (
            {"model": {"kind": "torchvision_resnet", "depth": 18}},
            {
                "model": {
                    "kind": "torchvision_resnet", "depth": 50, "pretrained": "torchvision:DEFAULT", "frozen_stages": 2,
                    "dropout": 0.1,
                },
            },
            ["model.dropout", "model.pretrained + model.depth + model.frozen_stages"],
        ),
        (
            {"model": {"kind": "cifar_resnet", "pretrained": "a.pt", "frozen_stages": 4}}, {},
            ["model.pretrained + model.frozen_stages"],
        ),
    ],
)  # fmt: skip
def test_what_is_not_valid_alone_changes_together(old: Any, new: Any, names: list[str]) -> None:
    old, new = config(**old), config(**new)
    assert [change.name for change in changes(old, new)] == names
    every_subset(old, new)


def test_what_trials_share_is_the_study_s() -> None:
    mine = config(epochs=200, seed=7, data={"source": "cifar100", "resolution": 64}, execution={"device": "cpu"})
    best = config(epochs=9, seed=3, optimizer={"kind": "sgd", "lr": 0.5})
    moved, told = on_common_ground(mine, best)
    assert told == ["data.source cifar100 -> cifar10", "epochs 200 -> 9"]
    assert moved["execution"] == best["execution"]
    assert [change.name for change in changes(mine, best)] == ["data.resolution", "optimizer.lr"]
    assert apply(moved, changes(mine, best)) == best


def test_a_table_s_columns_are_the_study_s() -> None:
    best = config(data={"source": "parquet:x", "columns": {"image": "picture"}})
    moved, told = on_common_ground(config(), best)
    assert moved == best
    assert told == ["data.source cifar10 -> parquet:x", "data.columns.image null -> picture"]


def test_a_baseline_that_the_study_s_images_rule_out_is_refused() -> None:
    best = config(data={"source": "digits"})
    with pytest.raises(ConfigError, match="augment: `flip` must be false for digits"):
        changes(config(augment={"flip": True}), best)


def test_keys_that_a_config_leaves_out_while_they_have_their_default_change_like_all_others() -> None:
    plain = parse_config({"data": {"source": "synthetic"}}).model_dump(mode="json")
    settings = {"loss": "bce", "augment": {"flip": True, "flip_order": "alternating", "first_scale": 0.5}}
    best = parse_config({"data": {"source": "synthetic"}, **settings}).model_dump(mode="json")
    there, back = changes(plain, best), changes(best, plain)
    assert [change.text for change in there] == [
        "augment.flip false -> true", "augment.flip_order random -> alternating", "augment.first_scale 1 -> 0.5",
        "loss cross_entropy -> bce",
    ]  # fmt: skip
    assert (apply(plain, there), apply(best, back)) == (best, plain)
