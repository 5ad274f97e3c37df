"""What bought what: planted effects are found in order and size, with their interactions and without the noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from search.analysis.additive import AdditiveModel
from search.analysis.changes import Change, changes
from search.analysis.explanation import Explanation, explained, explanation_arms
from search.analysis.surrogate import order
from tests.search.analysis.planted import compared, effect_of, path_of, planted, quality
from trainables.config import parse_config

CLEAR = 0.02  # of val_accuracy, by which effects must differ for their order to count; 5 times the noise


def recovered(seed: int) -> tuple[bool, bool]:
    """Whether a planted study's explanation has the changes in order, and every size inside its interval."""
    result = planted(seed)
    baseline, found = path_of(result)
    path = order(result, baseline, found).changes
    true = effect_of(baseline, path)
    runs = compared(explanation_arms(baseline, path), quality, 3 + seed % 3, np.random.default_rng(seed))
    said = explained(runs, "val_accuracy", "max")
    ordered = all(later - earlier < CLEAR for earlier, later in combinations(true, 2))
    sizes = [(step.gain, effect) for step, effect in zip(said.steps, true, strict=True)] + [(said.total, sum(true))]
    return ordered, all(gain.low <= effect <= gain.high for gain, effect in sizes)


def test_planted_effects_are_recovered_in_order_and_size() -> None:
    found = [recovered(seed) for seed in range(20)]
    assert sum(map(all, found)) >= 18, found


SETTINGS = {
    "optimizer.lr": {"optimizer": {"kind": "sgd", "lr": 0.3}},
    "augment.strength": {"augment": {"strength": 0.5}},
    "augment.cutout": {"augment": {"cutout": 0.5}},
    "batch_size": {"batch_size": 64},
}


def made_up(*names: str) -> tuple[dict[str, Any], tuple[Change, ...]]:
    """The default config, and a path that changes these settings in this order."""
    base = parse_config({}).model_dump(mode="json")
    return base, tuple(change for name in names for change in changes(base, SETTINGS[name]))


def told(*names: str, value: Any, seeds: int = 4, noise: float = 0.002, mode: Any = "max") -> Explanation:
    runs = compared(explanation_arms(*made_up(*names)), value, seeds, np.random.default_rng(5), noise)
    return explained(runs, "val_accuracy", mode)


def has(config: Mapping[str, Any], name: str) -> bool:
    goal = {"optimizer.lr": 0.3, "augment.strength": 0.5, "augment.cutout": 0.5, "batch_size": 64}
    return bool(config[name] == goal[name])


def test_each_arm_is_run_once() -> None:
    base, path = made_up("optimizer.lr", "batch_size", "augment.cutout")
    arms = explanation_arms(base, path, origin=0, best=7)
    assert [(arm.name, arm.role, arm.trial) for arm in arms] == [
        ("baseline", "baseline", 0), ("step 1", "step", None), ("step 2", "step", None), ("best", "best", 7),
        ("without optimizer.lr", "without", None), ("without batch_size", "without", None),
    ]  # fmt: skip
    assert [arm.change for arm in arms[1:4]] == [change.text for change in path]
    assert [arm.change for arm in arms[4:]] == [change.text for change in path[:2]]
    configs = [str(parse_config(arm.config)) for arm in arms]
    assert len(set(configs)) == len(configs)


def test_a_single_change_needs_two_arms() -> None:
    said = told("batch_size", value=lambda c: 0.8 + 0.1 * has(c, "batch_size"))
    assert [row.changes for row in said.rows] == [("batch_size 128 -> 64",)]
    assert said.steps[0].gain.mean == pytest.approx(said.steps[0].cost.mean)
    assert said.steps[0].gain.low > 0
    assert said.total.mean == pytest.approx(said.end - said.start)


def test_settings_within_the_noise_are_told_together() -> None:
    said = told(
        "optimizer.lr",
        "augment.strength",
        "augment.cutout",
        "batch_size",
        value=lambda c: 0.8 + 0.1 * has(c, "optimizer.lr"),
    )
    assert [len(row.changes) for row in said.rows] == [1, 3]
    assert said.rows[1].text.startswith(
        "augment.strength 1 -> 0.5, augment.cutout 0 -> 0.5, batch_size 128 -> 64: together "
    )
    assert said.rows[1].text.endswith("within the noise")
    assert sum(row.gain.mean for row in said.rows) == pytest.approx(said.total.mean)
    assert not any(step.verdict for step in said.steps)
    assert 0 < said.noise < 0.004


