"""What a refit says: who won, by how much, and how much of the search's best was luck."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from search.algorithms.intervals import Interval, best_interval, mean_interval, paired_interval
from search.algorithms.race import Race, standing
from search.analysis.measures import SHARES, side
from search.journal.comparisons import Comparison
from search.journal.events import Arm
from search.journal.result import StudyResult
from search.study.spec import StudySpec
from trainables.result import SCORED

__all__ = ["Finalist", "RefitOutcome", "race_of", "refit_outcome"]

MATERIAL = 0.005  # of accuracy and the like, within which two configs count as equal
MATERIAL_SHARE = 0.02  # of a loss
TEST_METRICS = {f"val_{name}": name for name in SCORED}


@dataclass(frozen=True, slots=True)
class Finalist:
    """An arm of a refit and the objective over its runs.

    `searched` is the value that it had in the search, None for a reference that was not part of it. `interval` is None
    without runs. `luck` is how much better it was in the search than over fresh seeds, in the objective's
    unit; negative if it was worse; None where either is not known. `verdict` is `winner`, `tie`, `behind ...`, or why
    it was dropped; empty while open.
    """

    arm: Arm
    searched: float | None
    values: tuple[float, ...]
    interval: Interval | None
    luck: float | None
    verdict: str


@dataclass(frozen=True, slots=True)
class RefitOutcome:
    """A refit so far.

    Attributes:
        metric: the objective.
        finalists: the arms, best first; the reference among them.
        winner: the arm that won, None without one.
        decision: `decided`, `tie`, `none`, or `open` while it is under way.
        favorite: the arm that was the best of them in the search; None if none was part of it.
        gain: the winner's paired difference to the reference on validation, positive if better.
        test: the winner on the test split, over its networks; None before it was opened.
        test_gain: its paired difference to the reference there, positive if better.
        test_images: how many the test split has.
        opened_before: how often the test split was opened for this study before.
    """

    comparison: Comparison
    metric: str
    finalists: tuple[Finalist, ...]
    winner: Finalist | None
    decision: str
    favorite: Finalist | None
    gain: Interval | None
    test: Interval | None
    test_gain: Interval | None
    test_images: int | None
    opened_before: int


def race_of(comparison: Comparison, spec: StudySpec) -> Race:
    """The race that decides a refit."""
    started, objective = comparison.started, spec.objective
    return Race(
        arms=tuple(arm.name for arm in started.arms), reference=started.reference, mode=objective.mode,
        most_runs=started.most_runs, material=_material(comparison, objective.metric),
        test_share=0.0 if started.folds is None else 1 / (started.folds - 1),
    )  # fmt: skip


def _material(comparison: Comparison, metric: str) -> float:
    if metric in SHARES:
        return MATERIAL
    first = [abs(runs[0]) for runs in comparison.values(metric).values() if math.isfinite(runs.get(0, math.nan))]
    return MATERIAL_SHARE * min(first, default=0.0)


def refit_outcome(result: StudyResult, comparison: Comparison) -> RefitOutcome:
    """What a refit of the study says so far."""
    metric, sign, race = result.spec.objective.metric, side(result), race_of(comparison, result.spec)
    values, found = comparison.values(metric), standing(race, comparison.values(metric))
    searched = {record.number: record.value(metric) for record in result.trials}
    ended = comparison.ended is not None
    leader = comparison.winner.name if comparison.winner else found.leader  # of equal means the one that was recorded
    rivals = [found.leader, *found.tied]
    if found.decision == "open":  # cut off by the budget, or not over: nothing is told apart yet
        rivals = [arm for arm in race.arms if arm not in found.dropped]
    tied = [arm for arm in rivals if arm != leader]

    def finalist(arm: Arm) -> Finalist:
        runs = {index: value for index, value in values[arm.name].items() if math.isfinite(value)}
        if arm.name in found.dropped:
            verdict = found.dropped[arm.name]
        elif not ended:
            verdict = ""
        elif arm.name == leader:
            verdict = "winner" if found.decision == "decided" else "best, but tied"
        else:
            verdict = "tie with the best" if arm.name in tied else "behind"
        before = None if arm.trial is None else searched.get(arm.trial)
        interval = mean_interval(runs, race.test_share)
        if arm.name == leader:
            interval = best_interval(runs, 1 + len(tied), race.mode, race.test_share)
        luck = None
        if before is not None and interval is not None and interval.has_limits:
            luck = sign * (before - interval.mean)
        return Finalist(arm, before, tuple(runs.values()), _bounded(interval, metric), luck, verdict)

    def merit(one: Finalist) -> tuple[bool, float, bool]:
        mean = sum(one.values) / len(one.values) if one.values else math.nan
        value = -sign * round(mean, 9) if math.isfinite(mean) else math.inf  # equal up to rounding: the leader first
        return one.arm.name in found.dropped, value, one.arm.name != leader

    finalists = sorted(map(finalist, comparison.started.arms), key=merit)
    winner = next((one for one in finalists if comparison.winner and one.arm.name == comparison.winner.name), None)
    known = [(sign * one.searched, one) for one in finalists if one.searched is not None]
    favorite = max(known, key=lambda pair: pair[0])[1] if known else None
    decision = ("tie" if found.decision == "open" else found.decision) if ended else "open"
    gain = _gain(comparison, winner, values, sign, race.test_share)
    test, test_gain, images = _on_test(comparison, winner, metric, race.test_share)
    before = sum(c.opened is not None for c in result.comparisons if c.number < comparison.number)
    return RefitOutcome(
        comparison, metric, tuple(finalists), winner, decision, favorite, gain, test, test_gain, images, before
    )


def _bounded(interval: Interval | None, metric: str) -> Interval | None:
    """The interval, within 0 and 1 where the metric is a share."""
    if interval is None or metric not in SHARES or not interval.has_limits:
        return interval
    return replace(interval, low=max(interval.low, 0.0), high=min(interval.high, 1.0))


def _gain(
    comparison: Comparison, winner: Finalist | None, values: Mapping[str, Mapping[int, float]], sign: float,
    test_share: float,
) -> Interval | None:  # fmt: skip
    """By how much the winner is better than the reference, paired by seed."""
    reference = comparison.reference
    if winner is None or reference is None or reference.name == winner.arm.name:
        return None
    ours, theirs = ({i: sign * v for i, v in values.get(n, {}).items()} for n in (winner.arm.name, reference.name))
    if not all(map(math.isfinite, (*ours.values(), *theirs.values()))):  # one of them diverged or failed
        return None
    return paired_interval(ours, theirs, test_share)


def _on_test(
    comparison: Comparison, winner: Finalist | None, metric: str, test_share: float
) -> tuple[Interval | None, Interval | None, int | None]:
    """The winner on the test split, its gain over the reference there, and the split's size."""
    if winner is None or comparison.scored is None or metric not in TEST_METRICS:
        return None, None, None
    name = TEST_METRICS[metric]
    values, sign = comparison.test_values(name), -1.0 if name == "loss" else 1.0
    score = mean_interval(values.get(winner.arm.name, {}), test_share)
    return _bounded(score, metric), _gain(comparison, winner, values, sign, test_share), comparison.scored.images
