"""What bought what: the arms of an explanation, and what their runs say about each change.

An ablation analysis (Fawcett and Hoos 2016): from a baseline to the best config one change at a time. Each step is
measured with real runs, whose seeds are the same for all arms. The best config with one change taken back shows what
the path alone cannot: which changes need each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Any

from search.algorithms.intervals import Interval
from search.analysis.additive import AdditiveModel
from search.analysis.changes import Change, apply
from search.journal.comparisons import Comparison
from search.journal.events import Arm
from trainables.result import Mode

__all__ = ["Explanation", "Row", "Step", "explained", "explanation_arms"]


@dataclass(frozen=True, slots=True)
class Step:
    """One change. Differences are in the objective's unit, positive ones being better.

    Attributes:
        change: in words.
        gain: over the config before it on the path.
        cost: what taking it back from the best config loses.
        interaction: cost minus gain: above 0 it is worth more together with later changes, below 0 less.
        verdict: what cost and interaction mean, in words; empty if there is nothing beyond noise to say.
    """

    change: str
    gain: Interval
    cost: Interval
    interaction: Interval
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One step, or neighbouring ones that are told together: each is within the noise, or no run between them ended."""

    changes: tuple[str, ...]
    gain: Interval

    @property
    def text(self) -> str:
        """The changes and what they bring, on one line."""
        together = "together " if len(self.changes) > 1 else ""
        noise = ", within the noise" if self.gain.within_noise else ""
        return f"{', '.join(self.changes)}: {together}{self.gain.signed}{noise}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the runs of an explanation say.

    The intervals of gains and of the total hold at once with 95 %, over every stretch of the path (Tukey), and so do
    those of all costs, and of all interactions (Bonferroni). With one seed there are none: NaN.

    Attributes:
        metric: the objective.
        seeds: how many seeds have run, at least in part.
        start, end: the objective of the baseline and of the best config, means over the seeds; NaN if no run ended.
        total: from the baseline to the best, positive being better.
        rows: the path, as it is to be read.
        steps: each change by itself.
        noise: the standard deviation of a run, what its arm and seed explain left out; NaN with one seed.
        notes: what else must be said: runs that diverged or failed.
    """

    metric: str
    seeds: int
    start: float
    end: float
    total: Interval
    rows: tuple[Row, ...]
    steps: tuple[Step, ...]
    noise: float
    notes: tuple[str, ...] = ()


def explanation_arms(
    baseline: Mapping[str, Any], path: Sequence[Change], *, origin: int | None = None, best: int | None = None
) -> tuple[Arm, ...]:
    """The arms to be run: `baseline`, `step 1` to `step K-1`, `best`, and `without X` for each change but the last.

    Without the last change the best is the arm before it. The change of `best` is the path's last.

    Args:
        baseline: its config as plain data, on common ground with the best.
        path: the changes in order, at least one; all of them make the best config.
        origin: the trial of the search that the baseline is, if any.
        best: the trial of the search that the best is.
    """
    arms = [Arm(name="baseline", role="baseline", config=dict(baseline), trial=origin)]
    for number, change in enumerate(path, start=1):
        config = apply(arms[-1].config, [change])
        arms.append(Arm(name=f"step {number}", role="step", config=config, change=change.text))
    arms[-1] = arms[-1].model_copy(update={"name": "best", "role": "best", "trial": best})
    for change in path[:-1]:
        config = apply(baseline, [other for other in path if other is not change])
        arms.append(Arm(name=f"without {change.name}", role="without", config=config, change=change.text))
    return tuple(arms)


def explained(comparison: Comparison, metric: str, mode: Mode) -> Explanation:
    """What an explanation's runs say so far.

    Args:
        comparison: whose arms are those of `explanation_arms`.
        metric: the objective.
        mode: which side of it is better.
    """
    sign = 1.0 if mode == "max" else -1.0
    values = {arm: {i: sign * v for i, v in runs.items()} for arm, runs in comparison.values(metric).items()}
    model, arms = AdditiveModel(values), comparison.started.arms
    path = [arm for arm in arms if arm.role != "without"]
    without = [*(arm for arm in arms if arm.role == "without"), path[-2]]  # the last change taken back
    tukey = model.tukey(len(path))
    gains = [_between(model, before, after, tukey) for before, after in pairwise(path)]
    steps = _steps(model, path, without, gains)
    start, end = (sign * model.means.get(arm.name, math.nan) for arm in (path[0], path[-1]))
    return Explanation(
        metric=metric,
        seeds=len({index for runs in values.values() for index in runs}),
        start=start,
        end=end,
        total=_between(model, path[0], path[-1], tukey),
        rows=_rows(model, path, values, tukey),
        steps=_with_verdicts(steps, [_lost(values[arm.name]) for arm in without]),
        noise=model.noise,
        notes=tuple(f"{arm.name}: {lost}" for arm in arms if (lost := _lost(values[arm.name]))),
    )


def _between(model: AdditiveModel, before: Arm, after: Arm, critical: float) -> Interval:
    return model.contrast({after.name: 1.0, before.name: -1.0}, critical)


def _steps(model: AdditiveModel, path: Sequence[Arm], without: Sequence[Arm], gains: Sequence[Interval]) -> list[Step]:
    cost, both, best = model.bonferroni(len(without)), model.bonferroni(len(without) - 1), path[-1]
    found = []
    for (before, after), left_out, gain in zip(pairwise(path), without, gains, strict=True):
        weights = {best.name: 1.0, left_out.name: -1.0}
        for arm, weight in ((after, -1.0), (before, 1.0)):
            weights[arm.name] = weights.get(arm.name, 0.0) + weight
        interaction = model.contrast(weights, both)
        found.append(Step(str(after.change), gain, _between(model, left_out, best, cost), interaction))
    return found


def _rows(
    model: AdditiveModel, path: Sequence[Arm], values: Mapping[str, Mapping[int, float]], critical: float
) -> tuple[Row, ...]:
    """Stretches of the path between arms that have values, and of these neighbours within the noise as one."""
    inner = [i for i in range(1, len(path) - 1) if path[i].name in model.means or not _lost(values[path[i].name])]
    ends = [0, *inner, len(path) - 1]
    known = [(a, b, _between(model, path[a], path[b], critical)) for a, b in pairwise(ends)]
    rows = []
    for noise, group in groupby(known, key=lambda stretch: stretch[2].within_noise):
        stretches = list(group)
        if noise:
            first, last = stretches[0][0], stretches[-1][1]
            stretches = [(first, last, _between(model, path[first], path[last], critical))]
        rows += [Row(tuple(str(arm.change) for arm in path[a + 1 : b + 1]), gain) for a, b, gain in stretches]
    return tuple(rows)


def _with_verdicts(steps: Sequence[Step], lost: Sequence[str]) -> tuple[Step, ...]:
    found = []
    for place, (step, gone) in enumerate(zip(steps, lost, strict=True)):
        needed = ", ".join(later.change for later in steps[place + 1 :] if later.cost.low > 0) or "later changes"
        verdict = ""
        if math.isnan(step.cost.mean) and gone:
            verdict = f"without it {gone}"
        elif step.cost.high < 0:
            verdict = "the best config is better without it"
        elif step.interaction.low > 0:
            verdict = f"{'better' if step.gain.low > 0 else 'works only'} together with {needed}"
        elif step.interaction.high < 0:
            verdict = "later changes make up for " + ("it" if step.cost.low <= 0 else "a part of it")
        found.append(replace(step, verdict=verdict))
    return tuple(found)


def _lost(runs: Mapping[int, float]) -> str:
    lost = sum(not math.isfinite(value) for value in runs.values())
    return f"{lost} of {len(runs)} runs diverged or failed" if lost else ""
