"""PriorBand (Mallik et al. 2023, arXiv:2306.12370) as NePS has it, by its ask and tell."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import neps
import numpy as np
import torch

from benchmarks.curves import Family
from benchmarks.simulation import Leg
from spaces import Choice, Domain, Int, Scalar, walk

__all__ = ["NepsSearch"]

EPOCHS = "epochs"


class NepsSearch:
    """PriorBand with its defaults: Hyperband's brackets, whose configurations are drawn around `prior`, at random, or
    near the best so far.

    Its rungs are counted from the end, at 1, 4 and 12 of 12 epochs. Its spaces know no conditions. It draws from the
    global generators, which are seeded here.

    Args:
        family: what is searched.
        seed: of the generators.
        prior: a point that is believed to be good; keys that it leaves out are drawn uniformly.
    """

    def __init__(self, family: Family, seed: int, prior: Mapping[str, Scalar]) -> None:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        self._family = family
        searched = {key: _parameter(domain, prior.get(key)) for key, domain in family.space.domains().items()}
        fidelity = neps.HPOInteger(1, family.epochs, is_fidelity=True)
        self._search = neps.AskAndTell(neps.algorithms.priorband(neps.SearchSpace({**searched, EPOCHS: fidelity})))
        self._asked: dict[int, neps.Trial] = {}

    def next_leg(self, final: bool) -> Leg:
        """A new trial, or one that goes on from where it was paused."""
        asked = self._search.ask()
        number = int(asked.metadata.id.split("_")[0])
        self._asked[number] = asked
        before = asked.metadata.previous_trial_id
        trained = 0 if before is None else self._search.trials[before].config[EPOCHS]
        return Leg(number, walk(self._family.space, lambda key, _: asked.config[key]).values, trained)

    def on_result(self, trial: int, epoch: int, value: float, diverged: bool) -> bool:
        """Train to the rung that was asked for, and tell what is reported there."""
        asked = self._asked[trial]
        if epoch < asked.config[EPOCHS] and not diverged:
            return True
        self._search.tell(asked, 1 - value)
        return False


def _parameter(domain: Domain, prior: Any) -> Any:
    if isinstance(domain, Choice):
        return neps.HPOCategorical(list(domain.options), prior=prior)  # type: ignore[arg-type]
    kind = neps.HPOInteger if isinstance(domain, Int) else neps.HPOFloat
    return kind(domain.low, domain.high, log=domain.log, prior=prior)
