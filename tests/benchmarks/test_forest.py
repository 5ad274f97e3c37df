"""Curves between the recorded ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.forest import Forest
from benchmarks.recorded import Recorded
from search.algorithms.searchers.random import RandomSearcher
from search.study.parse import load_study

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    spec = load_study(str(BENCHMARKS / "cifar10_resnet8.yaml"))
    return Recorded(BENCHMARKS / "curves_cifar10_resnet8.parquet", spec.parsed_space, spec.study)


@pytest.fixture(scope="module")
def forest(recorded: Recorded) -> Forest:
    return Forest(recorded)


def test_a_recorded_configuration_shows_about_its_own_curve(recorded: Recorded, forest: Forest) -> None:
    own = np.array([recorded.curve(point, 0).reported for point in recorded.points])
    shown = np.array([forest.curve(point, 0).reported for point in recorded.points])
    assert np.median(np.abs(own - shown)) < 0.03
    assert 0.3 < forest.explained < 1
    assert 0.005 < forest.noise < 0.1


def test_seeds_and_values_have_curves_of_their_own(forest: Forest) -> None:
    points = [RandomSearcher(forest.space, 1).suggest(number) for number in range(20)]
    curves = [forest.curve(point.values, 1) for point in points if point is not None]
    assert curves == [forest.curve(point.values, 1) for point in points if point is not None]
    assert len({curve.final for curve in curves}) == len(curves)  # no two of them the nearest to the same run
    other = forest.curve(points[0].values, 2)  # type: ignore[union-attr]
    assert other.reported != curves[0].reported
    assert other.final == curves[0].final
    assert all(0 < share < 1 for curve in curves for share in (*curve.reported, *curve.averaged))
    assert len(other.reported) == len(other.averaged) == forest.epochs
