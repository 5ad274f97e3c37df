from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from spaces import at_most, fix, given, parse_space, space_tree

BRANCHES = {
    "sgd": {"lr": {"float": [0.01, 1.0]}, "momentum": {"float": [0.5, 0.9]}},
    "adamw": {"lr": {"float": [1e-4, 0.01]}},
}
OPTIMIZER = {"optimizer": {"kind": {"choice": BRANCHES}}, "batch_size": {"choice": [32, 64]}}


def narrowed(change: Callable[..., Any], tree: dict[str, Any], *args: Any) -> dict[str, Any]:
    return space_tree(change(parse_space(tree), *args))


@pytest.mark.parametrize(
    ("config", "searched"),
    [
        ({"model": {"pretrained": "none"}}, False),
        ({"model": {"pretrained": None}}, False),
        ({"model": {}}, False),
        ({"model": {"pretrained": "weights.pt"}}, True),
    ],
)
def test_what_requires_a_value_is_searched_only_with_one(config: dict[str, Any], searched: bool) -> None:
    frozen = {"frozen_stages": {"int": [0, 4], "requires": "model.pretrained"}}
    tree = {"model": frozen, "batch_size": {"choice": {32: {"x": frozen}, 64: {}}}}
    left = narrowed(given, tree, config)
    assert ("model" in left) is searched
    # The requirement is met once and for all: it is gone from what is left, also below an option.
    assert left["batch_size"] == ({"choice": {32: {"x": {"frozen_stages": {"int": [0, 4]}}}, 64: {}}} if searched else
                                  {"choice": {32: {}, 64: {}}})  # fmt: skip


def test_a_fixed_path_is_searched_no_more_in_any_branch() -> None:
    left = narrowed(fix, OPTIMIZER, {"optimizer.lr": 0.3, "batch_size": 512})
    assert left == {"optimizer": {"kind": {"choice": {"sgd": {"momentum": {"float": [0.5, 0.9]}}, "adamw": {}}}}}


def test_a_choice_fixed_to_an_option_leaves_that_branch() -> None:
    left = narrowed(fix, OPTIMIZER, {"optimizer.kind": "sgd", "optimizer.momentum": 0.8})
    assert left == {"optimizer": {"lr": {"float": [0.01, 1.0]}}, "batch_size": {"choice": [32, 64]}}


def test_a_choice_fixed_elsewhere_leaves_nothing() -> None:
    assert narrowed(fix, OPTIMIZER, {"optimizer.kind": "rmsprop"}) == {"batch_size": {"choice": [32, 64]}}


def test_what_lies_below_a_fixed_path_goes_too() -> None:
    assert narrowed(fix, {"data": {"normalize": {"mean": {"float": [0, 1]}}, "x": 1}}, {"data.normalize": "auto"}) == {
        "data": {"x": 1}
    }


def capped(value: Any) -> Any:
    return None if value is None else min(value, 48)


@pytest.mark.parametrize(
    ("leaf", "left"),
    [
        ({"choice": [32, 48, 64]}, {"choice": [32, 48]}),
        ({"choice": [32, 64]}, 32),
        ({"choice": [64, 128]}, 48),
        ({"choice": [None, 64]}, None),
        ({"choice": {32: {"x": 1}, 64: {"x": 2}}}, {"choice": {32: {"x": 1}}}),
        ({"int": [16, 256], "log": True}, {"int": [16, 48], "log": True}),
        ({"int": [16, 256], "step": 20}, {"int": [16, 36], "step": 20}),
        ({"int": [16, 116], "step": 50}, 16),
        ({"int": [64, 128]}, 48),
        ({"int": [48, 128]}, 48),
        ({"int": [8, 32]}, {"int": [8, 32]}),
        ({"float": [0.0, 64.0]}, {"float": [0.0, 48.0]}),
        (64, 48),
        (32, 32),
    ],
)
def test_a_cap_drops_what_lies_above_it(leaf: Any, left: Any) -> None:
    assert narrowed(at_most, {"batch_size": leaf, "y": {"int": [1, 999]}}, {"batch_size": capped}) == {
        "batch_size": left, "y": {"int": [1, 999]},
    }  # fmt: skip


def test_a_choice_above_its_cap_keeps_what_hangs_on_its_first_option() -> None:
    tree = {"batch_size": {"choice": {64: {"x": {"int": [1, 2]}}, 128: {"x": {"int": [3, 4]}}}}}
    assert narrowed(at_most, tree, {"batch_size": capped}) == {"batch_size": 48, "x": {"int": [1, 2]}}
