"""Searches of curves that are made up, one trial at a time, through the driver without Ray."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from search.algorithms.schedulers.base import Scheduler
from search.algorithms.schedulers.registry import build_scheduler
from search.algorithms.searchers.registry import build_searcher
from search.engine.driver import StudyDriver
from search.journal.events import SessionStarted
from search.journal.log import Journal
from search.journal.result import StudyResult
from search.journal.state import StudyState
from search.study.parse import parse_study
from search.study.spec import StudySpec
from trainables.config import flatten
from trainables.result import METRICS

Curve = Callable[[Mapping[str, Any], np.random.Generator], Sequence[float]]
MEMORY = "/dev/shm"  # noqa: S108 (where no fsync is waited for)
EPOCHS, IMAGES = 9, 10_000
LR, STRENGTH = "optimizer.lr", "augment.strength"


def spec_of(trials: int = 40, seed: int = 0, **more: Any) -> StudySpec:
    """Two ranges that matter to `healthy`, one that does not, and a recipe."""
    return parse_study(
        {
            "study": "made-up",
            "trial": {"model": {"kind": "synthetic"}, "data": {"source": "synthetic"}},
            "space": {
                "optimizer": {"lr": {"float": [1e-4, 1.0], "log": True}},
                "augment": {"strength": {"float": [0.0, 1.0]}},
                "batch_size": {"choice": [32, 64]},
            },
            "recipes": {"plain": {"config": {"optimizer": {"lr": 1e-4}, "augment": {"strength": 0.0}}}},
            "searcher": {"kind": "random"},
            "scheduler": {"kind": "asha"},
            "budget": {"trials": trials, "epochs": EPOCHS},
            "seed": seed,
            **more,
        }
    )


def rising(final: float, draws: np.random.Generator, noise: float = 0.003) -> list[float]:
    """Towards `final`, and flat at the end, in shares of so many images."""
    curve = [final * (1 - math.exp(-1.2 * epoch)) + draws.normal(0, noise) for epoch in range(1, EPOCHS + 1)]
    return [round(value * IMAGES) / IMAGES for value in curve]


def healthy(config: Mapping[str, Any], draws: np.random.Generator) -> list[float]:
    """The best lies inside the ranges, and early epochs tell."""
    off = math.log10(config[LR]) + 2
    return rising(0.9 - 0.1 * off**2 - 0.1 * (config[STRENGTH] - 0.5) ** 2, draws)


def searched(
    spec: StudySpec, curve: Curve = healthy, until: int | None = None, scheduler: Scheduler | None = None,
    **metrics: Callable[[float], float],
) -> StudyResult:  # fmt: skip
    """What a search of these curves finds.

    A curve gives val_accuracy, `metrics` the others from it; it ends where it is short, by its patience, or NaN, and an
    empty one fails. `until`: the search still runs after so many results.
    """
    state, metric = StudyState(), spec.objective.metric
    made = {metric: lambda value: value, "val_accuracy": lambda value: value} | metrics
    with tempfile.TemporaryDirectory(dir=MEMORY if Path(MEMORY).is_dir() else None) as folder:
        journal = Journal(Path(folder), 1)
        driver = StudyDriver(spec, journal, build_searcher(spec), build_scheduler(spec, scheduler), state)
        driver.record(SessionStarted(session=1, time=0.0, versions={}))
        curves: dict[int, Sequence[float]] = {}
        results = 0
        while results != until and (leg := driver.next_leg()) is not None:
            draws = np.random.default_rng((spec.seed, leg.trial))
            values = curves.setdefault(leg.trial, curve(flatten(leg.config), draws))
            if not len(values):
                driver.on_worker_lost(leg.trial, "error", "RuntimeError: CUDA out of memory", None)
                continue
            for epoch in range(state.records[leg.trial].last_epoch + 1, len(values) + 1):
                value, last = values[epoch - 1], epoch == len(values)
                told = dict.fromkeys(METRICS, 0.5) | {name: of(value) for name, of in made.items()}
                reason = "epochs" if epoch == spec.budget.epochs else "patience"
                results += 1
                if driver.on_result(leg.trial, epoch, told, last, reason if last else None) or results == until:
                    break
        journal.close()
    return StudyResult.of(spec, state)
