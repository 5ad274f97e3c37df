"""Optuna's samplers as searchers: TPE, and any other that is passed. Ray's OptunaSearch is not used: see
`search.algorithms.optuna_export`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from itertools import chain

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from search.algorithms.optuna_export import Ending, distribution, ending, frozen_trial, new_study
from search.algorithms.searchers.random import draws
from search.algorithms.searchers.tried import Tried
from search.journal.records import TrialRecord, TrialStatus
from spaces.domains import Domain, Scalar, Space
from spaces.space import Point, walk
from trainables.result import Mode

__all__ = ["OptunaSearcher", "tpe_sampler"]

SUGGESTIONS = 10  # of the sampler for a trial, before a point that no trial has had is drawn at random


def tpe_sampler(seed: int, startup_trials: int = 10) -> TPESampler:
    """Tree-structured Parzen Estimator (Bergstra et al. 2011), as Optuna has it: multivariate, grouped by branch.

    The keys of a space are qualified by branch, so that each branch is a group of its own. Running trials count as bad
    until they end (constant liar), so that concurrent trials keep apart. The first `startup_trials` that ended, not by
    an error, are drawn at random.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Argument ``group``", ExperimentalWarning)
        return TPESampler(seed=seed, n_startup_trials=startup_trials, multivariate=True, group=True, constant_liar=True)


class OptunaSearcher:
    """Suggests what one of Optuna's samplers does, with a random state for each suggestion, from seed and number.

    The sampler is asked again where another trial has had the point; None when every combination was tried.
    A suggestion costs time in proportion to the trials so far: 0.4 s after 1,000.

    Args:
        space: what is searched.
        metric: the objective's name in the records.
        mode: whether it is to be `max`imized or `min`imized.
        seed: of the study.
        sampler: makes a sampler from a seed, for one suggestion.
    """

    def __init__(
        self, space: Space, *, metric: str, mode: Mode, seed: int,
        sampler: Callable[[int], BaseSampler] = tpe_sampler,
    ) -> None:  # fmt: skip
        self._space, self._metric, self._mode = space, metric, mode
        self._seed, self._sampler = seed, sampler
        # Only the order matters to TPE, and a constant keeps that independent of what has been seen by when.
        self._worst = -sys.float_info.max if mode == "max" else sys.float_info.max
        self._known: dict[int, tuple[Mapping[str, Scalar], Ending]] = {}
        self._storage = InMemoryStorage()
        self._study: optuna.Study | None = None  # None until built, and after a change that Optuna cannot make in place
        self._tried = Tried(space)
        self._entered: dict[int, int] = {}  # our number -> Optuna's, ascending in both

    def suggest(self, number: int) -> Point | None:
        """Draw a point, given every trial that is known; None when all combinations were tried."""
        if number not in self._known:
            point = self._tried.first_new(number, self._draws(number))
            if point is None:
                return None
            self._known[number] = (point.values, Ending(TrialState.RUNNING, {}))
            self._tried.add(number, point.values)
            self._enter(number)
        values, _ = self._known[number]
        return walk(self._space, lambda key, _: values[key])

    def tell(self, record: TrialRecord) -> None:
        """Enter a trial's state; one outside the space is left out, and a running one that is known changes nothing."""
        started = record.status is TrialStatus.RUNNING and record.number in self._known
        if record.values is None or started:
            return
        number, now = record.number, ending(record, self._metric, self._worst)
        if not record.is_prior:  # its data or seed were others
            self._tried.add(number, record.values)
        before, self._known[number] = self._known.get(number), (record.values, now)
        if before == self._known[number]:
            return
        if before is None:
            self._enter(number)
        elif before[0] == record.values and before[1].state is TrialState.RUNNING:
            self._end(number, now)
        else:
            self._study = None

    def _draws(self, number: int) -> Iterator[Point]:
        first = [self._seed, number]
        seeds = (first, *([*first, again] for again in range(1, SUGGESTIONS)))
        return chain(map(self._draw, seeds), draws(self._space, self._seed, number))

    def _draw(self, seed: list[int]) -> Point:
        study = self._built()
        # A new sampler each time: one that is used again carries its random state and the order of its groups along.
        study.sampler = self._sampler(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        trial = study.ask()

        def draw(key: str, domain: Domain) -> Scalar:
            given = distribution(domain)
            if isinstance(given, CategoricalDistribution):
                return trial.suggest_categorical(key, given.choices)
            if isinstance(given, IntDistribution):
                return trial.suggest_int(key, given.low, given.high, log=given.log, step=given.step)
            return trial.suggest_float(key, given.low, given.high, log=given.log, step=given.step)

        point = walk(self._space, draw)
        # An asked trial also holds what was drawn for closed branches, which no record does: so that a rebuilt search
        # draws the same, it is dropped, and the point entered anew as a record would be.
        study.tell(trial, state=TrialState.FAIL)
        return point

    def _built(self) -> optuna.Study:
        if self._study is None:
            self._storage = InMemoryStorage()
            self._study = new_study(self._mode, "search", self._storage)
            self._entered = {}
            for number in sorted(self._known):
                self._enter(number)
        return self._study

    def _enter(self, number: int) -> None:
        if self._study is None:
            return
        if self._entered and number < next(reversed(self._entered)):
            self._study = None  # TPE weights trials by their order, which must be that of our numbers
            return
        study_id = self._storage.get_study_id_from_name(self._study.study_name)
        template = frozen_trial(self._space, *self._known[number])
        self._entered[number] = self._storage.create_new_trial(study_id, template)

    def _end(self, number: int, now: Ending) -> None:
        if self._study is None:
            return
        trial_id = self._entered[number]
        for epoch, value in now.by_epoch.items():
            self._storage.set_trial_intermediate_value(trial_id, epoch, value)
        self._storage.set_trial_state_values(trial_id, now.state, None if now.value is None else [now.value])
