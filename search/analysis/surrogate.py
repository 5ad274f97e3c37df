"""Boosted trees fitted to a study's trials at one epoch, and the order in which it would make changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.analysis.changes import Change, apply
from search.analysis.measures import number_of_trials, side, values_of
from search.journal.records import TrialRecord, TrialStatus
from search.journal.result import StudyResult
from search.study.trial_tree import comparability_rule
from trainables.config import flatten

__all__ = ["Features", "Fidelity", "Order", "boosted_trees", "common_fidelity", "order"]

Array = NDArray[np.float64]

FEW = 8  # trials below which nothing is learned from them
ENOUGH = 20  # trials that an epoch must have, or else half of them, to be the one at which they are compared
TREES = 100


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Trials at the same epoch.

    `values` are their objectives there, more being better: negative ones where less is. A trial that was stopped
    before, one of `extended`, by number, is taken to have risen as the median of the others did from there: among
    those alone that passed a rung, a setting that decides on passing would seem to have no effect. One that completed
    before keeps its last value. Diverged trials have the worst value, as have those below the lower fence of Tukey's
    box plot (1977), so that a few far off do not outweigh all others.
    """

    epoch: int
    trials: tuple[TrialRecord, ...]
    values: Array
    extended: frozenset[int] = frozenset()


def common_fidelity(result: StudyResult) -> Fidelity:
    """The furthest epoch that 20 trials, or half of all where that is less, have reached; epoch 0 without a trial.

    Recipes count; trials that failed, or have not reported yet, are left out.
    """
    metric, last = result.spec.objective.metric, result.spec.budget.epochs
    trials = [r for r in result.trials if r.status is not TrialStatus.FAILED and r.history]
    curves = {r.number: side(result) * np.array(values_of(r, metric)) for r in trials if not _diverged(r, metric)}
    for record in trials:
        if record.status is TrialStatus.COMPLETED and record.number in curves:
            curve = curves[record.number]
            curves[record.number] = np.pad(curve, (0, last - len(curve)), mode="edge")
    if not curves:
        return Fidelity(0, (), np.zeros(0))
    lengths = sorted(map(len, curves.values()), reverse=True)
    epoch = lengths[min(ENOUGH, math.ceil(len(lengths) / 2)) - 1]
    whole = np.array([curve[:epoch] for curve in curves.values() if len(curve) >= epoch])
    rise = np.median(whole[:, -1:] - whole, axis=0)
    reached = {number: _at(curve, rise) for number, curve in curves.items()}
    low, high = np.quantile(list(reached.values()), [0.25, 0.75])
    worst = max(min(reached.values()), float(low - 1.5 * (high - low)))
    values = np.array([max(reached.get(record.number, worst), worst) for record in trials])
    extended = frozenset(number for number, curve in curves.items() if len(curve) < epoch)
    return Fidelity(epoch, tuple(trials), values, extended)


def _at(curve: Array, rise: Array) -> float:
    place = min(len(curve), len(rise)) - 1
    return float(curve[place] + rise[place])


def _diverged(record: TrialRecord, metric: str) -> bool:
    return record.status is TrialStatus.DIVERGED or not all(map(math.isfinite, values_of(record, metric)))


