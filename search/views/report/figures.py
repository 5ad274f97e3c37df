"""The data behind the page's charts: every trial once, in columns and few digits, shared by all charts.

`page.js` draws them. plotly.py would repeat each trial's values in every figure, as much again for a thousand trials as
the drawing library itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from search.algorithms.schedulers.halving import rung_levels
from search.analysis.measures import side
from search.journal.records import TrialRecord
from search.journal.result import StudyResult
from search.study.settings import HalvingSettings
from search.study.spec import StudySpec
from search.views.report.answers import Answers
from search.views.report.settings import Setting, short

__all__ = ["chart_data"]

MOST_POINTS = 40_000  # of all learning curves together; where there are more, each curve is thinned out evenly
LEAST_POINTS = 12  # of a curve, first and last among them
DIGITS = 5  # of the objective


def chart_data(result: StudyResult, found: Answers) -> dict[str, Any]:
    """What the charts of one study show, as plain JSON: lists by trial, and by setting and trial."""
    spec, trials, best = result.spec, result.trials, result.best()
    settings = Setting.all_of(spec)
    start = min((record.started for record in trials if record.started is not None), default=0.0)
    metric, most = spec.objective.metric, max(MOST_POINTS // max(len(trials), 1), LEAST_POINTS)
    return {
        "metric": metric,
        "mode": spec.objective.mode,
        "epochs": spec.budget.epochs,
        "rungs": _rungs(spec),
        "best": None if best is None else best.number,
        "number": [record.number for record in trials],
        "from": [record.recipe or record.origin for record in trials],
        "recipe": [record.number for record in trials if record.recipe is not None],
        "status": [record.status.value.lower() for record in trials],
        "epoch": [record.last_epoch for record in trials],
        "value": [short(record.value(metric), DIGITS) for record in trials],
        "hours": [_hours(record, start) for record in trials],
        "curves": [_curve(record, metric, most) for record in trials],
        "settings": [setting.chart() for setting in settings],
        "values": [[setting.charted(record) for record in trials] for setting in settings],
        "steps": _steps(found, side(result)),
    }


def _rungs(spec: StudySpec) -> tuple[int, ...]:
    """The epochs at which trials are judged; none where a plug-in alone knows."""
    rule = spec.scheduler
    if not isinstance(rule, HalvingSettings):
        return ()
    return rung_levels(rule.grace_period, rule.reduction_factor, spec.budget.epochs)


def _hours(record: TrialRecord, start: float) -> float | None:
    """When the trial ended, in hours since the first began."""
    return None if record.ended is None else round((record.ended - start) / 3600, 5)


def _curve(record: TrialRecord, metric: str, most: int) -> list[Sequence[float | None]]:
    """Epochs and values, at most so many; no epochs where they are 1, 2, 3 ..."""
    kept = record.history
    if len(kept) > most:
        kept = tuple(kept[round(i * (len(kept) - 1) / (most - 1))] for i in range(most))
    epochs = [epoch.epoch for epoch in kept]
    values = [short(epoch.metrics.get(metric, math.nan), DIGITS) for epoch in kept]
    return [[] if epochs == list(range(1, len(kept) + 1)) else epochs, values]


def _steps(found: Answers, sign: float) -> list[list[Any]]:
    """The waterfall: name, points, and whether they are a level of their own or added to the one before."""
    if (told := found.explanation) is None:
        return []
    start = [told.baseline, short(told.start, DIGITS), "absolute"]
    steps = [[step.label, short(sign * step.gain.mean, DIGITS), "relative"] for step in told.steps]
    return [start, *steps, ["best", None, "total"]]
