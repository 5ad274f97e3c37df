"""Schedulers: the contract for each, and what is particular to one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container
from typing import Any

import numpy as np
import pytest

from search.algorithms.schedulers.asha import Asha
from search.algorithms.schedulers.asha_promote import AshaPromote
from search.algorithms.schedulers.base import Decision, Scheduler
from search.algorithms.schedulers.halving import Halving, rung_levels
from search.algorithms.schedulers.hyperband import Hyperband
from search.algorithms.schedulers.none import NoStopping
from search.algorithms.schedulers.registry import SCHEDULERS, build_scheduler
from search.study.overrides import override
from search.study.parse import load_study
from search.study.settings import HyperbandSettings
from search.study.smoke import shrink
from search.testing.schedulers import EPOCHS, Mode, SchedulerSuite, curves, results
from trainables.config import ConfigError

SETTINGS: dict[str, Any] = {"epochs": EPOCHS, "grace_period": 1, "reduction_factor": 3, "mode": "max"}


def asha(**changes: Any) -> Asha:
    return Asha(**{**SETTINGS, **changes})


def hyperband(**changes: Any) -> Hyperband:
    return Hyperband(**{**SETTINGS, **changes})


class TestNoStopping(SchedulerSuite):
    def make(self, mode: Mode, protected: Container[int]) -> Scheduler:
        return NoStopping()


class TestAsha(SchedulerSuite):
    def make(self, mode: Mode, protected: Container[int]) -> Scheduler:
        return asha(mode=mode, protected=protected)


class TestAshaWithALateStart(SchedulerSuite):
    def make(self, mode: Mode, protected: Container[int]) -> Scheduler:
        return asha(mode=mode, protected=protected, grace_period=4, reduction_factor=2)


class TestHyperband(SchedulerSuite):
    def make(self, mode: Mode, protected: Container[int]) -> Scheduler:
        return hyperband(mode=mode, protected=protected)


@pytest.mark.parametrize(
    ("grace", "eta", "epochs", "levels"),
    [
        (1, 3, 27, (1, 3, 9)),
        (1, 3, 28, (1, 3, 9, 27)),
        (4, 2, 20, (4, 8, 16)),
        (5, 4, 5, ()),
        (9, 4, 5, ()),
        (1, 2.5, 20, (1, 3, 7, 16)),
        (1, 1.2, 5, (1, 2, 3, 4)),
    ],
)
def test_rungs_lie_at_powers_below_the_last_epoch(grace: int, eta: float, epochs: int, levels: tuple[int, ...]) -> None:
    assert rung_levels(grace, eta, epochs) == levels
    assert asha(grace_period=grace, reduction_factor=eta, epochs=epochs).rungs(0) == levels


def decide(scheduler: Asha, *values: float) -> str:
    """Trials that reach the first rung one after another: `+` continues, `-` stops."""
    return "".join("-" if scheduler.on_result(trial, 1, value).stop else "+" for trial, value in enumerate(values))


def test_asha_keeps_the_best_of_the_values_seen_so_far() -> None:
    # With eta 3 two are kept of two and three values, three of four and five, four of six and seven, five of eight.
    assert decide(asha(), 0.5, 0.4, 0.3, 0.35, 0.45, 0.36, 0.355, 0.46) == "++-+++-+"
    assert decide(asha(), 0.5, 0.5, 0.5, 0.5) == "++++"
    assert decide(asha(), 0.6, 0.5, 0.4, 0.5, 0.5) == "++-++"


def test_asha_reports_the_value_that_had_to_be_reached() -> None:
    scheduler = asha()
    assert scheduler.on_result(0, 1, 0.5) == Decision("continue", rung=1, cutoff=0.5)
    assert scheduler.on_result(1, 1, 0.4) == Decision("continue", rung=1, cutoff=0.4)
    assert scheduler.on_result(2, 1, 0.3) == Decision("stop", rung=1, cutoff=0.4)
    assert scheduler.on_result(3, 1, 0.7) == Decision("continue", rung=1, cutoff=0.4)
    assert scheduler.on_result(4, 1, math.nan) == Decision("stop", rung=1, cutoff=0.4)
    assert asha().on_result(0, 1, math.nan) == Decision("stop", rung=1, cutoff=None)


@pytest.mark.parametrize("eta", [2, 3, 4])
def test_asha_stops_where_more_are_better_than_one_standard_error_above_the_share(eta: int) -> None:
    for n in (1, 2, 3, 4, 5, 6, 9, 16, 50, 200):
        bound = n / eta + math.sqrt(n / eta * (1 - 1 / eta))
        for better in range(n):
            scheduler = asha(reduction_factor=eta)
            for trial, value in enumerate([1.0] * better + [0.0] * (n - 1 - better)):
                scheduler.on_result(trial, 1, value)
            assert scheduler.on_result(n, 1, 0.5).stop == (better >= bound), (n, better, bound)


@pytest.mark.parametrize("kind", [Asha, AshaPromote, Hyperband])
def test_only_the_order_of_values_counts(kind: type[Halving]) -> None:
    plain, warped = (
        [
            (result.trial, result.epoch, result.decision.action)
            for result in results(kind(**SETTINGS), values, concurrent=4)
        ]
        for values in (curves(50), np.exp(9 * curves(50)))
    )
    assert plain == warped


def test_asha_keeps_a_third_in_the_long_run() -> None:
    values = [(number * 0.6180339887498949) % 1 for number in range(3000)]
    assert decide(asha(), *values).count("+") / 3000 == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.parametrize("kind", [Asha, AshaPromote, Hyperband])
def test_what_makes_no_sense_is_refused(kind: type[Halving]) -> None:
    for changes in ({"grace_period": 0}, {"reduction_factor": 1}, {"reduction_factor": math.nan}):
        with pytest.raises(ValueError, match="must be"):
            kind(**SETTINGS | changes)


# --- Hyperband


def test_brackets_lack_one_rung_after_the_other_and_share_trials_as_in_the_paper() -> None:
    scheduler = hyperband()
    shares = {(1, 3, 9): 27, (3, 9): 12, (9,): 6, (): 4}  # Li et al. 2018, table 1: s = 3, 2, 1, 0 with R = 27
    for first in (0, 49, 1000):
        for trials in (49, 490):
            counted = Counter(scheduler.rungs(trial) for trial in range(first, first + trials))
            assert counted.keys() == shares.keys()
            for rungs, share in shares.items():
                assert abs(counted[rungs] - share * trials / 49) < 3
    assert {hyperband(grace_period=27).rungs(trial) for trial in range(20)} == {()}


def test_a_bracket_is_an_asha_of_its_own_trials() -> None:
    values = curves(60)
    happened = list(results(hyperband(), values, concurrent=4))
    for grace in (1, 3, 9):
        alone = asha(grace_period=grace)
        members = [t for t in happened if hyperband().rungs(t.trial) == alone.rungs(0)]
        assert len({t.trial for t in members}) > 3
        assert [alone.on_result(t.trial, t.epoch, t.value) for t in members] == [t.decision for t in members]
        assert any(t.decision.stop for t in members)


def test_a_study_that_switches_between_variants_keeps_its_rungs_also_in_a_smoke_run() -> None:
    spec = load_study("cifar10_resnet110")
    switched = override(spec, sets=["scheduler.kind=hyperband"])
    assert switched.scheduler == HyperbandSettings(grace_period=9, reduction_factor=3)
    assert override(switched, sets=["scheduler.kind=asha"]) == spec
    again = override(switched, sets=["scheduler.kind=asha_promote", "scheduler.grace_period=4"])
    assert again.scheduler.model_dump() == {"kind": "asha_promote", "grace_period": 4, "reduction_factor": 3}
    assert shrink(switched).scheduler == HyperbandSettings(grace_period=1, reduction_factor=3)
    assert override(switched, epochs=9).scheduler == HyperbandSettings(grace_period=1, reduction_factor=3)
    with pytest.raises(ConfigError, match=r"must be below budget\.epochs"):
        override(switched, epochs=9, sets=["scheduler.grace_period=9"])


# --- from a study


def test_every_row_of_the_table_builds_what_a_study_names_and_spares_its_recipes() -> None:
    built = {"none": NoStopping, "asha": Asha, "asha_promote": AshaPromote, "hyperband": Hyperband}
    assert set(SCHEDULERS) == set(built)
    for kind in SCHEDULERS:
        spec = override(load_study("synthetic"), sets=[f"scheduler.kind={kind}"])
        scheduler = build_scheduler(spec)
        assert type(scheduler) is built[kind]
        if kind == "none":
            continue
        count = len(spec.recipes)
        assert count > 0
        worse = -1.0 if spec.objective.mode == "max" else 1.0
        trials = [trial for trial in range(count, 50) if 1 in scheduler.rungs(trial)]
        for trial in trials[1:]:
            scheduler.on_result(trial, 1, 0.0)
        decisions = [scheduler.on_result(trial, 1, worse) for trial in (*range(count), trials[0])]
        assert [decision.action == "continue" for decision in decisions] == [True] * count + [False]
