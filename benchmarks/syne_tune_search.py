"""Syne Tune's schedulers, called as its Tuner calls them."""

from __future__ import annotations

import datetime
import logging
from typing import Any

import numpy as np
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import choice, lograndint, loguniform, randint, uniform
from syne_tune.optimizer.baselines import ASHABORE, ASHACQR, BOHB
from syne_tune.optimizer.scheduler import SchedulerDecision

from benchmarks.curves import Family
from benchmarks.simulation import GRACE, METRIC, REDUCTION, Leg
from spaces import Choice, Domain, Int, walk

__all__ = ["SYNE_TUNE", "SyneTuneSearch"]

SYNE_TUNE: dict[str, type] = {"ASHACQR": ASHACQR, "BOHB": BOHB, "ASHABORE": ASHABORE}


class SyneTuneSearch:
    """One of its baselines with its defaults, but for rungs and length, which are those of every other search.

    Its spaces know no conditions: what hangs on an option is searched at any rate, and has no effect elsewhere.

    Args:
        family: what is searched.
        seed: of the searcher.
        baseline: a name from `SYNE_TUNE`.
    """

    def __init__(self, family: Family, seed: int, baseline: str) -> None:
        logging.getLogger("syne_tune").setLevel(logging.ERROR)
        np.random.seed(seed)  # noqa: NPY002 - its searchers draw from the global generator, too
        self._family = family
        self._scheduler = SYNE_TUNE[baseline](
            {key: _domain(domain) for key, domain in family.space.domains().items()}, metric=METRIC,
            time_attr="epoch", max_t=family.epochs, do_minimize=False, random_seed=seed, grace_period=GRACE,
            reduction_factor=REDUCTION,
        )  # fmt: skip
        self._trials: dict[int, Trial] = {}

    def next_leg(self, final: bool) -> Leg | None:
        """A new trial: none is paused."""
        suggestion = self._scheduler.suggest()
        if suggestion is None:
            return None
        config, number = suggestion.config, len(self._trials)
        self._trials[number] = Trial(number, config, datetime.datetime.now())
        self._scheduler.on_trial_add(self._trials[number])
        return Leg(number, walk(self._family.space, lambda key, _: config[key]).values)

    def on_result(self, trial: int, epoch: int, value: float, diverged: bool) -> bool:
        """Tell a result in the Tuner's order."""
        told = self._trials[trial]
        if self._scheduler.on_trial_result(told, {METRIC: value, "epoch": epoch}) != SchedulerDecision.STOP:
            return True
        self._scheduler.on_trial_remove(told)
        return False


def _domain(domain: Domain) -> Any:
    if isinstance(domain, Choice):
        return choice(list(domain.options))
    if isinstance(domain, Int):
        return (lograndint if domain.log else randint)(domain.low, domain.high)
    return (loguniform if domain.log else uniform)(domain.low, domain.high)
