"""Real learning curves as a family: what `record_curves` measured on handwritten digits.

A point of the space shows the curve of the recorded configuration nearest to it, whoever suggests it. Nearest means:
the same options wherever something hangs on the option (optimizer, schedule); then the smallest sum, over the values of
that branch, of squared differences on ranges scaled to 0..1 (in the logarithm where the space says so) and a quarter
for each other choice that differs. Nothing is added to what was recorded: the noise of these curves is their own.

An epoch takes the median recorded seconds of its batch size, the only value that the time of this network depends on.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.curves import CHANCE, Curve
from spaces import Choice, Domain, Float, Int, Scalar, Space

__all__ = ["Recorded"]

OTHER_CHOICE = 0.25


@dataclass(frozen=True)
class _Branch:
    """The recorded points that share their options: a row of scaled values each, and the numbers of their runs."""

    keys: tuple[str, ...]
    scaled: np.ndarray
    runs: tuple[int, ...]


class Recorded:
    """Curves from a file that `record_curves` wrote.

    Args:
        path: the file.
        space: that of the study the runs were drawn from.
        name: what tables call it.
    """

    def __init__(self, path: Path, space: Space, name: str) -> None:
        self.name, self.space = name, space
        self._domains = space.domains()
        self._branching = [k for k in self._domains if any(o.startswith(f"{k}=") for o in self._domains)]
        rows = pq.read_table(path).to_pylist()
        self.points: list[dict[str, Scalar]] = [json.loads(row["values"]) for row in rows]
        self.epochs = max(len(row["val_accuracy"]) for row in rows)
        by_batch: dict[Scalar, list[float]] = {}
        for point, row in zip(self.points, rows, strict=True):
            by_batch.setdefault(point["batch_size"], []).extend(row["seconds"])
        seconds = {batch: statistics.median(taken) for batch, taken in by_batch.items()}
        self._curves = [
            self._curve(row["val_accuracy"], seconds[point["batch_size"]])
            for point, row in zip(self.points, rows, strict=True)
        ]
        self._branches = self._grouped()

    def curve(self, values: Mapping[str, Scalar], seed: int) -> Curve:
        """The curve of the nearest recorded point; every seed sees the same."""
        branch = self._branches[self._options(values)]
        distance = np.zeros(len(branch.runs))
        for column, key in enumerate(branch.keys):
            domain, value = self._domains[key], values[key]
            off = branch.scaled[:, column] - self._scaled(domain, value)
            distance += (off != 0) * OTHER_CHOICE if isinstance(domain, Choice) else off**2
        return self._curves[branch.runs[int(np.argmin(distance))]]

    def _curve(self, accuracies: list[float], seconds: float) -> Curve:
        diverged = len(accuracies) + 1 if len(accuracies) < self.epochs else None
        reported = [*accuracies, *[CHANCE] * (self.epochs - len(accuracies))]
        return Curve(tuple(reported), seconds, reported[-1], diverged)

    def _options(self, values: Mapping[str, Scalar]) -> tuple[tuple[str, Scalar], ...]:
        return tuple((key, values[key]) for key in self._branching if key in values)

    def _grouped(self) -> dict[tuple[tuple[str, Scalar], ...], _Branch]:
        members: dict[tuple[tuple[str, Scalar], ...], list[int]] = {}
        for run, point in enumerate(self.points):
            members.setdefault(self._options(point), []).append(run)
        branches = {}
        for options, runs in members.items():
            keys = tuple(key for key in self.points[runs[0]] if key not in self._branching)
            scaled = [[self._scaled(self._domains[key], self.points[run][key]) for key in keys] for run in runs]
            branches[options] = _Branch(keys, np.array(scaled), tuple(runs))
        return branches

    @staticmethod
    def _scaled(domain: Domain, value: Scalar) -> float:
        if isinstance(domain, Choice):
            return float(next(i for i, option in enumerate(domain.options) if option == value))
        number = float(value)  # type: ignore[arg-type]
        if isinstance(domain, Float | Int) and domain.log:
            return math.log(number / domain.low) / math.log(domain.high / domain.low)
        return (number - domain.low) / (domain.high - domain.low)
