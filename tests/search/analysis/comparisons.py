"""Comparisons with runs of given values, added to a study that was searched."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from search.journal.comparisons import Comparison
from search.journal.events import Arm, ComparisonEnded, ComparisonStarted, TestOpened, TestScored
from search.journal.records import Epoch, TrialRecord, TrialStatus
from search.journal.result import StudyResult

LATER = 1e9  # seconds since 1970: after the search


def refit_of(
    result: StudyResult, values: Mapping[str, Sequence[float]], winner: str | None,
    test: Mapping[str, Sequence[float]] | None = None, folds: int | None = None,
) -> StudyResult:  # fmt: skip
    """The study with a refit of these values by arm: `trial-3`, or a recipe's name, which is the reference."""
    by_name = {record.recipe or f"trial-{record.number}": record for record in result.trials}
    arms = tuple(
        Arm(
            name=name, role="finalist" if by_name[name].recipe is None else "reference",
            config=dict(by_name[name].config), trial=by_name[name].number,
        )
        for name in values
    )  # fmt: skip
    number, metric = len(result.comparisons) + 1, result.spec.objective.metric
    reference = next((arm.name for arm in arms if arm.role == "reference"), None)
    started = ComparisonStarted(
        comparison=number, kind="refit", arms=arms, reference=reference,
        first_seed=1000, most_runs=max(map(len, values.values())), folds=folds, time=LATER + number,
    )  # fmt: skip
    comparison = Comparison(started, ended=ComparisonEnded(comparison=number, reason="x", winner=winner, time=LATER))
    first, runs, scores = 100 * number, [], {}
    for arm in arms:
        for index, value in enumerate(values[arm.name]):
            failed = math.isnan(value)
            run = TrialRecord(
                first + len(runs), f"refit:{arm.name}", None, comparison.config(arm, index),
                TrialStatus.DIVERGED if failed else TrialStatus.COMPLETED, history=(Epoch(9, {metric: value}),),
            )  # fmt: skip
            if test and arm.name in test:
                scores[run.number] = {"accuracy": test[arm.name][index], "loss": 1.0}
            runs.append(run)
    comparison = replace(comparison, runs=tuple(runs))
    if test:
        opened = TestOpened(comparison=number, trials=tuple(scores), time=LATER)
        scored = TestScored(comparison=number, images=500, scores=scores, time=LATER)
        comparison = replace(comparison, opened=opened, scored=scored)
    return replace(result, comparisons=[*result.comparisons, comparison])
