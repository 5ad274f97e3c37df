"""What the checks measure on a study's records: order, noise, resolution, and which settings have an effect."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.journal.records import TrialRecord, TrialStatus
from search.journal.result import StudyResult
from spaces import Choice, Domain, conditions_of, path_of

__all__ = [
    "SHARES", "Effect", "Effects", "below", "completed", "effects", "jitter", "judged", "noise",
    "number_of_trials", "position", "rank_correlation", "ranks", "rounded", "side", "validation_images", "values_of",
]  # fmt: skip

Array = NDArray[np.float64]

SHARES = ("val_accuracy", "val_precision", "val_recall", "val_f1")  # fractions of the validation images, or near it
MOST_IMAGES = 1_000_000
LEAST_VALUES = 8  # different accuracies: with fewer, all may share a divisor with n by chance
PERMUTATIONS = 999


def side(result: StudyResult) -> float:
    """1 if more of the objective is better, -1 if less."""
    return 1.0 if result.spec.objective.mode == "max" else -1.0


def number_of_trials(count: int, kind: str = "") -> str:
    """A number of trials in words: `1 trial`, `2 suggested trials`."""
    return f"{count} {kind}{' ' * bool(kind)}trial{'s' * (count != 1)}"


def values_of(record: TrialRecord, metric: str) -> list[float]:
    """The metric after each epoch; NaN where it was not reported."""
    return [epoch.metrics.get(metric, math.nan) for epoch in record.history]


def completed(result: StudyResult) -> list[TrialRecord]:
    """Trials that trained to their end, with a finite objective, best first; of equals the earlier."""
    metric, sign = result.spec.objective.metric, side(result)
    found = [r for r in result.trials if r.status is TrialStatus.COMPLETED and math.isfinite(r.value(metric))]
    return sorted(found, key=lambda record: (-sign * record.value(metric), record.number))


def judged(result: StudyResult) -> tuple[list[TrialRecord], Array]:
    """Suggested trials that the search has judged, worst first, and their ranks; equals share theirs.

    Diverged trials come first, then the others by epochs and value.

    Whoever was stopped or is paused at a rung is worse than all that passed it. Recipes are left out: they pass every
    rung, however bad they are. So are trials under way and those that failed, which say nothing about their settings.
    """
    metric, sign = result.spec.objective.metric, side(result)
    ends = (TrialStatus.COMPLETED, TrialStatus.STOPPED, TrialStatus.PAUSED, TrialStatus.DIVERGED)

    def merit(record: TrialRecord) -> tuple[bool, bool, int, float]:
        value, whole = record.value(metric), record.status is TrialStatus.COMPLETED
        fine = record.status is not TrialStatus.DIVERGED and math.isfinite(value)
        return fine, whole, 0 if whole else record.last_epoch, sign * value if fine else 0.0

    found = [r for r in result.trials if r.status in ends and r.history and r.recipe is None and r.values is not None]
    found.sort(key=merit)
    places = [0]
    for worse, better in pairwise(found):
        places.append(places[-1] + (merit(worse) != merit(better)))
    return found, ranks(places[: len(found)])


def ranks(values: Sequence[float]) -> Array:
    """Ranks from 0; equal values share their mean."""
    array = np.asarray(values, dtype=float)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    means: Array = np.cumsum(counts) - (counts + 1) / 2
    return means[inverse]


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's; 0 where one side is constant."""
    left, right = ranks(a), ranks(b)
    left, right = left - left.mean(), right - right.mean()
    scale = math.sqrt(float(left @ left) * float(right @ right))
    return float(left @ right) / scale if scale else 0.0


def validation_images(result: StudyResult) -> int | None:
    """The number of validation images that trials reported on; None if that is not known.

    In journals from before trials did, from accuracies being multiples of 1/n, if they are and are not too few. An
    accuracy that is no fraction of counts would have to lie within 1e-12 of one by chance.
    """
    if (report := next((r.report for r in result.trials if r.report is not None), None)) is not None:
        return sum(report.images)
    seen = {v for r in result.trials for v in values_of(r, "val_accuracy") if math.isfinite(v) and 0 < v < 1}
    images = 1
    for value in seen:
        share = Fraction(value).limit_denominator(100_000)
        images = math.lcm(images, share.denominator)
        if abs(share.numerator / share.denominator - value) > 1e-12 or images > MOST_IMAGES:
            return None
    return images if len(seen) >= LEAST_VALUES else None


