"""Races between arms whose truth is known: who wins, how sure that is, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from search.algorithms.intervals import Interval, best_interval, mean_interval, paired_interval
from search.algorithms.race import Race, Standing, standing
from trainables.result import Mode

RACES, CONFIGS, TOP, MOST_RUNS = 500, 30, 3, 10
ARMS = ("a", "b", "c", "reference")
Table = dict[str, dict[int, float]]


def raced(race: Race, truth: Mapping[str, Sequence[float]]) -> tuple[Standing, Table]:
    """The race to its end, and the runs that it took."""
    values: Table = {arm: {} for arm in race.arms}
    while (now := standing(race, values)).runs:
        for arm, index in now.runs:
            values[arm][index] = truth[arm][index]
    return now, values


def table(**values: Sequence[float]) -> Table:
    return {arm: dict(enumerate(each)) for arm, each in values.items()}


def race(arms: str = "abc", reference: str | None = None, most_runs: int = 5, material: float = 0.0) -> Race:
    return Race(tuple(arms), reference, "max", most_runs, material)


@dataclass(frozen=True)
class Simulated:
    """One race: the true means of its arms, and what each run would give on the two splits, in standard deviations."""

    truth: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    def run(self, material: float = 0.0) -> tuple[Standing, Table, Table]:
        decider = Race(ARMS, "reference", "max", MOST_RUNS, material)
        now, values = raced(decider, dict(zip(ARMS, self.validation.tolist(), strict=True)))
        test = {arm: {n: float(self.test[ARMS.index(arm), n]) for n in runs} for arm, runs in values.items()}
        return now, values, test

    def false(self, now: Standing) -> bool:
        """Whether it was decided for an arm although another is at least as good."""
        winner = ARMS.index(now.leader or "")
        return now.decision == "decided" and bool((np.delete(self.truth, winner) >= self.truth[winner]).any())


def simulated(draws: np.random.Generator, truth: np.ndarray) -> Simulated:
    """Noise of unequal size by arm, 30 % of it shared by the arms' runs with the same seed; 0.3 between the splits."""

    def noise() -> np.ndarray:
        return math.sqrt(0.3) * draws.normal(size=MOST_RUNS) + math.sqrt(0.7) * draws.normal(
            size=(len(ARMS), MOST_RUNS)
        )

    size = draws.uniform(0.5, 1.5, size=(len(ARMS), 1))
    validation = noise()
    test = 0.3 * validation + math.sqrt(1 - 0.3**2) * noise()
    return Simulated(truth, truth[:, None] + size * validation, truth[:, None] + size * test)


def finalists(draws: np.random.Generator, spread: float) -> np.ndarray:
    """The true means of the best by one noisy value of each config of a search, and of the reference, a good config."""
    configs = draws.normal(scale=spread, size=CONFIGS)
    best = np.argsort(configs + draws.normal(size=CONFIGS))[::-1][:TOP]
    return np.append(configs[best], spread)


def holds(interval: Interval | None, truth: float) -> bool:
    return interval is not None and interval.low <= truth <= interval.high


@pytest.mark.numeric
@pytest.mark.parametrize("spread", [0.3, 1, 10])
def test_the_intervals_of_a_winner_hold_the_truth(spread: float) -> None:
    draws = np.random.default_rng(0)
    held: dict[str, list[bool]] = {"validation": [], "test": [], "difference": []}
    for _ in range(RACES):
        each = simulated(draws, finalists(draws, spread))
        now, values, test = each.run()
        assert now.leader is not None
        truth = float(each.truth[ARMS.index(now.leader)])
        held["validation"].append(holds(best_interval(values[now.leader], 1 + len(now.tied), "max"), truth))
        held["test"].append(holds(mean_interval(test[now.leader]), truth))
        if now.leader != "reference":
            difference = paired_interval(test[now.leader], test["reference"])
            held["difference"].append(holds(difference, truth - float(each.truth[-1])))
    for name, each_held in held.items():
        assert 0.93 <= np.mean(each_held) <= 0.97, name


@pytest.mark.numeric
@pytest.mark.parametrize("truth", [(0, 0, 0, 0), (0, 0, -3, -3), (0, -8, -8, 0)])
def test_a_false_winner_is_rare(truth: tuple[float, ...]) -> None:
    draws = np.random.default_rng(1)
    races = [simulated(draws, np.array(truth, float)) for _ in range(RACES)]
    assert np.mean([each.false(each.run()[0]) for each in races]) <= 0.05


@pytest.mark.numeric
def test_a_coarse_metric_makes_no_false_winner() -> None:
    draws, decider = np.random.default_rng(2), race("ab", most_runs=MOST_RUNS, material=1)
    noise = np.rint(draws.normal(scale=0.5, size=(RACES, 2, MOST_RUNS)) + draws.random((RACES, 1, 1)))
    ends = [raced(decider, dict(zip("ab", each.tolist(), strict=True)))[0].decision for each in noise]
    assert ends.count("decided") <= 0.05 * RACES


