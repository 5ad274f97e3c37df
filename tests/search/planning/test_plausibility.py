from __future__ import annotations

import pytest

from search.planning.plausibility import implausible_trials
from search.study.overrides import override
from search.study.parse import load_study, parse_study
from spaces import study_names
from trainables.config import parse_yaml


@pytest.mark.parametrize("name", study_names())
def test_studies_that_ship_are_plausible(name: str) -> None:
    study = load_study(name)
    if study.trial["data"]["source"] is None:
        study = override(study, data="cifar10")
    assert list(implausible_trials(study)) == []


def test_a_wild_recipe_and_a_wild_space_are_told() -> None:
    text = """
study: wild
space: {optimizer: {lr: {float: [0.01, 1000.0], log: true}}}
recipes: {wrong: {config: {optimizer: {lr: 100.0, weight_decay: 10.0}}}}
budget: {trials: 9, epochs: 3}
scheduler: {kind: none}
"""
    rate, decay, space = implausible_trials(parse_study(parse_yaml(text, "wild")))
    assert rate == "recipe wrong has optimizer.lr 100 with momentum 0.9: sgd above 10 is not known to train a network"
    assert decay.startswith("recipe wrong has optimizer.weight_decay 10 with optimizer.lr 100: a step takes all of")
    assert "of random trials of the space have such settings, as optimizer.lr" in space
