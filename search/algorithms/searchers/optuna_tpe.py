"""The Optuna adapter: its TPE as a searcher, and any search as an Optuna study. The only module that loads Optuna.

Ray's OptunaSearch tells Optuna that a stopped trial is complete with its low-epoch value, and leaves a diverged one
running for ever. Here each ending is what it is: completed trials are COMPLETE; stopped ones PRUNED with the values
they reached; diverged ones PRUNED with a value worse than all others, since TPE ignores failed trials and goes on
suggesting the region that diverges; only errors are FAIL.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.journal.records import TrialRecord, TrialStatus
from spaces.domains import Choice, Domain, Int, Scalar, Space
from spaces.space import Point, walk

if TYPE_CHECKING:
    from search.study.spec import StudySpec
from trainables.result import Mode

__all__ = ["TpeSearcher", "optuna_study", "tpe_sampler"]

# A suggestion costs time in proportion to the trials that Optuna knows. Its TPE counts at most 25 as good, and weights
# the others the less the older they are.
GOOD = 25
MOST_TRIALS = 300  # the newest, at least; the oldest are forgotten by the hundred, since that builds the study anew
FORGOTTEN_AT_ONCE = 100

# A step that no epoch has: Optuna ranks pruned trials by their last step first, so a diverged trial comes behind all
# that were stopped.
DIVERGED_STEP = 0


@dataclass(frozen=True)
class _Ending:
    """A trial as Optuna knows it: its state, and the objective by epoch; every value is finite."""

    state: TrialState
    by_epoch: dict[int, float]

    @property
    def value(self) -> float | None:
        """The last value; None if there is none, or the trial may have none."""
        shown = self.state in (TrialState.COMPLETE, TrialState.PRUNED) and self.by_epoch
        return self.by_epoch[max(self.by_epoch)] if shown else None

    def merit(self, sign: float) -> tuple[float, ...]:
        """Sorts endings as TPE does, the best last: completed ones, then pruned ones that came far, then the rest."""
        if self.value is None:
            return (0.0,)
        if self.state is TrialState.COMPLETE:
            return 2.0, sign * self.value
        return 1.0, float(max(self.by_epoch)), sign * self.value


def _ending(record: TrialRecord, metric: str, worst: float) -> _Ending:
    values = {e.epoch: e.metrics.get(metric, math.nan) for e in record.history}
    finite = {epoch: value for epoch, value in values.items() if math.isfinite(value)}
    status = record.status
    if status is TrialStatus.COMPLETED and not math.isfinite(record.value(metric)):
        status = TrialStatus.DIVERGED
    if status is TrialStatus.COMPLETED:
        return _Ending(TrialState.COMPLETE, finite)
    if status is TrialStatus.DIVERGED:
        return _Ending(TrialState.PRUNED, {DIVERGED_STEP: worst})
    if status in (TrialStatus.STOPPED, TrialStatus.PAUSED):  # a paused trial may never go on: count what it has shown
        return _Ending(TrialState.PRUNED, finite)
    return _Ending(TrialState.FAIL if status is TrialStatus.FAILED else TrialState.RUNNING, finite)


def _distribution(domain: Domain) -> CategoricalDistribution | IntDistribution | FloatDistribution:
    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.options)
    if isinstance(domain, Int):
        return IntDistribution(domain.low, domain.high, log=domain.log, step=domain.step)
    # Optuna wants the step to divide the range to the last digit.
    return FloatDistribution(domain.low, domain.canonical(domain.high), log=domain.log, step=domain.step)


def _frozen(space: Space, values: Mapping[str, Scalar], ending: _Ending) -> FrozenTrial:
    distributions: dict[str, BaseDistribution] = {}

    def read(key: str, domain: Domain) -> Scalar:
        distributions[key] = _distribution(domain)
        return values[key]

    return create_trial(
        state=ending.state,
        params=walk(space, read).values,
        distributions=distributions,
        value=ending.value,
        intermediate_values=ending.by_epoch,
    )


def _new_study(mode: Mode, name: str, storage: InMemoryStorage) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it reports every study and trial otherwise
    direction = StudyDirection.MAXIMIZE if mode == "max" else StudyDirection.MINIMIZE
    return optuna.create_study(study_name=name, direction=direction, storage=storage)


def tpe_sampler(seed: int, startup_trials: int = 10) -> optuna.samplers.TPESampler:
    """Optuna's TPE with the settings that `TpeSearcher` describes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Argument ``group``", ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=startup_trials, multivariate=True, group=True, constant_liar=True
        )