@pytest.mark.numeric
def test_what_is_far_behind_is_dropped_early() -> None:
    draws = np.random.default_rng(3)
    runs, right, early = 0, 0, 0
    for _ in range(RACES):
        now, values, _ = simulated(draws, np.array([20.0, 0.0, 12.0, -5.0])).run()
        runs += sum(map(len, values.values()))
        right += (now.decision, now.leader) == ("decided", "a")
        early += len(values["b"]) <= 5
    assert right >= 0.99 * RACES
    assert early >= 0.99 * RACES
    assert runs < 0.5 * RACES * len(ARMS) * MOST_RUNS


def test_rounds_are_looked_at_in_growing_steps() -> None:
    assert [race(most_runs=most).looks for most in (1, 2, 3, 4, 10, 20)] == [
        (1,), (2,), (3,), (3, 4), (3, 5, 8, 10), (3, 5, 8, 12, 18, 20),
    ]  # fmt: skip


def test_the_first_runs_wanted_are_whole_rounds() -> None:
    now = standing(race(), {})
    assert now.decision == "open"
    assert now.leader is None
    assert now.runs == tuple((arm, index) for index in range(3) for arm in "abc")
    now = standing(race(), table(a=[0.5, 0.1], b=[0.6], c=[0.2, 0.3]))
    assert (now.leader, now.rounds) == ("b", 1)
    assert now.runs == (("b", 1), ("a", 2), ("b", 2), ("c", 2))


def test_neither_order_nor_interruption_changes_a_race() -> None:
    draws = np.random.default_rng(4)
    decider = Race(ARMS, "reference", "max", MOST_RUNS, 0.1)
    ends = set()
    for _ in range(40):
        noise = draws.normal(size=(len(ARMS), MOST_RUNS)) + np.array([[3], [0], [4], [1]])
        noise[draws.random(noise.shape) < 0.02] = math.nan
        truth = dict(zip(ARMS, noise.tolist(), strict=True))
        end = raced(decider, truth)[0]
        values: Table = {arm: {} for arm in ARMS}
        while (now := standing(decider, values)).runs:  # anew from what has ended, as after an interruption
            arm, index = now.runs[draws.integers(len(now.runs))]
            values[arm][index] = truth[arm][index]
        assert (now.decision, now.leader, now.tied, now.rounds) == (end.decision, end.leader, end.tied, end.rounds)
        assert now.dropped.keys() == end.dropped.keys()
        ends.add((now.decision, bool(now.dropped)))
    assert len(ends) > 1


def test_an_arm_that_is_behind_gets_no_more_runs_and_the_reference_does() -> None:
    values = table(a=[9.0, 9.1, 8.9], b=[8.8, 9.3, 9.0], c=[1.0, 1.1, 1.0], r=[2.0, 2.1, 1.9])
    now = standing(race("abcr", reference="r"), values)
    assert (now.decision, now.leader) == ("open", "b")
    assert now.dropped.keys() == {"c"}
    assert now.dropped["c"].startswith("behind b by 8.0000 (at least ")
    assert now.runs == (("a", 3), ("b", 3), ("r", 3), ("a", 4), ("b", 4), ("r", 4))
    now, _ = raced(race("abcr", reference="r"), {arm: [*runs.values(), *runs.values()] for arm, runs in values.items()})
    assert (now.decision, now.tied) == ("tie", ("a",))  # and not with the reference


def test_the_reference_can_win() -> None:
    now = standing(race("ar", reference="r"), table(a=[0.1, 0.12, 0.11], r=[0.9, 0.91, 0.9]))
    assert (now.decision, now.leader, now.dropped.keys()) == ("decided", "r", {"a"})


@pytest.mark.parametrize("mode", ["max", "min"])
def test_of_equal_means_the_reference_leads_else_the_first(mode: Mode) -> None:
    values = table(a=[0.1, 0.2, 0.3], b=[0.3, 0.2, 0.1], r=[0.2, 0.1, 0.3])
    assert len({float(np.mean(list(runs.values()))) for runs in values.values()}) > 1  # by rounding
    assert standing(Race(("a", "b", "r"), "r", mode, 3, 0.0), values).leader == "r"
    assert standing(Race(("a", "b", "r"), None, mode, 3, 0.0), values).leader == "a"
    assert paired_interval(values["b"], values["a"]).signed.startswith("+0.0000 [-")  # type: ignore[union-attr]
    assert str(Interval(-1e-17)) == "0.0000"


def test_the_smallest_wins_with_mode_min() -> None:
    values = table(a=[0.1, 0.12, 0.11], b=[0.9, 0.91, 0.9])
    now = standing(Race(("a", "b"), None, "min", 3, 0.0), values)
    assert (now.decision, now.leader, now.dropped.keys()) == ("decided", "a", {"b"})


