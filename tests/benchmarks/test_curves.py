"""The synthetic curves: what they are said to be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from benchmarks.curves import CHANCE, EPOCHS, SYNTHETIC, Curve, Synthetic
from search.algorithms.searchers.random import RandomSearcher
from spaces import path_of

FAMILIES = pytest.mark.parametrize("family", SYNTHETIC, ids=lambda family: family.name)


def drawn(family: Synthetic, count: int = 600) -> list[Curve]:
    searcher = RandomSearcher(family.space, seed=1)
    return [family.curve(searcher.suggest(number).values, seed=0) for number in range(count)]


@FAMILIES
def test_curves_are_accuracies_of_every_epoch(family: Synthetic) -> None:
    for curve in drawn(family):
        assert len(curve.reported) == family.epochs == EPOCHS
        assert all(0 <= value <= 1 for value in curve.reported)
        assert 0.4 < curve.seconds < 6
        assert curve.reported[-1] == pytest.approx(curve.final, abs=0.15)


@FAMILIES
def test_a_curve_depends_on_seed_and_configuration_only(family: Synthetic) -> None:
    values = RandomSearcher(family.space, seed=1).suggest(5).values
    assert family.curve(values, 3) == family.curve(dict(reversed(values.items())), 3)
    assert family.curve(values, 3).reported != family.curve(values, 4).reported
    assert family.curve(values, 3).final == family.curve(values, 4).final


@FAMILIES
def test_curves_cross(family: Synthetic) -> None:
    curves = drawn(family)
    final = [curve.final for curve in curves]
    correlations = [spearmanr([c.reported[epoch - 1] for c in curves], final).statistic for epoch in (1, 3, 9)]
    assert correlations == sorted(correlations)
    assert correlations[0] < 0.5
    assert correlations[2] < 0.9


@FAMILIES
def test_the_space_has_branches_and_every_value_matters(family: Synthetic) -> None:
    assert any("=" in key for key in family.space.domains())
    searcher = RandomSearcher(family.space, seed=1)
    points = [searcher.suggest(number).values for number in range(100)]
    matters = set()
    for point in points:
        shown = family.shape({path_of(key): value for key, value in point.items()}).clean
        for key in point.keys() - matters:
            others = [p for p in points if p.keys() == point.keys() and p[key] != point[key]]
            changed = [family.shape({path_of(k): v for k, v in {**point, key: p[key]}.items()}) for p in others]
            matters |= {key} if any((shape.clean != shown).any() for shape in changed) else set()
    keys = set(family.space.domains())
    parents = {key for key in keys if any(other.startswith(f"{key}=") for other in keys)}  # their branches matter
    assert matters == keys - parents


def test_what_diverges_stays_at_chance() -> None:
    *_, edge = SYNTHETIC
    diverged = [curve for curve in drawn(edge) if curve.diverged is not None]
    assert 0.1 < len(diverged) / 600 < 0.5
    for curve in diverged:
        assert curve.diverged is not None
        assert set(curve.reported[curve.diverged - 1 :]) == {CHANCE}
        assert curve.final == CHANCE


def test_what_will_diverge_leads_at_first() -> None:
    *_, edge = SYNTHETIC
    curves = drawn(edge)
    late = [c.reported[0] for c in curves if c.diverged is not None and c.diverged > 3]
    stable = [c.reported[0] for c in curves if c.diverged is None]
    assert np.median(late) > np.quantile(stable, 0.75)


def test_late_bloomers_start_late_and_overfitters_fall() -> None:
    late, over, _ = SYNTHETIC
    curves = drawn(late)
    best = sorted(curves, key=lambda curve: -curve.final)[:12]
    others = [c for c in curves if c.final > 0.8 and c not in best]
    assert np.median([c.reported[2] for c in best]) < np.median([c.reported[2] for c in others])
    fallen = [max(c.reported[:9]) - c.final for c in drawn(over)]
    assert np.mean(np.array(fallen) > 0.05) > 0.15
