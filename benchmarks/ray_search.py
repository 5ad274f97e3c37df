"""Ray's own OptunaSearch and ASHAScheduler, without actors: called as Ray Tune's controller calls them.

The controller tells a result to the scheduler first. Where that goes on, the searcher hears of it as a result; where it
stops, the searcher is told the trial is complete, with that result, and so is the scheduler. At most as many trials are
suggested as there are workers, as under Ray's `max_concurrent_trials`: without it the controller suggests one more in
advance, knowing less.
"""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import optuna
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from benchmarks.curves import Family
from benchmarks.optuna_search import drawn_by
from benchmarks.simulation import GRACE, METRIC, REDUCTION, Leg
from spaces import Scalar

__all__ = ["RaySearch"]


class RaySearch:
    """Both of Ray's classes with their defaults, but for rungs and length, which are those of every other search.

    Args:
        family: what is searched.
        seed: of the sampler.
        trials: how many; None for no end.
        sampler: another than OptunaSearch's own, which is Optuna's TPE as it comes.
    """

    def __init__(
        self, family: Family, seed: int, trials: int | None = None, sampler: optuna.samplers.BaseSampler | None = None
    ) -> None:
        logging.getLogger("ray.tune.search.optuna.optuna_search").setLevel(logging.ERROR)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._trials, self._suggested = trials, 0
        given: dict[str, Any] = {"seed": seed} if sampler is None else {"sampler": sampler}

        def define(trial: optuna.Trial) -> None:  # the form that Ray's documentation recommends for conditions
            drawn_by(trial, family.space)

        self._searcher = OptunaSearch(define, metric=METRIC, mode="max", **given)
        self._scheduler = ASHAScheduler(
            metric=METRIC, mode="max", max_t=family.epochs, grace_period=GRACE, reduction_factor=REDUCTION
        )

    def next_leg(self, final: bool) -> Leg | None:
        """A new trial: this ASHA pauses none."""
        if self._suggested == self._trials:
            return None
        number = self._suggested
        self._suggested += 1
        suggested = _flat(self._searcher.suggest(str(number)) or {})
        self._scheduler.on_trial_add(None, _trial(number))  # type: ignore[arg-type]
        return Leg(number, suggested)

    def on_result(self, trial: int, epoch: int, value: float, diverged: bool) -> bool:
        """Tell a result in the controller's order."""
        result = {"training_iteration": epoch, METRIC: value}
        decision = self._scheduler.on_trial_result(None, _trial(trial), result)  # type: ignore[arg-type]
        if decision != TrialScheduler.STOP:
            self._searcher.on_trial_result(str(trial), result)
            return True
        self._scheduler.on_trial_complete(None, _trial(trial), result)  # type: ignore[arg-type]
        self._searcher.on_trial_complete(str(trial), result=result)
        return False


def _trial(number: int) -> Any:
    return SimpleNamespace(trial_id=str(number))  # all that this scheduler reads of a trial


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Scalar]:
    # OptunaSearch nests parameters whose names hold a slash.
    flat: dict[str, Scalar] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}/") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
