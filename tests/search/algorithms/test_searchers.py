"""Searchers: the contract for each, and what is particular to random draws and grids."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from search.algorithms.searchers.base import Searcher
from search.algorithms.searchers.grid import GRID_POINTS, GridSearcher
from search.algorithms.searchers.optuna_tpe import OptunaSearcher
from search.algorithms.searchers.random import RandomSearcher
from search.algorithms.searchers.registry import SEARCHERS, build_searcher, combinations
from search.journal.records import TrialStatus
from search.study.overrides import override
from search.study.parse import load_study, parse_study
from search.testing.searchers import METRIC, SPACE, Mode, SearcherSuite, ended, record
from spaces import Choice, Entry, Float, Int, Space


class TestRandomSearcher(SearcherSuite):
    def make(self, space: Space, seed: int, mode: Mode) -> Searcher:
        return RandomSearcher(space, seed)


class TestGridSearcher(SearcherSuite):
    seeded = False

    def make(self, space: Space, seed: int, mode: Mode) -> Searcher:
        return GridSearcher(space)


class TestTpeSearcher(SearcherSuite):
    def make(self, space: Space, seed: int, mode: Mode) -> Searcher:
        return OptunaSearcher(space, metric=METRIC, mode=mode, seed=seed)


def drawn(domain: Float | Int | Choice, count: int = 3000) -> list[Any]:
    searcher = RandomSearcher(Space((Entry("x", domain),)), seed=1)
    return [searcher.suggest(number).values["x"] for number in range(count)]


def test_random_draws_are_uniform_in_the_logarithm() -> None:
    draws = drawn(Float(1e-4, 1.0, log=True))
    shares = Counter(math.floor(math.log10(x)) for x in draws)
    assert set(shares) == {-4, -3, -2, -1}
    assert all(abs(n / len(draws) - 0.25) < 0.04 for n in shares.values())


def test_random_draws_every_step_and_both_ends() -> None:
    steps = Counter(drawn(Float(0.0, 1.0, step=0.25)))
    assert sorted(steps) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert min(steps.values()) > 450
    assert set(drawn(Int(8, 20, step=6))) == {8, 14, 20}
    whole = Counter(drawn(Int(1, 100, log=True)))
    assert min(whole) == 1
    assert max(whole) == 100
    assert (
        abs(sum(n for value, n in whole.items() if value <= 10) / 3000 - 0.572) < 0.04
    )  # log(10.5/.5) / log(100.5/.5)


def test_grid_is_the_full_factorial_of_open_branches() -> None:
    space = Space(
        (
            Entry("a", Choice((1, 2), (Space((Entry("b", Int(0, 2)),)), Space()))),
            Entry("c", Choice(("x", "y"), (Space(), Space((Entry("d", Float(0.0, 1.0, step=0.5)),))))),
        )
    )
    grid = GridSearcher(space)
    points = []
    while (point := grid.suggest(len(points))) is not None:
        points.append(point.values)
    first = [{"a": 1, "a=1/b": b} for b in range(3)] + [{"a": 2}]
    second = [{"c": "x"}] + [{"c": "y", "c=y/d": d} for d in (0.0, 0.5, 1.0)]
    assert points == [{**one, **two} for one, two in itertools.product(first, second)]
    assert grid.suggest(len(points) + 1) is None


def test_grid_spreads_over_ranges_without_steps() -> None:
    def values(domain: Float | Int, points: int = GRID_POINTS) -> list[Any]:
        grid = GridSearcher(Space((Entry("x", domain),)), points)
        return [point.values["x"] for n in range(10) if (point := grid.suggest(n)) is not None]

    assert values(Float(0.0, 1.0)) == [0.0, 0.5, 1.0]
    assert values(Float(1e-4, 1.0, log=True)) == pytest.approx([1e-4, 1e-2, 1.0], rel=1e-12)
    assert values(Int(16, 256, log=True)) == [16, 64, 256]
    assert values(Int(1, 3, log=True), points=5) == [1, 2, 3]
    assert values(Int(1, 4)) == [1, 2, 3, 4]
    assert values(Float(0.0, 1.0), points=1) == [0.5]


def test_a_huge_grid_is_not_built() -> None:
    space = Space(tuple(Entry(f"x{i}", Int(0, 2**50)) for i in range(20)))
    point = GridSearcher(space).suggest(0)
    assert point is not None
    assert set(point.values.values()) == {0}


def test_a_grid_leaves_out_what_a_recipe_tried() -> None:
    grid = GridSearcher(Space((Entry("x", Int(0, 2)),)))
    for number in range(2):
        grid.tell(replace(record(number, {"x": 1}, TrialStatus.RUNNING), origin="recipe:r"))
    assert [p.values["x"] if (p := grid.suggest(n)) else None for n in range(2, 6)] == [0, 2, None, None]


@pytest.mark.parametrize("kind", ["random", "tpe"])
def test_a_combination_beside_a_continuous_branch_is_tried_once(kind: str) -> None:
    space = {"optimizer": {"kind": {"choice": {"adam": {}, "sgd": {"lr": {"float": [0.1, 1.0]}}}}}}
    searcher = build_searcher(parse_study({**load_study("synthetic").model_dump(), "space": space, "recipes": {},
                                           "searcher": {"kind": kind}}))  # fmt: skip
    kinds = []
    for number in range(30):
        point = searcher.suggest(number)
        assert point is not None
        kinds.append(point.values["optimizer.kind"])
        value = 0.9 if kinds[-1] == "adam" else 0.1  # so that TPE would suggest it again and again
        searcher.tell(record(number, point.values, TrialStatus.COMPLETED, value))
    assert Counter(kinds) == {"adam": 1, "sgd": 29}


@pytest.mark.parametrize(
    ("kind", "space", "expected"),
    [
        ("tpe", {"batch_size": {"choice": [32, 64]}, "optimizer": {"nesterov": {"choice": [True, False]}}}, 4),
        ("random", {"batch_size": {"int": [16, 64], "log": True}}, 49),
        ("random", {"optimizer": {"lr": {"float": [0.1, 1.0]}}}, None),
        ("grid", {"optimizer": {"lr": {"float": [0.1, 1.0]}, "momentum": {"float": [0.5, 0.9], "step": 0.1}}}, 15),
        ("grid", {"optimizer": {"kind": {"choice": {"adam": {}, "sgd": {"lr": {"float": [0.1, 1.0]}}}}}}, 4),
    ],
)
def test_the_combinations_of_a_study_are_counted(kind: str, space: Any, expected: int | None) -> None:
    spec = parse_study({**load_study("synthetic").model_dump(), "space": space, "searcher": {"kind": kind}})
    assert combinations(spec) == expected


def test_every_row_of_the_table_builds_what_a_study_names() -> None:
    built = {"random": RandomSearcher, "grid": GridSearcher, "tpe": OptunaSearcher}
    assert set(SEARCHERS) == set(built)
    for kind in SEARCHERS:
        searcher = build_searcher(override(load_study("synthetic"), sets=[f"searcher.kind={kind}"]))
        assert type(searcher) is built[kind]
        assert searcher.suggest(0) is not None


def test_ended_covers_every_ending() -> None:
    """The contract suite's simulated search is only as good as the endings in it."""
    values = RandomSearcher(SPACE, 0).suggest(0).values
    assert {ended(number, values).status for number in range(10)} == {
        TrialStatus.COMPLETED, TrialStatus.STOPPED, TrialStatus.DIVERGED, TrialStatus.FAILED,
    }  # fmt: skip
