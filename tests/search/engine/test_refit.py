"""A refit through the driver, without Ray: what is raced, when it ends, and that it resumes as if never stopped."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.algorithms.schedulers.none import NoStopping
from search.algorithms.schedulers.registry import build_scheduler
from search.algorithms.searchers.random import RandomSearcher
from search.algorithms.searchers.registry import build_searcher
from search.analysis.finalists import refit_outcome
from search.engine.comparing import Comparer, contenders_line
from search.engine.driver import StudyDriver
from search.engine.explain import Explaining, explaining
from search.engine.reference import reference_arm
from search.engine.refit import Refitting
from search.engine.reports import Details
from search.journal.comparisons import Comparison
from search.journal.events import ComparisonStarted, EpochReported, Event, SessionStarted, TrialEnded, TrialSuggested
from search.journal.log import Journal, next_session, read
from search.journal.records import TrialStatus
from search.journal.result import collect
from search.journal.state import StudyState
from search.study.parse import parse_study
from search.study.resources import Refit
from search.study.spec import StudySpec
from spaces import Space
from tests.search.engine.test_driver import TREE, search_through
from trainables.config import ConfigError, parse_config
from trainables.trainable import build_trainable

REFIT = {"top": 2, "seeds": 4}


def study(**changes: Any) -> StudySpec:
    return parse_study({**TREE, "refit": REFIT, "budget": {"trials": 12, "epochs": 9}, **changes})


def session(
    spec: StudySpec, folder: Path, comparer: Comparer | None, searching: bool = True, clock: list[float] | None = None
) -> StudyDriver:
    past = list(read(folder / "journal"))
    journal = Journal(folder / "journal", next_session(folder / "journal"))
    deciders = (
        (build_searcher(spec), build_scheduler(spec)) if searching else (RandomSearcher(Space(), 0), NoStopping())
    )
    ticks = itertools.count(1000 * next_session(folder / "journal"))
    now = (lambda: clock[0]) if clock else (lambda: float(next(ticks)))
    driver = StudyDriver(spec, journal, *deciders, StudyState(), (), now, comparer, searching)
    driver.replay(past)
    driver.record(SessionStarted(session=next_session(folder / "journal") - 1, time=now(), versions={}))
    return driver


def told(comparisons: list[Comparison]) -> list[Any]:
    """All but the times."""
    return [
        [(run.arm, run.config, [(e.epoch, e.metrics) for e in run.history]) for run in found.runs]
        + [(found.winner, found.ended and found.ended.reason)]
        for found in comparisons
    ]


def refitting(spec: StudySpec, again: bool = False, **settings: Any) -> Refitting:
    return Refitting(spec, Refit(**{**REFIT, **settings}), None, again=again)


def test_the_best_trials_and_the_recipe_get_the_same_fresh_seeds(tmp_path: Path) -> None:
    spec = study()
    driver = session(spec, tmp_path, refitting(spec))
    search_through(driver)
    state = driver.state
    assert driver.finished
    (refit,) = state.comparisons
    trials = sorted(
        (r for r in state.trials if r.status is TrialStatus.COMPLETED and r.recipe is None),
        key=lambda r: -r.value("val_accuracy"),
    )
    assert len(state.trials) == 12
    assert [(arm.name, arm.role) for arm in refit.started.arms] == [
        (f"trial-{trials[0].number}", "finalist"), (f"trial-{trials[1].number}", "finalist"), ("bad", "reference"),
    ]  # fmt: skip
    assert refit.ended is not None
    assert refit.winner is not None
    seeds = {arm.name: [run.config["seed"] for run in refit.of_arm(arm.name)] for arm in refit.started.arms}
    assert all(found == list(range(1000, 1000 + len(found))) for found in seeds.values())
    assert min(map(len, seeds.values())) >= 3
    assert len(seeds["bad"]) >= len(seeds[refit.winner.name])  # what the winner is measured against runs on
    for run in refit.runs:
        arm = next(arm for arm in refit.started.arms if arm.name == run.arm)
        assert {**run.config, "seed": 0} == {**arm.config, "seed": 0}
        assert len(run.history) == 9  # nothing stops it early
        assert run.values is None
    assert state.is_over(spec)
    outcome = refit_outcome(collect(spec, read(tmp_path / "journal")), refit)
    assert outcome.gain is not None
    assert outcome.gain.low > 0.2  # the recipe's learning rate is far too small
    assert outcome.finalists[-1].arm.name == "bad"


def test_a_refit_that_was_cut_off_anywhere_ends_the_same(tmp_path: Path) -> None:
    spec = study()
    search_through(session(spec, tmp_path / "whole", refitting(spec)))
    whole = list(read(tmp_path / "whole" / "journal"))
    begun = next(i for i, event in enumerate(whole) if isinstance(event, ComparisonStarted))
    for cut in (begun - 1, begun, begun + 1, begun + 7, len(whole) - 1):
        folder = tmp_path / str(cut)
        Journal(folder / "journal", 1).append(*whole[: cut + 1])
        search_through(session(spec, folder, refitting(spec)))
        again = collect(spec, read(folder / "journal"))
        expected = collect(spec, whole)
        assert told(again.comparisons) == told(expected.comparisons)
        assert len(again.comparisons) == 1


def test_it_changes_nothing_for_the_search_that_goes_on(tmp_path: Path) -> None:
    spec, grown = study(), study(budget={"trials": 16, "epochs": 9})
    search_through(session(spec, tmp_path / "refit", refitting(spec)))
    search_through(session(grown, tmp_path / "refit", None))
    search_through(session(grown, tmp_path / "plain", None))
    after, plain = (collect(grown, read(tmp_path / name / "journal")) for name in ("refit", "plain"))
    assert len(after.trials) == len(plain.trials) == 16
    assert [r.config for r in after.trials][:12] == [r.config for r in plain.trials][:12]
    assert [r.last_epoch for r in after.trials][:12] == [r.last_epoch for r in plain.trials][:12]
    assert all(record.arm is None for record in after.trials)
    assert not StudyState.of(read(tmp_path / "refit" / "journal")).is_over(grown)  # its finalists may be others now


def test_a_second_refit_has_other_seeds(tmp_path: Path) -> None:
    spec = study(refit=None)
    search_through(session(spec, tmp_path, None))
    for _ in range(2):
        search_through(session(spec, tmp_path, refitting(spec, again=True, seeds=3), searching=False))
    first, second = collect(spec, read(tmp_path / "journal")).comparisons
    assert (first.started.first_seed, second.started.first_seed) == (1000, 1003)
    assert first.started.arms == second.started.arms


def test_a_refit_by_itself_needs_no_finished_search_and_leaves_it_as_it_is(tmp_path: Path) -> None:
    spec = study(refit=None)
    driver = session(spec, tmp_path, None)
    while sum(record.status.ended for record in driver.records.values()) < 6:
        leg = driver.next_leg()
        assert leg is not None
        for result in build_trainable(parse_config(leg.config), Path()).epochs():
            if driver.on_result(leg.trial, result.epoch, result.metrics(), result.last, result.stop_reason):
                break
    driver.next_leg()  # one that is cut off
    search_through(session(spec, tmp_path, refitting(spec), searching=False))
    state = StudyState.of(read(tmp_path / "journal"))
    assert [record.status.ended for record in state.trials] == [True] * 6 + [False]
    assert state.comparisons[0].ended is not None


def test_without_a_completed_trial_there_is_nothing_to_compare(tmp_path: Path) -> None:
    spec = study(recipes={}, space={"optimizer": {"lr": {"float": [8.0, 10.0]}}})
    driver = session(spec, tmp_path, refitting(spec))
    search_through(driver)
    assert driver.finished
    assert not driver.state.comparisons
    assert driver.state.is_over(spec)


@pytest.mark.parametrize("hours", [1.0, 0.5])
def test_a_fifth_of_the_hours_is_left_for_the_refit(tmp_path: Path, hours: float) -> None:
    clock = [0.0]
    spec = study(budget={"trials": 1000, "epochs": 9, "hours": hours})
    driver = session(spec, tmp_path, refitting(spec), clock=clock)
    begun: list[float] = []
    while (leg := driver.next_leg()) is not None:
        if driver.records[leg.trial].arm is not None:
            begun.append(clock[0])
        for result in build_trainable(parse_config(leg.config), Path()).epochs():
            clock[0] += 20.0
            if driver.on_result(leg.trial, result.epoch, result.metrics(), result.last, result.stop_reason):
                break
    assert begun[0] == pytest.approx(0.8 * hours * 3600, abs=30)
    (refit,) = driver.state.comparisons
    assert refit.ended is not None
    assert (refit.ended.reason == "hours") == (clock[0] >= hours * 3600)
    assert driver.state.is_over(spec) or clock[0] < hours * 3600
    assert clock[0] <= hours * 3600 + 30


def test_a_diverged_or_failed_arm_is_dropped_and_said(tmp_path: Path) -> None:
    spec = study()
    driver = session(spec, tmp_path, refitting(spec))
    victim = ""
    while (leg := driver.next_leg()) is not None:
        arm = driver.records[leg.trial].arm
        if arm is not None and not victim:
            victim = arm
        for result in build_trainable(parse_config(leg.config), Path()).epochs():
            metrics = result.metrics() | ({"train_loss": math.nan} if arm == victim and arm else {})
            if driver.on_result(leg.trial, result.epoch, metrics, result.last, result.stop_reason):
                break
    result = collect(spec, read(tmp_path / "journal"))
    (refit,) = result.comparisons
    outcome = refit_outcome(result, refit)
    assert outcome.winner is not None
    assert outcome.winner.arm.name != victim
    assert "diverged" in next(one.verdict for one in outcome.finalists if one.arm.name == victim)


def test_a_collapsed_run_is_trained_to_its_end_for_the_race_to_count_it(tmp_path: Path) -> None:
    spec = study(guards={"collapsed": "stop"})
    driver = session(spec, tmp_path, refitting(spec))
    while (leg := driver.next_leg()) is not None:
        bad: Details = {} if driver.records[leg.trial].arm is None else {"collapsed": "one class"}
        for result in build_trainable(parse_config(leg.config), Path()).epochs():
            reported = result.epoch, result.metrics(), result.last, result.stop_reason, None, bad
            if driver.on_result(leg.trial, *reported):
                break
    (refit,) = driver.state.comparisons
    assert refit.winner is not None
    assert {run.status for run in refit.runs} == {TrialStatus.COMPLETED}


def test_what_to_compare_with(tmp_path: Path) -> None:
    spec = study()
    assert reference_arm(spec, [], None, "--against", "reference")[0].name == "bad"  # type: ignore[union-attr]
    own = {"model": {"kind": "synthetic"}, "optimizer": {"kind": "adam", "lr": 0.003}, "epochs": 160, "batch_size": 64}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(own))
    arm, line = reference_arm(spec, [], str(tmp_path / "mine.yaml"), "--against", "reference")
    assert arm is not None
    assert (arm.name, arm.config["optimizer"]["lr"], arm.config["epochs"]) == ("mine", 0.003, 9)
    assert line == "mine.yaml: epochs 9 instead of 160, as the study has it"
    with pytest.raises(ConfigError, match="did you mean `bad`") as refused:
        reference_arm(spec, [], "bda", "--against", "reference")
    assert "--against" in str(refused.value)
    with pytest.raises(ConfigError, match="readable"):
        reference_arm(spec, [], "none/there.yaml", "--against", "reference")


def test_equal_configs_are_one_finalist(tmp_path: Path) -> None:
    space = {"optimizer": {"lr": {"choice": [0.01, 0.1]}}}
    recipes = {name: {"config": {"optimizer": {"lr": 0.1}}} for name in ("known", "again")}
    spec = study(space=space, recipes=recipes, scheduler={"kind": "none"})
    driver = session(spec, tmp_path, refitting(spec, top=5))
    search_through(driver)
    assert [arm.name for arm in driver.state.comparisons[0].started.arms] == ["trial-2", "known"]


def test_a_recipe_alone_is_refit_too(tmp_path: Path) -> None:
    spec = study(budget={"trials": 1, "epochs": 9}, space={})
    driver = session(spec, tmp_path, refitting(spec))
    search_through(driver)
    (refit,) = driver.state.comparisons
    assert refit.winner is not None
    assert (refit.winner.name, len(refit.runs)) == ("bad", 3)


def test_folds_come_by_themselves_with_few_images_only(tmp_path: Path) -> None:
    spec = study()

    def folds(images: int | None, given: int | None) -> int | None:
        state = StudyState.of(_completed(spec))
        found = Refitting(spec, Refit(top=1, seeds=2, folds=given), images).contenders(state)
        assert found is not None
        return found.folds

    assert [folds(1400, None), folds(2000, None), folds(None, None)] == [5, None, None]
    assert [folds(1400, 1), folds(50_000, 4)] == [None, 4]


def _completed(spec: StudySpec) -> list[Event]:
    config = spec.trial_config({}).model_dump(mode="json")
    return [
        TrialSuggested(trial=0, origin="random", values={}, config=config, time=1.0),
        EpochReported(trial=0, epoch=9, metrics={"val_accuracy": 0.5, "train_loss": 1.0}, last=True, time=2.0),
        TrialEnded(trial=0, status=TrialStatus.COMPLETED, time=2.0),
    ]


def test_a_refit_that_is_still_to_be_scored_is_not_begun_anew(tmp_path: Path) -> None:
    spec = study()
    search_through(session(spec, tmp_path, refitting(spec)))
    state = StudyState.of(read(tmp_path / "journal"))
    with_images = {**state.comparisons[0].started.arms[0].config, "model": {"kind": "cifar_resnet", "depth": 8}}
    arms = tuple(arm.model_copy(update={"config": with_images}) for arm in state.comparisons[0].started.arms)
    begun = state.comparisons[0].started.model_copy(update={"arms": arms})
    events = [begun if isinstance(event, ComparisonStarted) else event for event in read(tmp_path / "journal")]
    unscored = StudyState.of(events)
    assert not unscored.comparisons[0].is_over
    assert not unscored.is_over(spec)
    assert refitting(spec, again=True).contenders(unscored) is None
    assert "still to be scored" in contenders_line(refitting(spec, again=True), unscored)
    assert refitting(spec, again=True).contenders(state) is not None


def some_of(driver: StudyDriver, runs: int) -> None:
    """Train so many runs of a comparison, and leave another one under way."""
    while (leg := driver.next_leg()) is not None:
        if driver.records[leg.trial].arm is not None:
            runs -= 1
        if runs < 0:
            return
        for result in build_trainable(parse_config(leg.config), Path()).epochs():
            if driver.on_result(leg.trial, result.epoch, result.metrics(), result.last, result.stop_reason):
                break


def explaining_of(spec: StudySpec, folder: Path) -> Explaining:
    result = collect(spec, read(folder / "journal"))
    start, _ = reference_arm(spec, result.trials, "bad", "--from", "baseline")
    assert start is not None
    return explaining(result, start, 2)[0]


def test_comparisons_of_two_kinds_do_not_take_each_others_runs(tmp_path: Path) -> None:
    spec = study(refit=None)
    search_through(session(spec, tmp_path, None))
    some_of(session(spec, tmp_path, explaining_of(spec, tmp_path), searching=False), 2)
    search_through(session(spec, tmp_path, refitting(spec, again=True), searching=False))
    search_through(session(spec, tmp_path, explaining_of(spec, tmp_path), searching=False))
    explanation, refit = collect(spec, read(tmp_path / "journal")).comparisons
    assert (explanation.kind, refit.kind) == ("explain", "refit")
    for comparison in (explanation, refit):
        assert comparison.ended is not None
        assert {run.origin.partition(":")[0] for run in comparison.runs} == {comparison.kind}
        begun = [(run.arm, comparison.index(run)) for run in comparison.runs]
        assert len(begun) == len(set(begun))
    assert len(explanation.runs) == 2 * len(explanation.started.arms)


def test_a_refit_that_the_search_has_overtaken_is_given_up(tmp_path: Path) -> None:
    spec, grown = study(), study(budget={"trials": 30, "epochs": 9})
    some_of(session(spec, tmp_path, refitting(spec)), 2)
    driver = session(grown, tmp_path, refitting(grown))
    search_through(driver)
    first, second = driver.state.comparisons
    assert first.ended is not None
    assert (first.ended.reason, first.winner) == ("superseded", None)
    best = max(
        (record for record in driver.state.trials if record.status is TrialStatus.COMPLETED),
        key=lambda record: record.value("val_accuracy"),
    )
    assert second.started.arms[0].name == f"trial-{best.number}"
    assert driver.state.is_over(grown)


def test_no_seed_of_the_search_is_fresh(tmp_path: Path) -> None:
    spec = study(seed=1002)
    driver = session(spec, tmp_path, refitting(spec))
    search_through(driver)
    assert driver.state.comparisons[0].started.first_seed == 1003


def test_a_file_that_is_named_like_a_trial_is_another_arm(tmp_path: Path) -> None:
    config = {"model": {"kind": "synthetic"}, "epochs": 9}
    (tmp_path / "trial-3.yaml").write_text(yaml.safe_dump(config))
    arm, _ = reference_arm(study(), [], str(tmp_path / "trial-3.yaml"), "--against", "reference")
    assert arm is not None
    assert arm.name == "trial-3.yaml"
