"""The preview of a search: the answer first, no more precise than it is, and what is not known is not guessed."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from search.planning.calibration import Calibration, Plan, calibrate, timed
from search.planning.resources import resolved_execution
from search.study.overrides import override
from search.study.parse import load_study, parse_study, study_tree
from search.study.resources import Refit
from search.views.plan import about, grace_line, print_plan, recipe_lines
from tests.search.sample_study import IMAGES
from trainables.config import ConfigError, parse_yaml


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_an_epoch_on_a_gpu_is_not_timed_where_there_is_none(tmp_path: Path) -> None:
    spec = resolved_execution(load_study("digits_resnet8"), cuda=True, cpus_per_trial=1)
    calibration = calibrate(spec.trial_config({}), tmp_path)
    assert calibration.epoch_seconds is None
    assert calibration.checkpoint_bytes > 100_000
    priced = override(spec, max_cost=20.0, prices=["head=0.1", "gpu_spot=0.4"])
    prior = ("warm start: 2 of 3 trials",)
    lines = printed(Plan(priced, 4, calibration, {"head": 1, "gpu_spot": 4}, IMAGES, prior=prior))
    assert lines[0] == "time: not known, 4 trials at once: this machine has no GPU to time an epoch on"
    assert lines[1] == "cost: 1.70 an hour, with 1 head, 4 gpu_spot up now; cut off at 20.00, after 11.8 h"
    assert {*IMAGES, *prior} < set(lines)


def printed(plan: Plan, verbose: bool = False) -> list[str]:
    text = StringIO()
    print_plan(plan, Console(file=text, width=80), verbose=verbose)
    return text.getvalue().splitlines()


def test_the_answer_comes_first_and_the_study_only_when_it_is_asked_for() -> None:
    spec = override(load_study("digits_resnet8"), hours=2)
    calibration = Calibration(0.437, 620_000, trial_seconds=0.5, process_seconds=8.0)
    lines = printed(Plan(spec, 2, calibration, {}, IMAGES))
    # 20 s, half of what 86 epochs and 16 trials take, 8 s for the report; the refit trains 3 configs with 5 seeds, and
    # another 8 s are for scoring.
    assert lines[:3] == [
        "time: about 50 s, then a refit of about 40 s, or less, 2 trials at once: 20 s to start, 0.4 s an epoch for "
        "the trial defaults, timed on this machine as it is now, cut off after 2 h",
        "epochs: about 86 (144 without early stopping), then at most 135 of refit",
        "trials: 16, of which about 10 reach epoch 3, 8 reach the end",
    ]
    assert lines[-1] == "the whole study and its space: --dry-run --verbose"
    alone = printed(Plan(spec.model_copy(update={"refit": None}), 2, calibration, {}, IMAGES))
    assert not any("refit" in line for line in alone)
    assert any(line.startswith("disk: at most about ") for line in lines)
    assert not any("combinations" in line for line in lines)  # there is no end of them
    assert not any(line.startswith("study:") for line in lines)
    verbose = printed(Plan(spec, 2, calibration, {}, IMAGES), verbose=True)
    assert verbose[:3] == lines[:3]
    start = verbose.index("study: digits_resnet8")
    assert parse_study(parse_yaml("\n".join(verbose[start:]), "study")) == spec
    assert "trials that reach it" in "\n".join(verbose)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (2, "5 s"), (24, "25 s"), (84, "85 s"), (104, "100 s"), (174, "170 s"), (180, "3 min"), (560, "9 min"),
        (700, "10 min"), (4000, "65 min"), (5400, "1.5 h"), (40_000, "11 h"), (400_000, "5 days"),
    ],
)  # fmt: skip
def test_an_estimate_is_no_more_precise_than_it_is(seconds: float, words: str) -> None:
    assert about(seconds) == words


def test_trials_share_what_there_is_and_start_once() -> None:
    calibration = Calibration(10.0, 1, trial_seconds=1.0, process_seconds=10.0, first_step_seconds=4.0)
    assert calibration.seconds(epochs=20, trials=10, at_once=2) == 29 + (200 + 10) / 2 + 10
    assert calibration.refit_seconds(epochs=5, runs=6, at_once=2, scored=0) == (300 + 6) / 2 + 10
    scoring = replace(calibration, image_seconds=0.01)
    assert scoring.refit_seconds(epochs=5, runs=6, at_once=2, scored=1000) == (300 + 6 + 10) / 2 + 10
    assert Calibration(None, 1).seconds(20, 10, 2) is None
    assert Calibration(None, 1).refit_seconds(5, 6, 2, 0) is None


def test_the_refit_of_a_study_with_a_proxy_takes_what_its_own_network_takes() -> None:
    spec = override(load_study("digits_resnet8"), sets=["model.depth=20", "proxy.depth=8"])
    small = Calibration(0.437, 620_000, trial_seconds=0.5, process_seconds=8.0)
    deep = replace(small, epoch_seconds=4.37, checkpoint_bytes=2_000_000)
    lines = printed(Plan(spec, 2, small, {}, IMAGES, own=deep))
    # The search as without one; the refit trains the best trial twice, the next and the recipe, with 5 seeds of 9
    # epochs, at 4.37 s.
    assert lines[0] == (
        "time: about 50 s, then a refit of about 7 min, or less, 2 trials at once: 20 s to start, 0.4 s an epoch for "
        "the trial defaults at depth 8 and 4 s for the study's own network, timed on this machine as it is now"
    )
    assert lines[1] == "epochs: about 86 (144 without early stopping), then at most 180 of refit"
    assert next(line for line in lines if line.startswith("disk")).endswith("with checkpoints of 0.6 and 2.0 MB")


def test_processes_beside_each_other_are_timed(tmp_path: Path) -> None:
    spec = resolved_execution(load_study("digits_resnet8"), cuda=False, cpus_per_trial=1)
    config = spec.trial_config({})
    both = calibrate(config, tmp_path, concurrent=2)
    assert both.epoch_seconds is not None
    assert min(both.epoch_seconds, both.trial_seconds, both.start_seconds) > 0
    assert (both.test_images, both.image_seconds > 0) == (269, True)
    assert spec.most_scored(both.test_images) == 2 * 5 * 269
    assert spec.model_copy(update={"refit": Refit(seeds=2, test_samples=40)}).most_scored(269) == 2 * 2 * 40
    assert both.checkpoint_bytes == pytest.approx(timed(config, tmp_path).checkpoint_bytes, rel=0.01)
    broken = config.model_copy(update={"data": config.data.model_copy(update={"source": f"imagefolder:{tmp_path}/no"})})
    with pytest.raises(ConfigError, match="imagefolder"):
        calibrate(broken, tmp_path, concurrent=2)


def test_a_shortened_grace_period_is_said() -> None:
    tree = study_tree("cifar10_resnet110")
    line = grace_line(tree, override(tree, epochs=27))
    assert line == "grace period: 3 instead of 9, for trials of 27 epochs; --set scheduler.grace_period=N sets another"
    assert grace_line(tree, override(tree, trials=3)) is None


def test_recipes_of_longer_runs_are_named_with_what_is_tried_of_them() -> None:
    recipe = {"description": "d", "source": "s", "epochs": 100, "config": {"optimizer": {"lr": 0.2}}}
    short = {"short": {"optimizer": {"lr": 0.1}}}
    tree = {
        "study": "s", "trial": {"data": {"source": "digits"}}, "budget": {"trials": 2, "epochs": 24},
        "scheduler": {"kind": "none"}, "recipes": {"long": recipe, "both": recipe | short},
    }  # fmt: skip
    spec = parse_study(tree)
    assert list(recipe_lines(spec)) == [
        "recipe long is made for 100 epochs, and with 24 here no baseline: it has no short form",
        "recipe both is made for 100 epochs, and with 24 tried in its short form",
    ]
    assert [spec.trial_config(spec.recipe_config(name)).optimizer.lr for name in spec.recipes] == [0.2, 0.1]
    assert parse_study(spec.model_dump()) == spec
    searched = parse_study(tree | {"space": {"optimizer": {"lr": {"float": [0.1, 0.2]}}}})
    (few, *_) = recipe_lines(searched)
    assert few.startswith(
        "warning: nothing of the space is tried: recipes are tried first, and these are 2 of 2 trials"
    )
    longer = override(spec, epochs=25)
    assert not list(recipe_lines(longer))
    assert longer.trial_config(longer.recipe_config("both")).optimizer.lr == 0.2
    with pytest.raises(ConfigError, match=r"recipes\.long\.short\.optimizer\.lrr: unknown key"):
        parse_study(tree | {"recipes": {"long": recipe | {"short": {"optimizer": {"lrr": 1}}}}})
