"""Trials as Optuna knows them, and any search as an Optuna study. With `searchers.optuna_tpe` all that loads Optuna.

Ray's OptunaSearch reports a stopped trial to Optuna as complete with its low-epoch value, and leaves a diverged one
running. Here each ending is what it is: completed trials are COMPLETE; stopped ones PRUNED with the values they
reached; diverged ones PRUNED with a value worse than all others, since TPE ignores failed trials and would continue to
suggest the region that diverges; only errors are FAIL.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.journal.records import TrialRecord, TrialStatus
from search.study.spec import StudySpec
from spaces.domains import Choice, Domain, Int, Scalar, Space
from spaces.space import walk
from trainables.result import Mode

__all__ = ["Ending", "distribution", "ending", "frozen_trial", "new_study", "optuna_study"]

# A step that no epoch has: Optuna ranks pruned trials by their last step first, so a diverged trial comes behind all
# that were stopped.
DIVERGED_STEP = 0


@dataclass(frozen=True)
class Ending:
    """A trial as Optuna knows it: its state, and the objective by epoch; every value is finite."""

    state: TrialState
    by_epoch: dict[int, float]

    @property
    def value(self) -> float | None:
        """The last value; None if there is none, or the trial may have none."""
        shown = self.state in (TrialState.COMPLETE, TrialState.PRUNED) and self.by_epoch
        return self.by_epoch[max(self.by_epoch)] if shown else None


def ending(record: TrialRecord, metric: str, worst: float) -> Ending:
    """A trial's state and values; `worst` is the value of one that diverged."""
    values = {e.epoch: e.metrics.get(metric, math.nan) for e in record.history}
    finite = {epoch: value for epoch, value in values.items() if math.isfinite(value)}
    status = record.status
    if status is TrialStatus.COMPLETED and not math.isfinite(record.value(metric)):
        status = TrialStatus.DIVERGED
    if status is TrialStatus.COMPLETED:
        return Ending(TrialState.COMPLETE, finite)
    if status is TrialStatus.DIVERGED:
        return Ending(TrialState.PRUNED, {DIVERGED_STEP: worst})
    if status in (TrialStatus.STOPPED, TrialStatus.PAUSED):  # a paused trial may never continue: count what it reached
        return Ending(TrialState.PRUNED, finite)
    return Ending(TrialState.FAIL if status is TrialStatus.FAILED else TrialState.RUNNING, finite)


def distribution(domain: Domain) -> CategoricalDistribution | IntDistribution | FloatDistribution:
    """A domain in Optuna's terms."""
    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.options)
    if isinstance(domain, Int):
        return IntDistribution(domain.low, domain.high, log=domain.log, step=domain.step)
    # Optuna wants the step to divide the range to the last digit.
    return FloatDistribution(domain.low, domain.canonical(domain.high), log=domain.log, step=domain.step)


def frozen_trial(space: Space, values: Mapping[str, Scalar], ending: Ending) -> FrozenTrial:
    """A trial with these values by qualified key, those of its open branches."""
    distributions: dict[str, BaseDistribution] = {}

    def read(key: str, domain: Domain) -> Scalar:
        distributions[key] = distribution(domain)
        return values[key]

    return create_trial(
        state=ending.state,
        params=walk(space, read).values,
        distributions=distributions,
        value=ending.value,
        intermediate_values=ending.by_epoch,
    )


def new_study(mode: Mode, name: str, storage: InMemoryStorage) -> optuna.Study:
    """An empty study."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it reports every study and trial otherwise
    direction = StudyDirection.MAXIMIZE if mode == "max" else StudyDirection.MINIMIZE
    return optuna.create_study(study_name=name, direction=direction, storage=storage)


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
    study = new_study(mode, spec.study, InMemoryStorage())
    for record in ordered:
        space, values = (Space(), {}) if record.values is None else (spec.parsed_space, record.values)
        trial = frozen_trial(space, values, ending(record, metric, worst))
        trial.user_attrs = {
            "trial": record.number, "origin": record.origin, "status": record.status.value,
            "stop_reason": record.stop_reason,
        }  # fmt: skip
        if record.started is not None:
            trial.datetime_start = datetime.fromtimestamp(record.started)
            if trial.state.is_finished():
                trial.datetime_complete = datetime.fromtimestamp(record.ended or record.started)
        study.add_trial(trial)
    return study
