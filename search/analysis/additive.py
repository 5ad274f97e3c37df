"""Differences between arms whose runs share their seeds, with intervals that are usable from three seeds on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

import numpy as np

from search.algorithms.intervals import Interval

__all__ = ["AdditiveModel"]


class AdditiveModel:
    """Value = arm + seed + noise, by least squares: a randomized block design (Fisher 1935), its seeds the blocks.

    All arms share one estimate of the noise, so that 5 arms of 3 seeds leave it 8 degrees of freedom where a single
    pair leaves 2. Runs without a value may be missing anywhere.

    Args:
        values: by arm and by index of the seed; NaN for a run without one.

    Attributes:
        means: by arm, as if every seed had run with it; arms without any value are left out.
        noise: the standard deviation of a run whose arm and seed are known; NaN without a degree of freedom.
        freedom: degrees of freedom of `noise`.
    """

    def __init__(self, values: Mapping[str, Mapping[int, float]]) -> None:
        cells = [(a, i, v) for a, runs in values.items() for i, v in runs.items() if math.isfinite(v)]
        self._arms = {arm: place for place, arm in enumerate(dict.fromkeys(arm for arm, _, _ in cells))}
        seeds = sorted({index for _, index, _ in cells})
        design = np.zeros((len(cells), len(self._arms) + len(seeds)))
        for row, (arm, index, _) in enumerate(cells):
            design[row, self._arms[arm]] = design[row, len(self._arms) + seeds.index(index)] = 1.0
        observed = np.array([value for _, _, value in cells])
        inverse = np.linalg.pinv(design)
        self._fit, self._covariance = inverse @ observed, inverse @ inverse.T
        self._estimable = inverse @ design  # a contrast that this leaves as it is
        self.freedom = len(cells) - int(np.linalg.matrix_rank(design)) if cells else 0
        left = observed - design @ self._fit
        self.noise = math.sqrt(float(left @ left) / self.freedom) if self.freedom else math.nan
        middle = float(self._fit[len(self._arms) :].mean()) if cells else math.nan
        self.means = {arm: float(self._fit[place]) + middle for arm, place in self._arms.items()}

    def contrast(self, weights: Mapping[str, float], critical: float) -> Interval:
        """A sum of arms with weights that sum to 0; `critical` is the interval's half in standard errors."""
        if not weights.keys() <= self._arms.keys():
            return Interval(math.nan)
        row = np.zeros(len(self._fit))
        for arm, weight in weights.items():
            row[self._arms[arm]] += weight
        if not np.allclose(row @ self._estimable, row):  # no seed has run with both
            return Interval(math.nan)
        error = self.noise * math.sqrt(max(0.0, float(row @ self._covariance @ row)))
        value, half = float(row @ self._fit), critical * error
        return Interval(value, value - half, value + half)

    def tukey(self, arms: int) -> float:
        """For all differences between so many arms to lie in their 95 % intervals at once (Tukey 1953, Kramer 1956)."""
        return _studentized_range(arms, self.freedom) / math.sqrt(2) if self.freedom else math.nan

    def bonferroni(self, contrasts: int) -> float:
        """For so many contrasts to lie in their 95 % intervals at once (Dunn 1961)."""
        from scipy.stats import t

        return float(t.ppf(1 - 0.025 / max(contrasts, 1), self.freedom)) if self.freedom else math.nan


@cache  # half a second each
def _studentized_range(arms: int, freedom: int) -> float:
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(0.95, arms, freedom))
