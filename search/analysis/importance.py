"""How much each searched setting matters, from the study's trials at one epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.analysis.surrogate import ENOUGH, FEW, Features, Fidelity, boosted_trees, common_fidelity
from search.journal.result import StudyResult
from search.study.spec import StudySpec

__all__ = ["Importance", "Importances", "importances"]

BOOTSTRAPS = 20
PERMUTATIONS = 10
LEAST_TOP = 5  # trials that PED-ANOVA compares with all


@dataclass(frozen=True, slots=True)
class Importance:
    """Of one setting.

    Attributes:
        key: its qualified key.
        share: of the variance of the objective that goes with it, alone or with others; around 0 for one without
            effect, and the shares of settings that act together add up to more than 1.
        low, high: 95 % of the bootstrap samples lie between.
        ped_anova: how unlike the others the best tenth of the trials, or the best 5, are in it (Watanabe et al. 2023;
            Optuna's); all settings together are 1.
    """

    key: str
    share: float
    low: float
    high: float
    ped_anova: float


@dataclass(frozen=True, slots=True)
class Importances:
    """The settings, the most important first.

    Attributes:
        settings: those that vary.
        epoch: at which the trials are compared.
        trials: how many.
        extended: how many of them were stopped before it (see `Fidelity`).
        guess: there are fewer than 20.
    """

    settings: tuple[Importance, ...]
    epoch: int
    trials: int
    extended: int
    guess: bool


def importances(result: StudyResult) -> Importances | None:
    """The importance of every searched setting that varies; None with under 8 trials of the space, or all alike.

    The share is from permutations (Breiman 2001) of a setting among the trials that have it, in those that a bootstrap
    sample left out: by how much the squared error of the surrogate grows, over twice the variance.
    """
    at = common_fidelity(result)
    inside = np.array([record.values is not None for record in at.trials], dtype=bool)
    values, rows = at.values[inside], [dict(record.values) for record in at.trials if record.values is not None]
    features = Features(rows)
    if len(rows) < FEW or not features.columns or np.ptp(values) == 0:
        return None
    shares = _shares(features, rows, values)
    means, (low, high) = shares.mean(axis=0), np.quantile(shares, [0.025, 0.975], axis=0)
    ped_anova = _ped_anova(result.spec, at)
    found = [
        Importance(key, float(means[i]), float(low[i]), float(high[i]), ped_anova.get(key, 0.0))
        for i, key in enumerate(features.columns)
    ]
    found.sort(key=lambda one: -one.share)
    cut = sum(record.values is not None and record.number in at.extended for record in at.trials)
    return Importances(tuple(found), at.epoch, len(rows), cut, guess=len(rows) < ENOUGH)


def _shares(features: Features, rows: Sequence[Mapping[str, Any]], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """By bootstrap sample and setting."""
    matrix, draws = features.matrix(rows), np.random.default_rng(0)
    has = {key: np.array([key in row for row in rows]) for key in features.columns}
    found = []
    for seed in range(BOOTSTRAPS):
        drawn = draws.integers(len(rows), size=len(rows))
        left_out = np.setdiff1d(np.arange(len(rows)), drawn)
        model = boosted_trees(seed).fit(matrix[drawn], values[drawn])
        error = np.mean((model.predict(matrix[left_out]) - values[left_out]) ** 2)
        grown = []
        for key, columns in features.columns.items():
            mixed, where = np.tile(matrix[left_out], (PERMUTATIONS, 1, 1)), np.flatnonzero(has[key][left_out])
            for copy in mixed:
                copy[where[:, None], columns] = copy[draws.permutation(where)[:, None], columns]
            predicted = model.predict(mixed.reshape(-1, matrix.shape[1])).reshape(PERMUTATIONS, -1)
            grown.append(np.mean((predicted - values[left_out]) ** 2) - error)
        found.append(grown)
    shares: NDArray[np.float64] = np.array(found) / (2 * values.var())
    return shares


def _ped_anova(spec: StudySpec, at: Fidelity) -> Mapping[str, float]:
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # slow to load
    from optuna.storages import InMemoryStorage
    from optuna.trial import TrialState

    from search.algorithms.optuna_export import Ending, frozen_trial, new_study

    study = new_study("max", spec.study, InMemoryStorage())  # more is better in `values`
    for record, value in zip(at.trials, at.values, strict=True):
        if record.values is not None:
            ending = Ending(TrialState.COMPLETE, {at.epoch: float(value)})
            study.add_trial(frozen_trial(spec.parsed_space, record.values, ending))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=max(0.1, min(1.0, LEAST_TOP / len(study.trials))))
    return get_param_importances(study, evaluator=evaluator)
