"""A refit of a study with a proxy: the small network's best settings, raced as configs of the study's own network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from search.engine.explain import explaining
from search.engine.reference import carried_arms, reference_arm
from search.engine.refit import Refitting
from search.journal.events import ComparisonStarted, EpochReported, Event, TrialEnded, TrialSuggested
from search.journal.log import Journal, read
from search.journal.records import TrialStatus
from search.journal.result import collect
from search.journal.state import StudyState
from search.study.parse import parse_study
from search.study.resources import Refit
from search.study.spec import StudySpec
from search.views.output_files import best_config
from search.views.refit import chosen_trial
from tests.search.engine.test_driver import search_through
from tests.search.engine.test_refit import refitting, session, study, told
from tests.search.study.test_proxy import TREE
from trainables.config import ConfigError

FEWER = {"train_samples": 100}
FACTOR = (11 / 29) ** 1.5  # from 20 to 56 layers


def ended(spec: StudySpec, *trials: tuple[str, dict[str, Any], float]) -> list[Event]:
    """A search in which trials of this origin, with these overrides, have reached these values."""
    events: list[Event] = []
    for number, (origin, overrides, value) in enumerate(trials):
        config = spec.trial_config(overrides).model_dump(mode="json")
        metrics = {"val_accuracy": value, "train_loss": 1.0}
        events += [
            TrialSuggested(trial=number, origin=origin, values={}, config=config, time=1.0),
            EpochReported(trial=number, epoch=9, metrics=metrics, last=True, time=2.0),
            TrialEnded(trial=number, status=TrialStatus.COMPLETED, time=2.0),
        ]
    return events


def sgd(rate: float) -> dict[str, Any]:
    return {"optimizer": {"kind": "sgd", "lr": rate}}


def raced(spec: StudySpec, events: list[Event]) -> dict[str, float]:
    """The learning rate of each arm."""
    found = Refitting(spec, Refit(top=2, seeds=2), None).contenders(StudyState.of(events))
    assert found is not None
    assert {arm.config["model"]["depth"] for arm in found.arms} == {56}
    assert {arm.config["data"]["train_samples"] for arm in found.arms} == {None}
    return {arm.name: arm.config["optimizer"]["lr"] for arm in found.arms}


def test_the_best_trial_is_raced_with_both_rates_and_the_others_with_the_scaled_one() -> None:
    spec = parse_study(TREE)
    naive = ("recipe:naive", {"optimizer": {"kind": "adam"}}, 0.3)
    arms = raced(spec, ended(spec, naive, ("tpe", sgd(0.1), 0.5), ("tpe", sgd(0.2), 0.6), ("tpe", sgd(0.3), 0.4)))
    assert arms == {
        "trial-2-lr-0.0467": pytest.approx(0.2 * FACTOR), "trial-2": 0.2,
        "trial-1-lr-0.0234": pytest.approx(0.1 * FACTOR), "naive": 0.001,
    }  # fmt: skip
    adam = {"optimizer": {"kind": "adamw", "lr": 0.002}}
    assert raced(spec, ended(spec, naive, ("tpe", adam, 0.5))) == {"trial-1": 0.002, "naive": 0.001}


def test_a_recipe_that_is_best_is_the_reference_and_with_the_other_rate_a_finalist() -> None:
    spec = parse_study({**TREE, "recipes": {"known": {"config": sgd(0.1)}}})
    arms = raced(spec, ended(spec, ("recipe:known", sgd(0.1), 0.6), ("tpe", sgd(0.3), 0.4)))
    scaled = {"known-lr-0.0234": pytest.approx(0.1 * FACTOR), "trial-1-lr-0.0701": pytest.approx(0.3 * FACTOR)}
    assert arms == {**scaled, "known": 0.1}


def test_an_arm_says_where_its_settings_come_from(tmp_path: Path) -> None:
    spec = parse_study(TREE)
    (record,) = StudyState.of(ended(spec, ("tpe", sgd(0.1), 0.5))).trials
    scaled, kept = carried_arms(spec, record, "finalist", both=True)
    assert kept.change == "all settings as found at depth 20 on 500 images"
    assert "learning rate carried from 0.1 to 0.0234 by depth^(-3/2)" in str(scaled.change)
    assert (kept.trial, scaled.trial) == (None, None)  # its value in the search was another network's
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"model": {"kind": "cifar_resnet", "depth": 8}}))
    mine, _ = reference_arm(spec, [], str(tmp_path / "mine.yaml"), "--against", "reference")
    assert mine is not None
    assert mine.config["data"]["train_samples"] is None


def test_a_search_with_a_proxy_ends_in_a_config_of_the_study_and_the_same_after_a_kill(tmp_path: Path) -> None:
    spec = study(proxy=FEWER)
    driver = session(spec, tmp_path / "whole", refitting(spec))
    search_through(driver)
    assert {record.config["data"]["train_samples"] for record in driver.state.trials} == {100}
    (refit,) = driver.state.comparisons
    assert {run.config["data"]["train_samples"] for run in refit.runs} == {None}
    whole = list(read(tmp_path / "whole" / "journal"))
    result = collect(spec, whole, tmp_path)
    found = chosen_trial(result)
    assert found is not None
    written = yaml.safe_load(best_config(result, *found[:1], chosen=found[1], refit=found[2]))
    assert written["config"]["data"]["train_samples"] is None
    assert written["provenance"]["refit"]["change"] == "all settings as found on 100 images"
    assert written["provenance"]["refit"]["luck"] is None
    begun = next(i for i, event in enumerate(whole) if isinstance(event, ComparisonStarted))
    for cut in (begun - 1, begun + 5):
        folder = tmp_path / str(cut)
        Journal(folder / "journal", 1).append(*whole[: cut + 1])
        search_through(session(spec, folder, refitting(spec)))
        assert told(collect(spec, read(folder / "journal")).comparisons) == told(result.comparisons)


@pytest.mark.parametrize(("others", "way"), [(("he2015", "tuned"), "another recipe (he2015, tuned) or "), ((), "")])
def test_from_the_best_config_itself_there_is_nothing_to_explain(others: tuple[str, ...], way: str) -> None:
    rates = dict.fromkeys(others, 0.5) | {"naive": 0.1}
    recipes = {name: {"config": sgd(rate)} for name, rate in rates.items()}
    spec = parse_study({**{key: value for key, value in TREE.items() if key != "proxy"}, "recipes": recipes})
    result = collect(spec, ended(spec, ("recipe:naive", sgd(0.1), 0.5), ("tpe", sgd(0.2), 0.4)))
    baseline, _ = reference_arm(spec, result.trials, "naive", "--from", "baseline")
    assert baseline is not None
    with pytest.raises(ConfigError) as raised:
        explaining(result, baseline, 2)
    assert str(raised.value) == f"--from: must differ from the best config: give {way}a YAML file, got 'naive'"


def test_before_the_refit_the_best_is_the_proxys_and_says_so(tmp_path: Path) -> None:
    spec = parse_study(TREE)
    result = collect(spec, ended(spec, ("tpe", sgd(0.1), 0.5)), tmp_path)
    found = chosen_trial(result)
    assert found is not None
    written = yaml.safe_load(best_config(result, found[0], chosen=found[1], refit=found[2]))
    assert written["config"]["model"]["depth"] == 20
    assert "trained at depth 20 on 500 images: the refit, which trains" in written["provenance"]["chosen"]
    baseline, _ = reference_arm(spec, result.trials, "naive", "--from", "baseline")
    assert baseline is not None
    with pytest.raises(ConfigError, match="must have a refit with a winner first"):
        explaining(result, baseline, 2)
