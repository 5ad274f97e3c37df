"""Confidence intervals of a mean over seeds or folds, and of the difference between two arms that shared them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit  # scipy.stats takes half a second more to load

from trainables.result import Mode

__all__ = [
    "MISSED", "Interval", "best_interval", "mean_interval", "paired_interval", "quantile", "same_mean",
    "standard_error",
]  # fmt: skip

MISSED = 0.05  # of the intervals do not hold the truth


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, or a difference of means, and the limits of its 95 % confidence interval; NaN what is not known."""

    mean: float
    low: float = math.nan
    high: float = math.nan

    @property
    def has_limits(self) -> bool:
        """Whether the limits are known: two runs are needed."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def within_noise(self) -> bool:
        """Of a difference: whether its limits are known and hold 0."""
        return self.low <= 0 <= self.high

    def __str__(self) -> str:
        return self._text("")

    @property
    def signed(self) -> str:
        """As text, with the signs of a difference."""
        return self._text("+")

    def _text(self, sign: str) -> str:
        form = f"{sign}z.4f"  # z: what is rounded to zero has no minus
        limits = f" [{self.low:{form}}, {self.high:{form}}]" if self.has_limits else ""
        return f"{self.mean:{form}}{limits}"


def same_mean(a: float, b: float) -> bool:
    """Whether two means differ by no more than the rounding of their sums."""
    return math.isclose(a, b, rel_tol=1e-9)


def mean_interval(values: Mapping[int, float], test_share: float = 0.0) -> Interval | None:
    """Student's interval for the mean of the runs, by index; None without any, without limits for a single one.

    Args:
        values: by the index of the run's seed or fold.
        test_share: with cross-validation, how many images are validated on for one that is trained on; 0 for seeds.
    """
    return _interval(list(values.values()), test_share, MISSED / 2, MISSED / 2)


def paired_interval(a: Mapping[int, float], b: Mapping[int, float], test_share: float = 0.0) -> Interval | None:
    """Student's interval for the mean of a - b over the indices that both have, as `mean_interval`."""
    return _interval([a[index] - b[index] for index in a if index in b], test_share, MISSED / 2, MISSED / 2)


def best_interval(values: Mapping[int, float], of: int, mode: Mode, test_share: float = 0.0) -> Interval | None:
    """`mean_interval` for the arm whose mean over these very runs is the best of `of` that no test could tell apart.

    The best of several is more often lucky than unlucky. If all are equally good, its mean misses the truth on the
    lucky side up to `of` times as often as one that was named beforehand, and hardly ever on the other. So the limit on
    the worse side takes 5 % for itself, divided by `of` (Bonferroni), and the limit on the better side stays as it is.
    """
    worse, better = (MISSED / max(of, 2), MISSED / 2)
    below, above = (worse, better) if mode == "max" else (better, worse)
    return _interval(list(values.values()), test_share, below, above)


def standard_error(values: np.ndarray, test_share: float = 0.0) -> float:
    """The standard error of the mean of two values or more.

    The training sets of cross-validation overlap, which the plain error of the mean does not know of; `test_share`
    corrects for it (Nadeau and Bengio 2003, Inference for the generalization error; for repeated folds Bouckaert and
    Frank 2004).
    """
    return float(values.std(ddof=1)) * math.sqrt(1 / len(values) + test_share)


def quantile(above: float, freedom: int) -> float:
    """What Student's t with `freedom` degrees of freedom exceeds with probability `above`."""
    return -float(stdtrit(freedom, above))


def _interval(values: list[float], test_share: float, below: float, above: float) -> Interval | None:
    """The interval whose truth lies below it with probability `below`, and above it with `above`."""
    if len(values) < 2:
        return Interval(values[0]) if values else None
    array = np.array(values)
    mean, error, freedom = float(array.mean()), standard_error(array, test_share), len(values) - 1
    return Interval(mean, mean - quantile(below, freedom) * error, mean + quantile(above, freedom) * error)
