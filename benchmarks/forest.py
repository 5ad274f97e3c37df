"""What configurations between the recorded ones would show, by a random forest over whole curves.

A table of recorded curves shows a suggestion the curve of its nearest configuration: trying something close to a good
one cannot find a better one there. A forest (Eggensperger et al. 2015, "Efficient Benchmarking of Hyperparameter
Optimizers via Surrogates") answers in between. It smooths what it does not know, so that neither is the truth.

A curve is the forest's mean, in the logarithm of the odds, plus noise: what was off in the whole curve of a recorded
run of about the same quality that the trees had not seen, scaled to what two seeds of a configuration differ by. What a
trial is judged by is the mean.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping

import numpy as np
from scipy.special import expit, logit
from scipy.stats import median_abs_deviation
from sklearn.ensemble import RandomForestRegressor

from benchmarks.curves import Curve
from benchmarks.recorded import SCORING, Recorded
from spaces import Choice, Scalar

__all__ = ["Forest"]

TREES, LEAF, FEATURES = 200, 2, 0.5
NEIGHBORS = 40  # runs of about the same quality


class Forest:
    """A family of curves, fitted to recorded ones.

    Attributes:
        explained: the share of the variance of the last accuracies, in the logarithm of the odds, that it explains of
            runs that its trees have not seen.
        noise: the standard deviation between seeds, in the same unit.
    """

    def __init__(self, recorded: Recorded) -> None:
        self.name, self.space, self.epochs = f"{recorded.name}, forest", recorded.space, recorded.epochs
        self.points, self._domains = recorded.points, recorded.space.domains()
        curves = [recorded.curve(point, 0) for point in self.points]
        self._seconds = {point["batch_size"]: c.seconds for point, c in zip(self.points, curves, strict=True)}
        seen = np.array([self._encoded(point) for point in self.points])
        shown = _log_odds(np.array([[*c.reported, *c.averaged] for c in curves]))
        self._forest = RandomForestRegressor(
            TREES, min_samples_leaf=LEAF, max_features=FEATURES, oob_score=True, random_state=0
        ).fit(seen, shown)
        self._unseen = self._forest.oob_prediction_[:, self.epochs - 1]
        off = shown - self._forest.oob_prediction_
        last = off[:, self.epochs - 1]
        self.explained = 1 - float(last.var() / shown[:, self.epochs - 1].var())
        again = [c for c in curves if c.final != c.reported[-1]]  # were run with a second seed
        between = np.array([_log_odds(c.final) - _log_odds(c.reported[-1]) for c in again])
        self.noise = float(median_abs_deviation(between, scale="normal") / np.sqrt(2))
        self._noise = off * self.noise / last.std()

    def curve(self, values: Mapping[str, Scalar], seed: int) -> Curve:
        """The noisy curve of a point; the same for the same seed."""
        mean = self._forest.predict([self._encoded(values)])[0]
        draws = np.random.default_rng([seed, zlib.crc32(json.dumps(sorted(values.items())).encode())])
        alike = np.argsort(np.abs(self._unseen - mean[self.epochs - 1]))[:NEIGHBORS]
        shown = expit(mean + self._noise[draws.choice(alike)])
        final = float(expit(mean[self.epochs - 1]))
        reported, averaged = shown[: self.epochs].tolist(), shown[self.epochs :].tolist()
        seconds = self._seconds[values["batch_size"]]
        return Curve(tuple(reported), seconds, final, None, tuple(averaged), SCORING * seconds)

    def _encoded(self, values: Mapping[str, Scalar]) -> list[float]:
        """A number for each range, -1 where it does not apply, and one for each option; trees need no common scale."""
        row: list[float] = []
        for key, domain in self._domains.items():
            if isinstance(domain, Choice):
                row += [float(key in values and values[key] == option) for option in domain.options]
            else:
                row.append(float(values.get(key, -1.0)))  # type: ignore[arg-type]
        return row


def _log_odds(share: np.ndarray | float) -> np.ndarray:
    return np.asarray(logit(np.clip(share, 0.01, 0.99)))
