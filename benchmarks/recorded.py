"""Real learning curves as a family: what `record_curves` measured.

A point of the space shows the curve of the recorded configuration nearest to it, whoever suggests it. Nearest means:
the same options wherever something hangs on the option (optimizer, schedule); then the smallest sum, over the values of
that branch, of squared differences on ranges scaled to 0..1 (in the logarithm where the space says so) and a quarter
for each other choice that differs. Where no configuration with these options was recorded, those with the most of them
stand in. Nothing is added to what was recorded: the noise of these curves is their own.

What a configuration ends at is what its second run, with another seed, ended at, where there is one: the run that a
search saw and chose is likely to have been a lucky one.

An epoch takes the median recorded seconds of its batch size, the only value that the time of this network depends on.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.curves import CHANCE, Curve
from spaces import Choice, Domain, Float, Int, Scalar, Space

__all__ = ["Recorded"]

OTHER_CHOICE = 0.25
# What scoring another network adds to an epoch, of the seconds that are recorded: 5,000 images to train on and as many
# to validate with, an evaluation of which takes 7 of the 33 s of a run (AMD EPYC with AVX-512).
SCORING = 0.22

Options = tuple[tuple[str, Scalar], ...]


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
        half: 0 for the runs with even numbers alone, 1 for the odd ones; None for all.
    """

    def __init__(self, path: Path, space: Space, name: str, half: int | None = None) -> None:
        self.name, self.space = name, space
        self._domains = space.domains()
        self._branching = [k for k in self._domains if any(o.startswith(f"{k}=") for o in self._domains)]
        rows: dict[int, list[dict[str, Any]]] = {}  # of each run, its seeds in order
        for row in pq.read_table(path).to_pylist():
            if half is None or row["run"] % 2 == half:
                rows.setdefault(row["run"], []).append(row)
        first = [of_run[0] for of_run in rows.values()]
        self.points: list[dict[str, Scalar]] = [json.loads(row["values"]) for row in first]
        self.epochs = max(len(row["val_accuracy"]) for row in first)
        by_batch: dict[Scalar, list[float]] = {}
        for point, row in zip(self.points, first, strict=True):
            by_batch.setdefault(point["batch_size"], []).extend(row["seconds"])
        seconds = {batch: statistics.median(taken) for batch, taken in by_batch.items()}
        self._curves = [
            self._curve(of_run, seconds[point["batch_size"]])
            for point, of_run in zip(self.points, rows.values(), strict=True)
        ]
        self._branches = self._grouped()

    def curve(self, values: Mapping[str, Scalar], seed: int) -> Curve:
        """The curve of the nearest recorded point; every seed sees the same."""
        options = self._options(values)
        branch = self._branches.get(options) or self._branches[self._closest(options)]
        distance = np.zeros(len(branch.runs))
        for column, key in enumerate(branch.keys):
            if key not in values:  # of an option that is not this point's
                continue
            domain = self._domains[key]
            off = branch.scaled[:, column] - self._scaled(domain, values[key])
            distance += (off != 0) * OTHER_CHOICE if isinstance(domain, Choice) else off**2
        return self._curves[branch.runs[int(np.argmin(distance))]]

    def _curve(self, of_run: Sequence[Mapping[str, Any]], seconds: float) -> Curve:
        """From the rows of a configuration, one a seed."""
        first, last = of_run[0], of_run[-1]
        epochs = len(first["val_accuracy"])
        averaged = self._whole(first["ema_accuracy"]) if "ema_accuracy" in first else ()  # digits were recorded without
        return Curve(
            self._whole(first["val_accuracy"]), seconds, self._whole(last["val_accuracy"])[-1],
            epochs + 1 if epochs < self.epochs else None, averaged, SCORING * seconds,
        )  # fmt: skip

    def _whole(self, values: Sequence[float]) -> tuple[float, ...]:
        """The values of all epochs, those after a divergence being chance."""
        return (*values, *[CHANCE] * (self.epochs - len(values)))

    def _options(self, values: Mapping[str, Scalar]) -> Options:
        return tuple((key, values[key]) for key in self._branching if key in values)

    def _closest(self, options: Options) -> Options:
        return max(self._branches, key=lambda recorded: len({*recorded} & {*options}))

    def _grouped(self) -> dict[Options, _Branch]:
        members: dict[Options, list[int]] = {}
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
