"""What follows from rates that were measured on a GPU."""

from __future__ import annotations

import math

import pytest

from benchmarks.gpu import MANY, ONE, RULES, Rule, measured, verdict

RULE = Rule("new against old", "new", "old", "build it", "build nothing")


@pytest.mark.parametrize(
    ("new", "old", "line"),
    [
        ({0: 130.0, 1: 110.0, 2: 120.0}, {0: 100.0, 1: 100.0, 2: 100.0},
         "1.20 x (1.10 to 1.30), 3 repeats -> build it"),
        ({0: 130.0, 1: 104.0, 2: 120.0}, {0: 100.0, 1: 100.0, 2: 100.0},
         "1.20 x (1.04 to 1.30), 3 repeats -> build nothing"),  # in one repeat it did not win by enough
        ({0: 50.0}, {0: 100.0}, "0.50 x (0.50 to 0.50), 1 repeat -> build nothing"),
        ({0: 120.0, 2: 130.0}, {1: 1.0, 2: 100.0}, "1.30 x (1.30 to 1.30), 1 repeat -> build it"),
        ({}, {0: 100.0}, "not measured -> stays as it is"),
        ({0: 100.0}, {1: 100.0}, "not measured -> stays as it is"),
    ],
)  # fmt: skip
def test_a_way_is_worth_its_code_if_it_wins_clearly_in_every_repeat(
    new: dict[int, float], old: dict[int, float], line: str
) -> None:
    assert verdict(RULE, new, old) == f"new against old: {line}"


def test_every_decision_is_about_ways_of_one_group() -> None:
    for rule in RULES:
        assert any({rule.way, rule.against} <= set(ways) for ways in (ONE, MANY))
    assert (set(ONE) & set(MANY)) == {"tutorial"}


def test_ways_take_turns_and_one_that_fails_is_not_tried_again() -> None:
    asked: list[str] = []

    def measure(way: str) -> float:
        asked.append(way)
        if way == "b":
            raise RuntimeError("out of memory\nand a traceback")
        return float(len(asked))

    found, failed = measured([(measure, ("a", "b", "c")), (measure, ("d",))], 2, math.inf)
    assert asked == ["a", "b", "c", "d", "c", "a", "d"]
    assert found == [{"a": {0: 1.0, 1: 6.0}, "b": {}, "c": {0: 3.0, 1: 5.0}}, {"d": {0: 4.0, 1: 7.0}}]
    assert failed == {"b": "out of memory"}


def test_nothing_is_measured_after_the_deadline() -> None:
    assert measured([(lambda _: 1.0, ("a",))], 3, -math.inf) == ([{"a": {}}], {})
