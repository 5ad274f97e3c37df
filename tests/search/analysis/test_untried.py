"""What a study has never tried, in words."""

from __future__ import annotations

import math
from typing import Any

from search.analysis.untried import untried
from tests.search.analysis.studies import healthy, searched, spec_of

FIXED = {"scheduler": {"kind": "none"}, "recipes": {}}


def points(space: dict[str, Any], *configs: dict[str, Any]) -> list[str]:
    """What is said of a study whose trials are these recipes."""
    recipes = {f"r{number}": {"config": config} for number, config in enumerate(configs)}
    spec = spec_of(len(configs), space=space, recipes=recipes, scheduler={"kind": "none"})
    return untried(searched(spec, lambda config, draws: [0.5]))


def test_options_and_thirds_without_a_trial() -> None:
    space = {
        "optimizer": {
            "kind": {
                "choice": {"sgd": {"lr": {"float": [1e-3, 1.0], "log": True}}, "adamw": {"lr": {"float": [1e-4, 0.1]}}}
            }
        },
        "augment": {"strength": {"float": [0.0, 0.9]}, "randaugment_ops": {"int": [1, 4]}},
        "batch_size": {"choice": [32, 64, 128]},
    }
    said = points(
        space,
        {"optimizer": {"kind": "sgd", "lr": 0.5}, "augment": {"strength": 0.1, "randaugment_ops": 1}, "batch_size": 64},
        {
            "optimizer": {"kind": "sgd", "lr": 0.002},
            "augment": {"strength": 0.2, "randaugment_ops": 3},
            "batch_size": 64,
        },
    )
    assert said[:5] == [
        "optimizer.kind: no trial had adamw",
        "optimizer.lr (optimizer.kind=sgd): no trial in the middle third (0.01 to 0.1) of 0.001 to 1, log",
        "augment.strength: no trial in the middle third (0.3 to 0.6) and the upper third (0.6 to 0.9) of 0 to 0.9",
        "augment.randaugment_ops: no trial had 2, 4",
        "batch_size: no trial had 32, 128",
    ]
    assert "regularization.label_smoothing (label smoothing): fixed at 0.0" in said
    assert "optimizer.weight_decay (weight decay): fixed at 0.0" in said
    assert not any(line.startswith("augment.strength (") for line in said)


def test_what_recipes_vary_in_is_not_fixed() -> None:
    said = points(
        {"batch_size": {"choice": [32, 64]}}, {"batch_size": 32}, {"batch_size": 64, "augment": {"cutout": 0.5}}
    )
    assert not any("cutout" in line or "batch_size" in line for line in said)


def test_only_what_the_trials_could_have_is_named() -> None:
    said = points({"batch_size": {"choice": [32, 64]}}, {"optimizer": {"kind": "adamw", "lr": 1e-3}, "batch_size": 32})
    assert not any("nesterov" in line for line in said)


def test_a_whole_search_leaves_nothing_and_a_failed_one_everything() -> None:
    assert not [line for line in untried(searched(spec_of(**FIXED), healthy)) if "no trial" in line]
    failed = untried(searched(spec_of(**FIXED), lambda config, draws: []))
    assert sum("no trial" in line for line in failed) == 3
    diverged = untried(searched(spec_of(**FIXED), lambda config, draws: [math.nan]))
    assert not any("no trial" in line for line in diverged)