def test_what_works_only_together_is_found() -> None:
    said = told(
        "augment.strength", "optimizer.lr", "batch_size",
        value=lambda c: 0.8 + 0.05 * (has(c, "augment.strength") and has(c, "batch_size")),
    )  # fmt: skip
    first, second, last = said.steps
    assert first.gain.within_noise
    assert first.cost.low > 0.03
    assert first.verdict == "works only together with batch_size 128 -> 64"
    assert (second.verdict, last.verdict) == ("", "")


def test_what_later_changes_make_up_for_is_found() -> None:
    said = told(
        "augment.strength",
        "batch_size",
        value=lambda c: 0.8 + 0.05 * (has(c, "augment.strength") or has(c, "batch_size")),
    )
    assert said.steps[0].gain.low > 0.03
    assert said.steps[0].cost.within_noise
    assert said.steps[0].verdict == "later changes make up for it"


def test_a_change_that_later_ones_turn_against_the_best_is_found() -> None:
    said = told(
        "augment.strength",
        "batch_size",
        value=lambda c: 0.8 + 0.05 * (has(c, "augment.strength") ^ has(c, "batch_size")),
    )
    assert said.steps[0].verdict == "the best config is better without it"


def test_of_a_loss_less_is_better() -> None:
    said = told("batch_size", "augment.cutout", value=lambda c: 1.0 - 0.1 * has(c, "batch_size"), mode="min")
    assert said.steps[0].gain.low > 0
    assert (said.start, said.end) == (pytest.approx(1.0, abs=0.01), pytest.approx(0.9, abs=0.01))
    assert said.total.mean == pytest.approx(said.start - said.end)


def test_steps_around_an_arm_that_diverges_are_told_together() -> None:
    def value(config: Mapping[str, Any]) -> float:
        alone = has(config, "optimizer.lr") and not has(config, "batch_size")
        return math.nan if alone else 0.8 + 0.1 * has(config, "optimizer.lr")

    said = told("optimizer.lr", "batch_size", "augment.cutout", value=value)
    assert [len(row.changes) for row in said.rows] == [2, 1]
    assert said.rows[0].gain.low > 0
    assert math.isnan(said.steps[0].gain.mean)
    assert said.notes == (
        "step 1: 4 of 4 runs diverged or failed", "without batch_size: 4 of 4 runs diverged or failed",
    )  # fmt: skip
    assert said.steps[1].verdict == "without it 4 of 4 runs diverged or failed"


@pytest.mark.parametrize("good", [False, True])
def test_a_baseline_or_a_best_that_diverges_leaves_the_rest(good: bool) -> None:
    said = told("optimizer.lr", "batch_size", value=lambda c: math.nan if has(c, "batch_size") is good else 0.8)
    assert math.isnan(said.total.mean)
    assert math.isnan(said.end if good else said.start)
    assert len(said.notes) == 2


def test_one_seed_gives_no_intervals() -> None:
    said = told("optimizer.lr", "batch_size", value=lambda c: 0.8, seeds=1)
    assert math.isnan(said.noise)
    assert [len(row.changes) for row in said.rows] == [1, 1]
    assert "[" not in said.rows[0].text


def test_an_explanation_that_has_only_begun_knows_nothing() -> None:
    said = told("optimizer.lr", "batch_size", value=lambda c: 0.8, seeds=0)
    assert math.isnan(said.total.mean)
    assert (said.seeds, said.notes) == (0, ())


def test_intervals_hold_all_steps_at_once() -> None:
    """Of 300 explanations in which nothing has an effect 95 % must find none, give or take what 300 can tell."""
    draws = np.random.default_rng(1)
    clean = 0
    for _ in range(300):
        seeds = draws.normal(0, 1, 3)
        model = AdditiveModel({str(arm): dict(enumerate(seeds + draws.normal(0, 0.5, 3))) for arm in range(5)})
        pairs = [model.contrast({str(a): 1.0, str(b): -1.0}, model.tukey(5)) for a, b in combinations(range(5), 2)]
        clean += all(pair.within_noise for pair in pairs)
    assert model.freedom == 8
    assert 276 <= clean <= 294


def test_a_missing_run_is_made_up_for_by_its_seed() -> None:
    """The seed that only one arm has run shifts nothing."""
    model = AdditiveModel({"a": {0: 1.0, 1: 2.0, 2: 9.0}, "b": {0: 1.5, 1: 2.5, 2: math.nan}})
    assert model.contrast({"b": 1.0, "a": -1.0}, 2.0).mean == pytest.approx(0.5)
    assert model.means["b"] - model.means["a"] == pytest.approx(0.5)
    apart = AdditiveModel({"a": {0: 1.0}, "b": {1: 1.5}})
    assert math.isnan(apart.contrast({"b": 1.0, "a": -1.0}, 2.0).mean)