def jitter(result: StudyResult) -> float | None:
    """The standard deviation of the objective from epoch to epoch, as the median over trials; None if unknown.

    In the second half of the curves of trials that trained to their end, from second differences: a straight line has
    none.
    """
    found = []
    for record in completed(result):
        half = np.asarray(values_of(record, result.spec.objective.metric)[len(record.history) // 2 :])
        if len(half) >= 3 and np.isfinite(half).all():
            found.append(math.sqrt(float(np.mean(np.diff(half, 2) ** 2)) / 6))
    return float(np.median(found)) if found else None


def noise(result: StudyResult) -> float | None:
    """A lower bound of the standard deviation of one trial's last value, in the objective's unit; None if unknown.

    The larger of the jitter and what counting so many validation images gives. What another seed would change, one
    seed does not tell.
    """
    ended, images = completed(result), validation_images(result)
    found = [found for found in [jitter(result)] if found is not None]
    if images is not None and ended and result.spec.objective.metric == "val_accuracy":
        share = (ended[0].value("val_accuracy") * images + 1) / (images + 2)  # above 0 noise, also where all are right
        found.append(math.sqrt(share * (1 - share) / images))
    return max(found, default=None)


def position(domain: Domain, value: Any) -> float:
    """Where a number lies in its range, 0 to 1, in the range's own scale; which option, for a choice."""
    if isinstance(domain, Choice):
        return float(domain.options.index(domain.canonical(value)))
    low, high, at = float(domain.low), float(domain.high), float(value)
    if domain.log:
        low, high, at = math.log(low), math.log(high), math.log(at)
    return (at - low) / (high - low)


def rounded(value: float) -> float:
    """To two digits."""
    return float(f"{value:.2g}")


def below(key: str) -> str:
    """Where a searched value stands: its config path, and the options on which it hangs."""
    options = conditions_of(key)
    return f"{path_of(key)} ({', '.join(options)})" if options else path_of(key)


@dataclass(frozen=True, slots=True)
class Effect:
    """How much of the order of the trials a setting explains, 0 to 1, and how likely so much is by chance."""

    key: str
    explained: float
    chance: float


@dataclass(frozen=True, slots=True)
class Effects:
    """The settings, strongest first, and how likely it is that the strongest stands out so much by chance alone."""

    settings: tuple[Effect, ...]
    chance: float


def effects(result: StudyResult) -> Effects | None:
    """Which settings the order of the trials depends on, alone or in a curve with one bend; None with under 8 trials.

    A permutation test. For each setting the share of the variance of the ranks that a parabola in its value, or its
    options, explain among the trials that have it; the strongest counts in units of what permuted ranks give.
    """
    trials, order = judged(result)
    if len(trials) < 8:
        return None
    draws = np.random.default_rng(0)
    shuffled = np.stack([order, *(draws.permutation(order) for _ in range(PERMUTATIONS))])
    names, explained = [], []
    for key, domain in result.spec.parsed_space.domains().items():
        rows = [i for i, record in enumerate(trials) if key in _values(record)]
        basis = _basis(domain, [_values(trials[i])[key] for i in rows]) if len(rows) >= 8 else None
        if basis is not None:
            here = shuffled[:, rows] - shuffled[:, rows].mean(axis=1, keepdims=True)
            names.append(key)
            explained.append(((here @ basis) ** 2).sum(axis=1) / np.maximum((here**2).sum(axis=1), 1e-12))
    if not names:
        return None
    shares = np.stack(explained)
    scores = (shares - shares.mean(axis=1, keepdims=True)) / np.maximum(shares.std(axis=1, keepdims=True), 1e-12)
    chances = (scores >= scores[:, :1] - 1e-12).mean(axis=1)
    strongest = scores.max(axis=0)
    found = [Effect(name, float(shares[i, 0]), float(chances[i])) for i, name in enumerate(names)]
    return Effects(
        tuple(sorted(found, key=lambda effect: effect.chance)), float((strongest >= strongest[0] - 1e-12).mean())
    )


def _values(record: TrialRecord) -> Mapping[str, Any]:
    return record.values or {}


def _basis(domain: Domain, values: Sequence[Any]) -> Array | None:
    """Orthonormal columns of what the setting can explain, its mean left out; None if it does not vary."""
    at = np.array([position(domain, value) for value in values])
    columns = [at == option for option in np.unique(at)] if isinstance(domain, Choice) else [at, at**2]
    matrix = np.stack(columns, axis=1).astype(float)
    left, scale, _ = np.linalg.svd(matrix - matrix.mean(axis=0), full_matrices=False)
    basis: Array = left[:, scale > 1e-9]
    return basis if 0 < basis.shape[1] < len(values) - 2 else None
