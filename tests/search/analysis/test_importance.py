"""Which settings matter, at one epoch that enough trials have reached, and the order of changes that follows."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from search.analysis.changes import Change
from search.analysis.importance import importances
from search.analysis.surrogate import Features, common_fidelity, order
from search.journal.records import TrialStatus
from search.journal.result import StudyResult
from tests.search.analysis.planted import path_of, planted
from tests.search.analysis.studies import EPOCHS, LR, STRENGTH, healthy, rising, searched, spec_of


def numbered(*lengths: int) -> StudyResult:
    """Trials that are stopped after so many epochs (0: diverge), each better than the one before."""
    left = iter(enumerate(lengths))

    def curve(config: Any, draws: Any) -> list[float]:
        number, length = next(left)
        return [0.1 * number + 0.01 * epoch for epoch in range(1, length + 1)] if length else [math.nan]

    result = searched(spec_of(len(lengths), recipes={}, scheduler={"kind": "none"}), curve)
    cut = [
        replace(record, status=TrialStatus.STOPPED) if 0 < length < EPOCHS else record
        for record, length in zip(result.trials, lengths, strict=True)
    ]
    return replace(result, trials=cut)


def test_half_of_the_trials_decide_where_they_are_compared() -> None:
    """The first two are taken to rise by 0.02, as the others do."""
    at = common_fidelity(numbered(3, 3, 9, 5, 5, 9))
    assert (at.epoch, at.extended) == (5, {0, 1})
    assert at.values == pytest.approx([0.05, 0.15, 0.25, 0.35, 0.45, 0.55])


def test_a_trial_that_its_patience_ended_keeps_its_value() -> None:
    curves = iter([[0.1, 0.2], [0.1, 0.3], [0.2] * EPOCHS])
    at = common_fidelity(
        searched(spec_of(3, recipes={}, scheduler={"kind": "none"}), lambda config, draws: next(curves))
    )
    assert (at.epoch, at.extended) == (EPOCHS, set())
    assert at.values.tolist() == [0.2, 0.3, 0.2]


def test_twenty_trials_are_enough() -> None:
    at = common_fidelity(numbered(*[2] * 30, *[9] * 19, 7))
    assert (at.epoch, at.extended, len(at.trials)) == (7, set(range(30)), 50)


def test_a_diverged_trial_has_the_worst_value() -> None:
    at = common_fidelity(numbered(9, 0, 9, 9))
    assert at.epoch == EPOCHS
    assert at.values == pytest.approx([0.09, 0.09, 0.29, 0.39])


def test_of_a_loss_less_is_better_and_one_far_off_does_not_count_more() -> None:
    spec = spec_of(8, recipes={}, scheduler={"kind": "none"}, objective={"metric": "val_loss", "mode": "min"})
    losses = iter([1e9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6])
    at = common_fidelity(searched(spec, lambda config, draws: [next(losses)] * EPOCHS))
    assert at.values[1:] == pytest.approx([-1.0, -1.1, -1.2, -1.3, -1.4, -1.5, -1.6])
    assert -3.0 < at.values[0] < -1.6


def test_failed_trials_are_left_out() -> None:
    result = searched(spec_of(8, recipes={}), lambda c, d: [] if c["batch_size"] == 64 else healthy(c, d))
    failed = sum(record.status is TrialStatus.FAILED for record in result.trials)
    assert 0 < failed == 8 - len(common_fidelity(result).trials)
    assert common_fidelity(searched(spec_of(3), lambda c, d: [])).epoch == 0
    assert common_fidelity(searched(spec_of(3), lambda c, d: [math.nan])).epoch == 0


def test_a_setting_that_a_trial_lacks_is_neutral() -> None:
    rows = [{"kind": "a", "lr": 1.0}, {"kind": "a", "lr": 3.0}, {"kind": "b", "same": 1}, {"kind": "a", "lr": 7}]
    features = Features(rows)
    assert features.columns == {"kind": [0, 1], "lr": [2]}
    assert features.matrix(rows).tolist() == [[1, 0, 1], [1, 0, 3], [0, 1, 3], [1, 0, 7]]
    assert features.matrix([{"kind": "c", "lr": 9.0}]).tolist() == [[0, 0, 9]]


def test_numbers_and_words_of_one_setting() -> None:
    features = Features([{"clip": 1.0}, {"clip": None}, {"clip": 2.0}, {"clip": "auto"}])
    assert features.matrix([{"clip": None}, {"clip": 2.0}]).tolist() == [[1.5, 1, 0], [2.0, 0, 0]]


def test_settings_that_matter_stand_out() -> None:
    found = importances(planted(1))
    assert found is not None
    assert (found.trials, found.guess) == (40, False)
    by_key = {one.key: one for one in found.settings}
    assert [one.key for one in found.settings[:2]] == [LR, STRENGTH]
    assert all(one.low > 0 for one in found.settings[:2])
    idle = [by_key[key] for key in ("regularization.label_smoothing", "augment.cutout", "optimizer.nesterov")]
    assert all(one.low < 0.01 and one.share < 0.02 for one in idle)
    assert sum(one.ped_anova for one in found.settings) == pytest.approx(1.0)
    assert max(found.settings, key=lambda one: one.ped_anova).key in (LR, STRENGTH)


def test_few_trials_are_a_guess_and_fewer_say_nothing() -> None:
    few = importances(planted(0, trials=12))
    assert few is not None
    assert few.guess
    assert importances(planted(0, trials=7)) is None
    assert order(planted(0, trials=7), *path_of(planted(0, trials=7))).gains == ()


def test_without_a_difference_nothing_is_ordered() -> None:
    result = searched(spec_of(10), lambda config, draws: [0.5] * EPOCHS)
    changes = (Change({"batch_size": 32}, "b"), Change({LR: 0.1}, "a"))
    found = order(result, result.trials[0].config, changes)
    assert (found.changes, found.text) == (changes, "in the order of the config: the trials do not differ")
    assert importances(result) is None


def test_what_did_not_vary_is_named() -> None:
    result = planted(2)
    baseline, path = path_of(result)
    depth = Change({"optimizer.momentum": 0.5}, "optimizer.momentum 0.9 -> 0.5")
    found = order(result, baseline, (depth, *path))
    assert found.unknown == ("optimizer.momentum",)
    assert found.changes[0].name == LR
    assert sorted(c.name for c in found.changes) == sorted(c.name for c in (depth, *path))
    assert found.text.startswith("by boosted trees fitted to val_accuracy of 40 trials at epoch 3, ")


def test_an_optimizer_s_learning_rates_are_its_own() -> None:
    """The best learning rate of sgd is the worst of adamw."""
    lr = {"float": [1e-3, 1.0], "log": True}
    space = {"optimizer": {"kind": {"choice": {"sgd": {"lr": lr}, "adamw": {"lr": lr}}}}}
    recipes = {"low": {"config": {"optimizer": {"kind": "sgd", "lr": 1e-3}}}}

    def curve(config: Any, draws: np.random.Generator) -> list[float]:
        toward = math.log10(config[LR]) + 1.5 if config["optimizer.kind"] == "sgd" else -math.log10(config[LR]) - 1.5
        return rising(0.7 + 0.1 * toward, draws)

    result = searched(spec_of(40, space=space, recipes=recipes, scheduler={"kind": "none"}), curve)
    up = Change({LR: 0.9}, "up")
    assert order(result, result.trials[0].config, (up,)).gains[0] > 0.1
    adamw = next(
        r for r in result.trials if r.config["optimizer"]["kind"] == "adamw" and r.config["optimizer"]["lr"] < 0.01
    )
    assert order(result, adamw.config, (up,)).gains[0] < -0.1