def test_arms_within_the_material_difference_tie_at_once() -> None:
    values = table(a=[0.500, 0.501, 0.502], b=[0.501, 0.501, 0.502], c=[0.1, 0.1, 0.1])
    now = standing(race(material=0.02), values)
    assert (now.decision, now.leader, now.tied, now.rounds) == ("tie", "b", ("a",), 3)
    assert now.dropped.keys() == {"c"}
    assert standing(race(material=0.0001), values).decision == "open"


@pytest.mark.parametrize("most_runs", [1, 2])
def test_too_few_runs_to_test_are_a_tie(most_runs: int) -> None:
    now, values = raced(race(most_runs=most_runs), {"a": [0.1, 0.2], "b": [0.3, 0.35], "c": [0.2, 0.2]})
    assert (now.decision, now.leader, now.tied) == ("tie", "b", ("a", "c"))
    assert {len(runs) for runs in values.values()} == {most_runs}


def test_one_arm_alone_is_run_three_times() -> None:
    now, values = raced(race("a"), {"a": [0.1, 0.2, 0.3]})
    assert (now.decision, now.leader, len(values["a"])) == ("decided", "a", 3)


def test_an_arm_that_diverged_is_out_once_its_round_is_complete() -> None:
    values = table(a=[math.nan], b=[0.5, 0.6, 0.7], c=[0.5, 0.7])
    now = standing(race(), values)
    assert now.dropped == {"a": "diverged or failed in 1 of 1 runs"}
    assert (now.decision, now.runs) == ("open", (("c", 2),))
    now = standing(race("ar", reference="r"), table(a=[0.5, 0.6, 0.7], r=[0.9, math.nan, 0.9]))
    assert (now.decision, now.leader) == ("decided", "a")
    assert now.dropped == {"r": "diverged or failed in 1 of 3 runs"}
    now = standing(race("ab"), table(a=[math.nan], b=[math.nan]))
    assert (now.decision, now.leader, now.runs, now.dropped.keys()) == ("none", None, (), {"a", "b"})


def test_who_was_beaten_only_by_an_arm_that_diverged_races_on() -> None:
    values = table(a=[9.0, 9.1, 9.0], b=[5.0, 5.1, 5.1], c=[8.9, 9.2, 9.1], r=[4.0, 9.0, 5.0])
    assert standing(race("abcr", reference="r"), values).dropped.keys() == {"b"}
    values = values | table(a=[9.0, 9.1, 9.0, math.nan], c=[8.9, 9.2, 9.1, math.nan], r=[4.0, 9.0, 5.0, 6.0, 7.0])
    now = standing(race("abcr", reference="r"), values)
    assert now.dropped.keys() == {"a", "c"}
    assert now.runs == (("b", 3), ("b", 4))


def test_intervals_are_students() -> None:
    margin = 4.302653 / math.sqrt(3)  # from a table: two degrees of freedom
    found = mean_interval({0: 1.0, 4: 2.0, 2: 3.0})
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((2, 2 - margin, 2 + margin))
    assert paired_interval({0: 2.0, 1: 4.0, 2: 6.0, 3: 0.0}, {2: 3.0, 1: 2.0, 0: 1.0}) == found
    single = mean_interval({0: 1.0})
    assert single is not None
    assert (single.mean, single.has_limits, str(single), single.signed) == (1.0, False, "1.0000", "+1.0000")
    assert mean_interval({}) is None
    assert paired_interval({0: 1.0}, {1: 1.0, 2: 2.0}) is None
    nothing = mean_interval({0: 1.0, 1: math.nan})
    assert nothing is not None
    assert math.isnan(nothing.low)


def test_the_best_of_several_has_a_longer_interval_on_its_lucky_side() -> None:
    values = {0: 1.0, 1: 2.0, 2: 3.0}
    plain, best, least = mean_interval(values), best_interval(values, 4, "max"), best_interval(values, 4, "min")
    assert plain is not None
    assert best is not None
    assert least is not None
    assert best.low < plain.low
    assert best.high == plain.high
    assert (least.low, least.high) == pytest.approx((plain.low, 4 - best.low))
    assert best_interval(values, 1, "max") == plain


def test_folds_that_share_images_widen_the_intervals_and_lengthen_the_race() -> None:
    a, b = {0: 0.80, 1: 0.82, 2: 0.81}, {0: 0.50, 1: 0.60, 2: 0.66}
    plain, corrected = paired_interval(a, b), paired_interval(a, b, test_share=0.25)
    assert plain is not None
    assert corrected is not None
    assert corrected.high - corrected.low == pytest.approx((plain.high - plain.low) * math.sqrt(1 + 3 * 0.25))
    seeds, folds = (Race(("a", "b"), None, "max", 5, 0.0, share) for share in (0.0, 0.25))
    assert standing(seeds, {"a": a, "b": b}).decision == "decided"
    assert standing(folds, {"a": a, "b": b}).decision == "open"