class Features:
    """Settings as columns of numbers.

    A number is a column of its own, in which trees look at the order alone, so that a logarithm would change nothing;
    anything else is a column for each value that it takes, 1 where it has it. Rows without a setting have its median.

    Attributes:
        columns: of each setting, of those that vary.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.columns: dict[str, list[int]] = {}
        self._columns: list[Callable[[Mapping[str, Any]], float]] = []
        for name in dict.fromkeys(name for row in rows for name in row):
            seen = [row[name] for row in rows if name in row]
            for column in _columns_of(name, seen):
                if len({column(row) for row in rows}) > 1:
                    self.columns.setdefault(name, []).append(len(self._columns))
                    self._columns.append(column)

    def matrix(self, rows: Sequence[Mapping[str, Any]]) -> Array:
        """A row for each of `rows`; values that no trial had are in no column."""
        return np.array([[column(row) for column in self._columns] for row in rows], dtype=float)


def _columns_of(name: str, seen: Sequence[Any]) -> Iterator[Callable[[Mapping[str, Any]], float]]:
    numbers = [float(value) for value in seen if _is_number(value)]
    if numbers:
        middle = float(np.median(numbers))
        yield lambda row: float(row[name]) if _is_number(row.get(name)) else middle
    for option in dict.fromkeys(value for value in seen if not _is_number(value)):
        yield lambda row, option=option: float(name in row and row[name] == option)  # type: ignore[misc]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def boosted_trees(seed: int = 0) -> Any:
    """Boosted trees with two splits from root to leaf (Friedman 2001), not fitted yet.

    Effects that add up need sums of small trees: of planted studies of 40 trials they order more changes right than a
    random forest does (`tests/search/analysis/planted.py`).
    """
    from sklearn.ensemble import GradientBoostingRegressor  # slow to load

    return GradientBoostingRegressor(
        n_estimators=TREES, learning_rate=0.1, max_depth=2, min_samples_leaf=2, subsample=0.7, random_state=seed
    )


@dataclass(frozen=True, slots=True)
class Order:
    """Changes in the order in which they are to be made.

    Attributes:
        changes: in order.
        gains: what each is predicted to bring at that epoch, positive being better; empty if nothing is predicted.
        text: where the order is from.
        unknown: names of the changes in settings that did not vary in the study, about which it says nothing.
    """

    changes: tuple[Change, ...]
    gains: tuple[float, ...]
    text: str
    unknown: tuple[str, ...] = ()


def order(result: StudyResult, baseline: Mapping[str, Any], found: Sequence[Change]) -> Order:
    """The changes greedily, at each step the one with the largest predicted gain over the config so far.

    As Fawcett and Hoos 2016 do with real runs; predicted as in Biedenkapp et al. 2017. Equal ones stay in their order.

    Args:
        result: the study whose trials tell.
        baseline: the config, as plain data, on which the first change is made.
        found: the changes.
    """
    at = common_fidelity(result)
    rows = [_settings(record.config) for record in at.trials]
    features = Features(rows)
    if len(rows) < FEW or not features.columns or np.ptp(at.values) == 0:
        why = (
            f"{number_of_trials(len(rows))}, at least {FEW} are needed"
            if len(rows) < FEW
            else "the trials do not differ"
        )
        return Order(tuple(found), (), f"in the order of the config: {why}")
    model = boosted_trees().fit(features.matrix(rows), at.values)
    config, left = dict(baseline), list(found)
    now = features.matrix([_settings(config)])
    unknown = tuple(c.name for c in left if np.array_equal(features.matrix([_settings(apply(config, [c]))]), now))
    value, made, gains = float(model.predict(now)[0]), [], []
    while left:
        predicted = model.predict(features.matrix([_settings(apply(config, [change])) for change in left]))
        best = int(np.argmax(predicted))
        gains.append(float(predicted[best]) - value)
        value, config = float(predicted[best]), apply(config, [left[best]])
        made.append(left.pop(best))
    metric = result.spec.objective.metric
    text = f"by boosted trees fitted to {metric} of {len(rows)} trials at epoch {at.epoch}"
    text += f", {len(at.extended)} of them extended to it" if at.extended else ""
    return Order(tuple(made), tuple(gains), text, unknown)


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What trials may differ in, by path; below a part that has kinds, by its kind too: `optimizer[sgd].lr`.

    What a good learning rate is for one optimizer says nothing about that of another.
    """
    found: dict[str, Any] = {}
    for part, value in config.items():
        tree = {part: value}
        kind = value.get("kind") if isinstance(value, Mapping) else None
        for path, leaf in flatten(tree).items():
            if comparability_rule(path) is None:
                inside = kind is not None and path != f"{part}.kind"
                found[path.replace(part, f"{part}[{kind}]", 1) if inside else path] = leaf
    return found
