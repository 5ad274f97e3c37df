"""A search whose settings have known effects, and the runs of an explanation of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from search.analysis.changes import Change, apply, changes, on_common_ground
from search.journal.comparisons import Comparison
from search.journal.events import Arm, ComparisonStarted
from search.journal.records import Epoch, TrialRecord, TrialStatus
from search.journal.result import StudyResult
from tests.search.analysis.studies import LR, STRENGTH, rising, searched, spec_of
from trainables.config import flatten

__all__ = ["compared", "effect_of", "path_of", "planted", "quality"]

NOISE = 0.004  # of a seed, in val_accuracy
SPACE = {
    "optimizer": {"lr": {"float": [1e-3, 1.0], "log": True}, "nesterov": {"choice": [False, True]}},
    "schedule": {"kind": {"choice": {"constant": {}, "cosine": {"warmup": {"float": [0.0, 0.2]}}}}},
    "augment": {"strength": {"float": [0.0, 1.0]}, "cutout": {"choice": [0.0, 0.25, 0.5]}},
    "regularization": {"label_smoothing": {"float": [0.0, 0.2]}},
    "batch_size": {"choice": [32, 64, 128]},
}
NAIVE = {
    "optimizer": {"lr": 1e-3, "nesterov": False}, "schedule": {"kind": "constant"},
    "augment": {"strength": 0.0, "cutout": 0.0}, "regularization": {"label_smoothing": 0.0}, "batch_size": 128,
}  # fmt: skip


def quality(config: Mapping[str, Any]) -> float:
    """The mean val_accuracy of a flat config: four settings matter, three and the warm-up do not."""
    off = math.log10(config[LR]) + 1
    value = 0.9 - 0.05 * off**2 - 0.08 * (1 - config[STRENGTH])
    return value - 0.035 * (config["schedule.kind"] == "constant") - 0.015 * (config["batch_size"] == 128)


def planted(seed: int, trials: int = 40, **more: Any) -> StudyResult:
    """An ASHA search of `quality`, the naive recipe first."""
    spec = spec_of(trials, seed, space=SPACE, recipes={"naive": {"config": NAIVE}}, **more)
    return searched(spec, lambda config, draws: rising(quality(config) + draws.normal(0, NOISE), draws))


def path_of(result: StudyResult) -> tuple[dict[str, Any], tuple[Change, ...]]:
    """The naive recipe's config, and what leads from it to the best."""
    best, naive = result.best(), next(record for record in result.trials if record.recipe)
    assert best is not None
    return on_common_ground(naive.config, best.config)[0], changes(naive.config, best.config)


def effect_of(baseline: Mapping[str, Any], path: Sequence[Change]) -> list[float]:
    """What each change of a path really brings."""
    levels = [quality(flatten(apply(baseline, path[:made]))) for made in range(len(path) + 1)]
    return [after - before for before, after in pairwise(levels)]


def compared(
    arms: Sequence[Arm], value: Callable[[Mapping[str, Any]], float], seeds: int, draws: np.random.Generator,
    noise: float = NOISE, metric: str = "val_accuracy",
) -> Comparison:  # fmt: skip
    """Arms trained over paired seeds; a seed shifts all of them alike by as much as the noise. NaN diverges."""
    started = ComparisonStarted(
        time=0.0, comparison=1, kind="explain", arms=tuple(arms), reference="baseline", first_seed=1000,
        most_runs=max(seeds, 1),
    )  # fmt: skip
    runs, shifts = [], draws.normal(0, noise, seeds)
    for index in range(seeds):
        for arm in arms:
            final = value(flatten(arm.config)) + shifts[index] + draws.normal(0, noise)
            status = TrialStatus.COMPLETED if math.isfinite(final) else TrialStatus.DIVERGED
            config = {**arm.config, "seed": 1000 + index}
            history = (Epoch(1, {metric: final}),)
            runs.append(TrialRecord(len(runs), f"explain:{arm.name}", None, config, status, history=history))
    return Comparison(started, tuple(runs))
