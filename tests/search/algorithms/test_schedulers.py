"""Schedulers: the contract for each, and what is particular to one."""

from __future__ import annotations

import math
from typing import Any

import pytest

from search.algorithms.schedulers.asha import Asha
from search.algorithms.schedulers.asha_promote import AshaPromote
from search.algorithms.schedulers.base import Decision
from search.algorithms.schedulers.halving import rung_levels
from search.algorithms.schedulers.none import NoStopping
from search.algorithms.schedulers.registry import SCHEDULERS, build_scheduler
from search.study.overrides import override
from search.study.parse import load_study
from tests.contracts.scheduler_suite import EPOCHS, Make, SchedulerSuite, curves, results
from trainables.config import ConfigError


def asha(**changes: Any) -> Asha:
    settings: dict[str, Any] = {"epochs": EPOCHS, "grace_period": 1, "reduction_factor": 3, "mode": "max"}
    return Asha(**{**settings, **changes})


class TestNoStopping(SchedulerSuite):
    @pytest.fixture
    def make(self) -> Make:
        return lambda mode, protected: NoStopping()


class TestAsha(SchedulerSuite):
    @pytest.fixture
    def make(self) -> Make:
        return lambda mode, protected: asha(mode=mode, protected=protected)


class TestAshaWithALateStart(SchedulerSuite):
    @pytest.fixture
    def make(self) -> Make:
        return lambda mode, protected: asha(mode=mode, protected=protected, grace_period=4, reduction_factor=2)


def test_without_a_scheduler_nothing_stops() -> None:
    scheduler = NoStopping()
    assert all(told.decision == Decision() for told in results(scheduler, curves(10)))
    assert scheduler.rungs == {}


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
    assert tuple(asha(grace_period=grace, reduction_factor=eta, epochs=epochs).rungs) == levels


def decide(scheduler: Asha, *values: float) -> str:
    """Trials that reach the first rung one after another: `+` goes on, `-` stops."""
    return "".join("-" if scheduler.on_result(trial, 1, value).stop else "+" for trial, value in enumerate(values))


def test_asha_keeps_the_best_of_the_values_seen_so_far() -> None:
    # With eta 3 two are kept of two and three values, three of four and five, four of six and seven, five of eight.
    assert decide(asha(), 0.5, 0.4, 0.3, 0.35, 0.45, 0.36, 0.355, 0.46) == "++-+++-+"


def test_asha_tells_the_value_that_had_to_be_reached() -> None:
    scheduler = asha()
    assert scheduler.on_result(0, 1, 0.5) == Decision("continue", rung=1, cutoff=0.5)
    assert scheduler.on_result(1, 1, 0.4) == Decision("continue", rung=1, cutoff=0.4)
    assert scheduler.on_result(2, 1, 0.3) == Decision("stop", rung=1, cutoff=0.4)
    assert scheduler.on_result(3, 1, 0.7) == Decision("continue", rung=1, cutoff=0.4)
    assert scheduler.on_result(4, 1, math.nan) == Decision("stop", rung=1, cutoff=0.4)
    assert asha().on_result(0, 1, math.nan) == Decision("stop", rung=1, cutoff=None)


def test_asha_lets_ties_with_the_kept_go_on() -> None:
    assert decide(asha(), 0.5, 0.5, 0.5, 0.5) == "++++"
    assert decide(asha(), 0.6, 0.5, 0.4, 0.5, 0.5) == "++-++"


@pytest.mark.parametrize("eta", [2, 3, 4])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 9, 16, 50, 200])
def test_asha_stops_where_more_are_better_than_one_standard_error_above_the_share(n: int, eta: int) -> None:
    share = 1 / eta
    bound = n * share + math.sqrt(n * share * (1 - share))
    for better in range(n):
        scheduler = asha(reduction_factor=eta)
        others = [1.0] * better + [0.0] * (n - 1 - better)
        for trial, value in enumerate(others):
            scheduler.on_result(trial, 1, value)
        assert scheduler.on_result(n, 1, 0.5).stop == (better >= bound), (better, bound)


def test_asha_depends_on_the_order_of_values_only() -> None:
    plain, warped = asha(), asha()
    for told in results(plain, curves(50), concurrent=4):
        assert warped.on_result(told.trial, told.epoch, math.exp(9 * told.value)).stop == told.decision.stop


def test_asha_keeps_a_third_in_the_long_run() -> None:
    scheduler = asha()
    values = [(number * 0.6180339887498949) % 1 for number in range(3000)]
    assert decide(scheduler, *values).count("+") / 3000 == pytest.approx(1 / 3, abs=0.02)


def test_asha_refuses_what_makes_no_sense() -> None:
    with pytest.raises(ConfigError) as refused:
        asha(grace_period=0, reduction_factor=1, mode="best")
    assert [p.path for p in refused.value.problems] == [
        "scheduler.grace_period",
        "scheduler.reduction_factor",
        "objective.mode",
    ]
    with pytest.raises(ConfigError):
        asha(reduction_factor=math.nan)


def test_every_row_of_the_table_builds_what_a_study_names() -> None:
    built = {"none": NoStopping, "asha": Asha, "asha_promote": AshaPromote}
    assert set(SCHEDULERS) == set(built)
    for kind, info in SCHEDULERS.items():
        assert info.kind == kind
        assert type(build_scheduler(override(load_study("synthetic"), sets=[f"scheduler.kind={kind}"]))) is built[kind]


@pytest.mark.parametrize("kind", ["asha", "asha_promote"])
def test_a_study_s_recipes_always_go_on(kind: str) -> None:
    spec = override(load_study("synthetic"), sets=[f"scheduler.kind={kind}"])
    scheduler = build_scheduler(spec)
    first = next(iter(scheduler.rungs))
    count = len(spec.recipes)
    assert count > 0
    worse = -1.0 if spec.objective.mode == "max" else 1.0
    for trial in range(count + 1, count + 5):
        scheduler.on_result(trial, first, 0.0)
    decisions = [scheduler.on_result(trial, first, worse) for trial in range(count + 1)]
    assert [decision.action == "continue" for decision in decisions] == [True] * count + [False]
