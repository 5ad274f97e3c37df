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


@pytest.mark.parametrize(
    ("fixed", "left"),
    [
        (  # in every branch
            {"optimizer.lr": 0.3, "batch_size": 512},
            {"optimizer": {"kind": {"choice": {"sgd": {"momentum": {"float": [0.5, 0.9]}}, "adamw": {}}}}},
        ),
        (  # a choice fixed to one of its options leaves what hangs on it
            {"optimizer.kind": "sgd", "optimizer.momentum": 0.8},
            {"optimizer": {"lr": {"float": [0.01, 1.0]}}, "batch_size": {"choice": [32, 64]}},
        ),
        ({"optimizer.kind": "rmsprop"}, {"batch_size": {"choice": [32, 64]}}),
        ({"optimizer": "auto"}, {"batch_size": {"choice": [32, 64]}}),  # what lies below goes too
    ],
)
def test_a_fixed_path_is_no_longer_searched(fixed: dict[str, Any], left: dict[str, Any]) -> None:
    assert narrowed(fix, OPTIMIZER, fixed) == left


def capped(value: Any) -> Any:
    return None if value is None else min(value, 48)


@pytest.mark.parametrize(
    ("leaf", "left"),
    [
        ({"choice": [32, 48, 64]}, {"choice": [32, 48]}),
        ({"choice": [32, 64]}, 32),
        ({"choice": [None, 64]}, None),
        ({"choice": {32: {"x": 1}, 64: {"x": 2}}}, {"choice": {32: {"x": 1}}}),
        ({"int": [16, 256], "log": True}, {"int": [16, 48], "log": True}),
        ({"int": [16, 256], "step": 20}, {"int": [16, 36], "step": 20}),
        ({"int": [16, 116], "step": 50}, 16),
        ({"int": [64, 128]}, 48),
        ({"int": [8, 32]}, {"int": [8, 32]}),
        ({"float": [0.0, 64.0]}, {"float": [0.0, 48.0]}),
        (64, 48),
        (32, 32),
    ],
)
def test_a_cap_drops_what_lies_above_it(leaf: Any, left: Any) -> None:
    other = {"y": {"int": [1, 999]}}
    assert narrowed(at_most, {"batch_size": leaf, **other}, {"batch_size": capped}) == {"batch_size": left, **other}
    choice = {"choice": {64: {"x": {"int": [1, 2]}}, 128: {"x": {"int": [3, 4]}}}}  # no option is left but the first
    assert narrowed(at_most, {"batch_size": choice}, {"batch_size": capped}) == {"batch_size": 48, "x": {"int": [1, 2]}}
