from __future__ import annotations

from typing import Any

import pytest

from trainables.config import parse_config
from trainables.config.plausibility import implausible


@pytest.mark.parametrize(
    ("optimizer", "named"),
    [
        ({"kind": "sgd", "lr": 100.0, "momentum": 0.0, "weight_decay": 10.0}, ["a step takes all of each weight"]),
        ({"kind": "sgd", "lr": 100.0}, ["optimizer.lr 100 with momentum 0.9: sgd above 10 is not known"]),
        ({"kind": "sgd", "lr": 1.0, "weight_decay": 0.06}, ["a step takes 60% of each weight away"]),
        ({"kind": "adamw", "lr": 0.5, "weight_decay": 3.0}, ["optimizer.lr 0.5: adamw above 0.1", "takes all of each"]),
        ({"kind": "adam", "lr": 0.01, "weight_decay": 100.0}, []),  # its decay is divided by its own mean of squares
        ({"kind": "rmsprop", "lr": 2.0, "momentum": 0.9}, ["rmsprop above 1 is not known"]),
        ({"kind": "sgd", "lr": 3.0, "momentum": 0.85, "weight_decay": 1e-4}, []),
        ({"kind": "rmsprop", "lr": 0.256, "momentum": 0.9}, []),
        ({"kind": "adamw", "lr": 4e-3, "weight_decay": 0.3}, []),
    ],
)
def test_settings_beyond_anything_published_are_named(optimizer: dict[str, Any], named: list[str]) -> None:
    found = implausible(parse_config({"optimizer": optimizer}))
    assert len(found) == len(named)
    assert all(text in line for line, text in zip(found, named, strict=True))
    assert implausible(parse_config({"optimizer": optimizer, "model": {"kind": "synthetic"}})) == []