class TpeSearcher:
    """Tree-structured Parzen Estimator (Bergstra et al. 2011), as Optuna has it: multivariate, grouped by branch.

    The keys of the space are qualified by branch, so that each branch is a group of its own. Trials under way count as
    bad until they end (constant liar), so that concurrent trials keep apart. Each suggestion has a random state of its
    own, from seed and number. Of a long study it knows the newest trials, some hundred, and the best of those before.

    Args:
        space: what is searched.
        metric: the objective's name in the records.
        mode: whether it is to be `max`imized or `min`imized.
        seed: of the study.
        startup_trials: how many trials must have ended, not by an error, before draws are more than random.
    """

    def __init__(self, space: Space, *, metric: str, mode: Mode, seed: int, startup_trials: int = 10) -> None:
        self._space, self._metric, self._mode = space, metric, mode
        self._seed, self._startup_trials = seed, startup_trials
        # Only the order matters to TPE, and a constant keeps that independent of what has been seen by when.
        self._worst = -sys.float_info.max if mode == "max" else sys.float_info.max
        self._known: dict[int, tuple[Mapping[str, Scalar], _Ending]] = {}
        self._storage = InMemoryStorage()
        self._study: optuna.Study | None = None  # None until built, and after a change that Optuna cannot make in place
        self._entered: dict[int, int] = {}  # our number -> Optuna's, ascending in both
        self._forgotten = 0  # trials below this number are, but for the best

    def suggest(self, number: int) -> Point:
        """Draw a point, given every trial that is known."""
        if number not in self._known:
            self._known[number] = (self._draw(number).values, _Ending(TrialState.RUNNING, {}))
            self._enter(number)
        values, _ = self._known[number]
        return walk(self._space, lambda key, _: values[key])

    def tell(self, record: TrialRecord) -> None:
        """Enter a trial as it stands; one outside the space is left out, and a running one that is known stays so."""
        started = record.status is TrialStatus.RUNNING and record.number in self._known
        if record.values is None or started:
            return
        number, ending = record.number, _ending(record, self._metric, self._worst)
        before, self._known[number] = self._known.get(number), (record.values, ending)
        if before == self._known[number]:
            return
        if number < self._forgotten:
            self._study = None  # it may be one of the best now
        elif before is None:
            self._enter(number)
        elif before[0] == record.values and before[1].state is TrialState.RUNNING:
            self._end(number, ending)
        else:
            self._study = None

    def _draw(self, number: int) -> Point:
        forgotten = max(0, number - MOST_TRIALS) // FORGOTTEN_AT_ONCE * FORGOTTEN_AT_ONCE
        if forgotten != self._forgotten:
            self._forgotten, self._study = forgotten, None
        study = self._built()
        # A new sampler each time: one that lives on carries its random state and the order of its groups along.
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        study.sampler = tpe_sampler(seed, self._startup_trials)
        trial = study.ask()

        def draw(key: str, domain: Domain) -> Scalar:
            given = _distribution(domain)
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
            self._study = _new_study(self._mode, "tpe", self._storage)
            self._entered = {}
            for number in self._remembered():
                self._enter(number)
        return self._study

    def _remembered(self) -> list[int]:
        sign = 1.0 if self._mode == "max" else -1.0
        old = sorted(number for number in self._known if number < self._forgotten)
        best = sorted(old, key=lambda number: self._known[number][1].merit(sign))[-GOOD:]
        return sorted(best) + sorted(number for number in self._known if number >= self._forgotten)

    def _enter(self, number: int) -> None:
        if self._study is None:
            return
        if self._entered and number < next(reversed(self._entered)):
            self._study = None  # TPE weights trials by their order, which must be that of our numbers
            return
        study_id = self._storage.get_study_id_from_name(self._study.study_name)
        template = _frozen(self._space, *self._known[number])
        self._entered[number] = self._storage.create_new_trial(study_id, template)

    def _end(self, number: int, ending: _Ending) -> None:
        if self._study is None:
            return
        trial_id = self._entered[number]
        for epoch, value in ending.by_epoch.items():
            self._storage.set_trial_intermediate_value(trial_id, epoch, value)
        self._storage.set_trial_state_values(trial_id, ending.state, None if ending.value is None else [ending.value])


def optuna_study(spec: StudySpec, records: Iterable[TrialRecord]) -> optuna.Study:
    """A search by whatever searcher as an Optuna study in memory, for Optuna's own tools.

    A trial outside the space, as a recipe may be, has no parameters. A diverged trial has one value at step 0, worse
    than every finite value of the search by a tenth of their spread. User attributes hold `trial` (our number),
    `origin`, `status` and `stop_reason`.
    """
    metric, mode = spec.objective.metric, spec.objective.mode
    ordered = sorted(records, key=lambda record: record.number)
    seen = [v for r in ordered for e in r.history if math.isfinite(v := e.metrics.get(metric, math.nan))]
    margin = 0.1 * ((max(seen) - min(seen)) or 1.0) if seen else 0.0
    worst = 0.0 if not seen else min(seen) - margin if mode == "max" else max(seen) + margin
    study = _new_study(mode, spec.study, InMemoryStorage())
    for record in ordered:
        space, values = (Space(), {}) if record.values is None else (spec.parsed_space, record.values)
        trial = _frozen(space, values, _ending(record, metric, worst))
        trial.user_attrs = {
            "trial": record.number,
            "origin": record.origin,
            "status": record.status.value,
            "stop_reason": record.stop_reason,
        }
        if record.started is not None:
            trial.datetime_start = datetime.fromtimestamp(record.started)
            if trial.state.is_finished():
                trial.datetime_complete = datetime.fromtimestamp(record.ended or record.started)
        study.add_trial(trial)
    return study
