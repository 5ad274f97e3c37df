"""Trials as Optuna knows them, and any search as an Optuna study. With `searchers.optuna_tpe` all that loads Optuna.

Ray's OptunaSearch reports a stopped trial to Optuna as complete with its low-epoch value, and leaves a diverged one
running. Here each ending is what it is: completed trials are COMPLETE; stopped ones PRUNED with the values they
reached; diverged ones PRUNED with a value worse than all others, since TPE ignores failed trials and would continue to
suggest the region that diverges; only errors are FAIL.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.journal.records import TrialRecord, TrialStatus, best_of
from search.journal.reference import against_reference
from search.study.spec import StudySpec
from spaces.domains import Choice, Domain, Int, Scalar, Space, option_text
from spaces.space import path_of, walk
from trainables.result import Mode

__all__ = ["Ending", "distribution", "ending", "frozen_trial", "new_study", "optuna_study", "readable_names"]

# A step that no epoch has: Optuna ranks pruned trials by their last step first, so a diverged trial comes behind all
# that were stopped.
DIVERGED_STEP = 0


@dataclass(frozen=True)
class Ending:
    """A trial as Optuna knows it: its state, and the objective by epoch; every value is finite.

    `best_epoch` is the epoch whose value is the trial's; None stands for the last.
    """

    state: TrialState
    by_epoch: dict[int, float]
    best_epoch: int | None = None

    @property
    def value(self) -> float | None:
        """The trial's value; None if there is none, or the trial may have none."""
        shown = self.state in (TrialState.COMPLETE, TrialState.PRUNED) and self.by_epoch
        return self.by_epoch[self.best_epoch or max(self.by_epoch)] if shown else None


def ending(record: TrialRecord, metric: str, worst: float) -> Ending:
    """A trial's state and values; `worst` is the value of one that diverged."""
    finite = {epoch: value for epoch, value in record.seen(metric).items() if math.isfinite(value)}
    status = record.status
    if status is TrialStatus.COMPLETED and not math.isfinite(record.value(metric)):
        status = TrialStatus.DIVERGED
    if status is TrialStatus.COMPLETED:
        return Ending(TrialState.COMPLETE, finite, record.best_epoch)
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


def readable_names(space: Space) -> dict[str, str]:
    """What to call a qualified key where people read it: its config path, and its branch if others search that path.

    `optimizer.kind=sgd/optimizer.lr` is `optimizer.lr (sgd)` if adamw has a range of its own, else `optimizer.lr`.
    """
    found = space.parameters()
    times = Counter(path_of(parameter.key) for parameter in found)
    names: dict[str, str] = {}
    for parameter in found:
        path = path_of(parameter.key)
        branch = ", ".join(option_text(option) for _, option in parameter.when)
        names[parameter.key] = path if times[path] == 1 else f"{path} ({branch})"
    return names if len(set(names.values())) == len(names) else {key: key for key in names}


def frozen_trial(
    space: Space, values: Mapping[str, Scalar], ending: Ending, names: Mapping[str, str] | None = None
) -> FrozenTrial:
    """A trial with these values by qualified key, those of its open branches; `names` is what to call the keys."""
    distributions: dict[str, BaseDistribution] = {}

    def read(key: str, domain: Domain) -> Scalar:
        distributions[key] = distribution(domain)
        return values[key]

    params: Mapping[str, Scalar] = walk(space, read).values
    if names is not None:
        params = {names[key]: value for key, value in params.items()}
        distributions = {names[key]: domain for key, domain in distributions.items()}
    return create_trial(
        state=ending.state,
        params=dict(params),
        distributions=distributions,
        value=ending.value,
        intermediate_values=ending.by_epoch,
    )


def new_study(mode: Mode, name: str, storage: BaseStorage) -> optuna.Study:
    """An empty study."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it reports every study and trial otherwise
    direction = StudyDirection.MAXIMIZE if mode == "max" else StudyDirection.MINIMIZE
    return optuna.create_study(study_name=name, direction=direction, storage=storage)


def optuna_study(spec: StudySpec, records: Iterable[TrialRecord], storage: BaseStorage | None = None) -> optuna.Study:
    """A search by whatever searcher as an Optuna study, in memory unless there is a storage, for Optuna's own tools.

    Parameters have their `readable_names`. A trial outside the space, as a recipe may be, has no parameters. A diverged
    trial has one value at step 0, worse than every finite value of the search by a tenth of their spread. User
    attributes of a trial hold `trial` (our number), `origin`, `status` and `stop_reason`; those of the study say what
    it is and what was found.
    """
    metric, mode = spec.objective.metric, spec.objective.mode
    ordered = sorted(records, key=lambda record: record.number)
    seen = [value for record in ordered for value in record.seen(metric).values() if math.isfinite(value)]
    margin = 0.1 * ((max(seen) - min(seen)) or 1.0) if seen else 0.0
    worst = 0.0 if not seen else min(seen) - margin if mode == "max" else max(seen) + margin
    study = new_study(mode, spec.study, storage or InMemoryStorage())
    with warnings.catch_warnings():
        # Dashboards show the name instead of "Objective Value"; losing it one day would cost no more than that.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([metric])
    for name, text in _about(spec, ordered).items():
        study.set_user_attr(name, text)
    names = readable_names(spec.parsed_space)
    for record in ordered:
        space, values = (Space(), {}) if record.values is None else (spec.parsed_space, record.values)
        trial = frozen_trial(space, values, ending(record, metric, worst), names)
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


def _about(spec: StudySpec, records: Sequence[TrialRecord]) -> dict[str, str]:
    objective, best = spec.objective, best_of(records, spec.objective.metric, spec.objective.mode)
    about = {
        "objective": f"{objective.mode} {objective.metric}",
        "data": option_text(spec.trial["data"]["source"]),
        "recipes": ", ".join(spec.recipes) or "none",
        "searcher": spec.searcher.kind,
        "scheduler": spec.scheduler.kind,
    }
    if best is not None:
        gain = against_reference(spec, records, best)
        about["best"] = f"trial {best.number}, {objective.metric} {best.value(objective.metric):.4f}{gain}"
    return about
