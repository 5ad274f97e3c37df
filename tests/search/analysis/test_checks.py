"""Each check fires on a study that it is made for, and is silent on healthy ones."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import search
from search.algorithms.schedulers.none import NoStopping
from search.analysis.checks import CHECKS, check_all
from search.check import check
from search.journal.result import StudyResult
from search.study.overrides import override
from search.study.settings import InstanceSettings
from search.study.spec import StudySpec
from search.views.checks import checked, command_and_words, print_alarms, print_checks
from search.views.outcome import print_outcome
from spaces import parse_space
from tests.search.analysis.studies import EPOCHS, LR, Curve, healthy, rising, searched, spec_of
from tests.search.sample_study import sample_events, sample_spec, write_study
from trainables.check import Check, alarms
from trainables.config import parse_yaml

Config, Draws = Mapping[str, Any], np.random.Generator
ONE_OF_TEN = {
    "val_recall": lambda share: 0.1, "val_precision": lambda share: share / 10,
    "val_f1": lambda share: 2 * share / (1 + share) / 10,
}  # fmt: skip
SETTLED = {"recipes": {"good": {"config": {"optimizer": {"lr": 0.01}, "augment": {"strength": 0.5}}}}}


def said(result: StudyResult) -> dict[str, Check]:
    return {check.name: check for check in check_all(result)}


def better_and_better() -> Callable[[Config, Draws], list[float]]:
    count = itertools.count()
    return lambda config, draws: rising(0.5 + 0.01 * next(count), draws)


def late_order(config: Config, draws: Draws) -> list[float]:
    """Trials that are better at first are worse at the end."""
    return [0.6 + config["augment.strength"] * (0.2 - 0.05 * epoch) for epoch in range(1, EPOCHS + 1)]


# Check, study and curve, what it must say: status, evidence, next step.
FIRES: dict[str, tuple[Any, Curve, dict[str, Any], str, str, str]] = {
    "failures": (
        spec_of(), lambda c, d: [] if c["batch_size"] == 64 else healthy(c, d), {},
        "problem", "batch_size 64: 22 of 22 there, 0 of 17 elsewhere: RuntimeError: CUDA out of memory", "status",
    ),
    "divergence": (
        spec_of(), lambda c, d: [math.nan] if c[LR] > 0.05 else healthy(c, d), {},
        "warning", "optimizer.lr from 0.0998 up: 11 of 11 there, 0 of 28 elsewhere", "lr: {float: [0.0001, 0.04",
    ),
    "collapse": (spec_of(), lambda c, d: [0.1] * EPOCHS, ONE_OF_TEN, "problem", "40 of 40 networks", "labels"),
    "against recipes": (
        spec_of(**SETTLED), lambda c, d: rising(0.9, d), {}, "warning", "within the noise", "search.refit",
    ),
    "resolution": (
        spec_of(), lambda c, d: [round(v * 50) / 50 for v in healthy(c, d)], {},
        "warning", "one of 50 validation images is worth 0.02; ", "more images in the source's validation split",
    ),
    "range edges": (
        spec_of(), lambda c, d: rising(0.6 + 0.05 * math.log10(c[LR]), d), {},
        "warning", "at the upper end, 1,", "lr: {float: [0.0001, 22.0], log: true} under space.optimizer",
    ),
    "influence": (
        spec_of(seed=1), lambda c, d: rising(0.9 + d.normal(0, 0.02), d), {},
        "warning", "no setting has an effect beyond noise", "wider ranges",
    ),
    "number of trials": (spec_of(trials=5), healthy, {}, "warning", "4 suggested trials for 3 sea", "--trials 10"),
    "last improvement": (spec_of(), better_and_better(), {}, "warning", "number 40 of 40", "--trials 60"),
    "length of training": (
        spec_of(), lambda c, d: [0.1 * e for e in range(1, EPOCHS + 1)], {},
        "warning", "still gained 0.2 in the last 2 of 9 epochs", "--epochs 18 --fresh",
    ),
    "early ranks": (spec_of(trials=60), late_order, {}, "warning", "rank correlation -", "grace_period=5"),
    "stopping rules": (
        spec_of(scheduler={"kind": "none"}), healthy, {},
        "warning", "would have kept the winner", "scheduler.kind=asha",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("why", "evidence"), [("one class", "predict one class"), ("rising loss", "twice their first")]
)
def test_trials_that_said_themselves_that_they_have_collapsed(why: Any, evidence: str) -> None:
    result = searched(spec_of(trials=10))
    bad = [
        dataclasses.replace(
            record, history=tuple(dataclasses.replace(epoch, collapsed=why) for epoch in record.history)
        )
        for record in result.trials[:4]
    ]
    for trials, status in ((bad + result.trials[4:], "warning"), (bad, "problem")):
        changed = dataclasses.replace(result, trials=trials)
        found = next(check for check in checked(changed) if check.name == "collapse")
        assert (found.status, evidence in found.evidence) == (status, True), found
        assert found.evidence.startswith(f"4 of {len(trials)} ")
        assert_valid(found.next_step or "", result.spec)


@pytest.mark.parametrize("name", FIRES)
def test_a_check_fires(name: str) -> None:
    spec, curve, metrics, status, evidence, step = FIRES[name]
    found = next(check for check in checked(searched(spec, curve, **metrics)) if check.name == name)
    assert (found.status, evidence in found.evidence) == (status, True), found
    assert found.next_step is not None
    assert step in found.next_step, found
    assert_valid(found.next_step, spec)


def assert_valid(step: str, spec: StudySpec) -> None:
    """What the user is told to type or write is understood."""
    assert not re.search(r"\{\w+\}", step)
    command, words = command_and_words(step)
    assert command or " -m " not in step  # so that it can be copied as it stands
    assert " -m " not in words
    assert ";" not in command
    for option, value in re.findall(r"--(set|trials|epochs) ([\w.=]+)", step.replace("KEY=VALUE", "batch_size=32")):
        override(spec, **({"sets": [value]} if option == "set" else {option: int(value)}))
    for line in re.findall(r"\w+: \{[^}]*\}", step):
        parse_space(parse_yaml(line, "step"))


TAKEN = ("c: 2 classes", "splits: train 400 (the rest), val 50 (10 % of the rest), test 50 (15 % of all)", "images: x")


@pytest.mark.parametrize(
    ("data", "images", "advice"),
    [
        ({}, TAKEN, "{search} --set data.val_fraction=0.2 --fresh   # more validation images"),
        ({"val_fraction": 0.3}, TAKEN, ""),
        ({"val_samples": 50}, TAKEN, "{search} --set data.val_samples=null --fresh   # more validation images"),
        ({}, ("c: 2 classes", "splits: train 400 (train/), val 50 (val/), test 50 (15 % of train)", "images: x"),
         "more images in the source's validation split"),
        ({"folds": 5}, ("c: 2 classes", "splits: train 400 (the other folds), val 50 (fold 1 of 5)", "images: x"), ""),
    ],
)  # fmt: skip
def test_more_validation_images_come_from_where_those_are(
    data: dict[str, Any], images: tuple[str, ...], advice: str
) -> None:
    trial = {"model": {"kind": "synthetic"}, "data": {"source": "synthetic", **data}}
    result = searched(spec_of(trials=10, trial=trial), lambda c, d: [round(v * 50) / 50 for v in healthy(c, d)])
    found = said(dataclasses.replace(result, images=images))["resolution"]
    assert found.status == "warning"
    assert found.next_step is not None
    assert advice in found.next_step
    assert ("validation" in found.next_step) == bool(advice)
    assert "--set objective.metric=val_loss --fresh" in found.next_step
    assert "continuous objective" in found.next_step


def test_one_image_is_not_called_images() -> None:
    right = iter([45, 44, 44, *range(20, 30)])
    spec = spec_of(trials=10, scheduler={"kind": "none"})
    found = said(searched(spec, lambda c, d: [(images := next(right)) / 50] + [images / 50] * (EPOCHS - 1)))
    assert found["resolution"].evidence.endswith("; the best 3 trials are 1 image apart")


def test_trials_to_come_are_not_counted_as_tried() -> None:
    begun = said(searched(spec_of(), until=2 * EPOCHS))["number of trials"]
    assert (begun.status, begun.next_step) == ("unknown", None)
    assert re.fullmatch(r"\d suggested trials? so far, of 39 planned, for 3 .*: the search is not over", begun.evidence)
    few = said(searched(spec_of(trials=5), until=1))["number of trials"]
    assert few.status == "warning"
    assert few.evidence.startswith("0 suggested trials so far, of 4 planned, for 3 searched settings: too few")


def test_a_single_collapsed_trial_is_what_a_search_tries() -> None:
    result = searched(spec_of(trials=4, scheduler={"kind": "none"}))
    best = result.best()
    bad = next(record for record in result.trials if record is not best)
    history = tuple(dataclasses.replace(epoch, collapsed="one class") for epoch in bad.history)
    trials = [dataclasses.replace(r, history=history) if r is bad else r for r in result.trials]
    found = said(dataclasses.replace(result, trials=trials))["collapse"]
    assert found.status == "ok"
    assert found.evidence.startswith("1 of 4 networks predicts one class (")
    assert found.evidence.endswith("a single one, as a search tries bad settings too; the best is not among them")


def test_every_check_has_a_study_that_fires_it() -> None:
    assert list(said(searched(spec_of(trials=2)))) == [check.name for check in check_all(searched(spec_of(trials=1)))]
    assert set(said(searched(spec_of(trials=1)))) == set(FIRES)
    assert len(FIRES) == len(CHECKS)


def test_healthy_studies_are_left_alone() -> None:
    """No check sees a problem in 20 searches, and in all of them only one in 20 warns."""
    found = [check for seed in range(20) for check in check_all(searched(spec_of(seed=seed)))]
    assert not [check for check in found if check.status == "problem"]
    warnings = [check for check in found if check.status == "warning"]
    assert len(warnings) <= len(found) / 20, warnings
    assert {check.name for check in found if check.status == "ok"} == set(FIRES)


def loss(config: Config, draws: Draws) -> list[float]:
    return [-math.log(value) for value in healthy(config, draws)]


# The best is a recipe in a branch where no other trial is, at the end of its range.
BRANCHES = {"optimizer": {"kind": {"choice": {
    "sgd": {"lr": {"float": [0.1, 1.0]}}, **{kind: {"lr": {"float": [1e-4, 1.0]}} for kind in ("adam", "adamw")},
}}}}  # fmt: skip
RARE = {"rare": {"config": {"optimizer": {"kind": "adam", "lr": 1e-4}}}}
PLUGIN = spec_of().model_copy(update={"scheduler": InstanceSettings.of(NoStopping())})


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        *((spec_of(trials=trials), {}) for trials in (1, 3, 9)),
        *((spec_of(), {"until": until}) for until in (0, 1, 9, 30, 120)),
        *((spec_of(recipes={}, scheduler={"kind": kind}), {}) for kind in ("asha_promote", "hyperband")),
        (spec_of(objective={"metric": "val_loss"}), {"curve": loss, "val_accuracy": lambda value: math.exp(-value)}),
        (PLUGIN, {"scheduler": NoStopping()}),
        (override(search.load_study("synthetic"), trials=14), {}),
        (spec_of(trials=12, space=BRANCHES, recipes=RARE), {"curve": lambda c, d: rising(1 - c[LR], d)}),
        (spec_of(trials=1, space={}, recipes={}), {}),
        (spec_of(searcher={"kind": "grid"}, space={"batch_size": {"choice": [32, 64]}}), {}),
        (spec_of(budget={"trials": 12, "epochs": 1}, scheduler={"kind": "none"}), {"curve": lambda c, d: [0.5]}),
        (spec_of(), {"curve": lambda config, draws: []}),
        (spec_of(), {"curve": lambda config, draws: [0.5, math.nan]}),
    ],
)  # fmt: skip
def test_checks_answer_whatever_there_is(spec: Any, options: dict[str, Any]) -> None:
    result = searched(spec, **options)
    found = check_all(result)
    assert all("\n" not in check.evidence for check in found)
    broken = not any(record.status.value in ("COMPLETED", "RUNNING", "STOPPED") for record in result.trials)
    allowed = {"failures", "divergence"} if broken and result.trials else set()
    assert {check.name for check in found if check.status == "problem"} <= allowed


def test_a_study_that_stops_by_a_loss_reads_its_curves_the_right_way_up() -> None:
    found = said(searched(spec_of(objective={"metric": "val_loss"}), loss, val_accuracy=lambda value: math.exp(-value)))
    assert {name for name, check in found.items() if check.status != "ok"} <= {"last improvement"}
    better_above = searched(
        spec_of(objective={"metric": "val_loss"}), lambda c, d: rising(0.6 - 0.05 * math.log10(c[LR]), d)
    )
    assert "upper end" in said(better_above)["range edges"].evidence


def test_a_scheduler_of_another_package_is_left_out_by_name() -> None:
    found = said(searched(PLUGIN, scheduler=NoStopping()))
    assert "instance itself is left out" in found["stopping rules"].evidence
    assert found["early ranks"].status == "unknown"


def test_patience_before_the_decay_and_a_range_at_its_natural_end() -> None:
    short = searched(spec_of(), lambda config, draws: healthy(config, draws)[:4])
    assert "patience ended trial" in said(short)["length of training"].evidence
    spec = spec_of(space={"augment": {"strength": {"float": [0.0, 1.0]}}}, recipes={})
    best_at_one = searched(spec, lambda config, draws: rising(0.5 + 0.3 * config["augment.strength"], draws))
    assert said(best_at_one)["range edges"].status == "ok"


def shown(text: Callable[[Console], None], terminal: bool = False) -> list[str]:
    console = Console(file=io.StringIO(), width=80, force_terminal=terminal, color_system=None)
    text(console)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue().splitlines()


def test_what_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    spec = sample_spec()
    folder = write_study(tmp_path / "runs" / "sample", spec, sample_events(spec))
    result = search.open_study("sample")
    found = search.check_study(result)
    lines = shown(lambda console: print_checks(found, console))
    assert [line[9:].split(":")[0] for line in lines if not line.startswith(" ")] == list(FIRES)
    assert any(line.endswith("-m search.status runs/sample") for line in lines)
    assert (
        max(len(line) for line in shown(lambda c: print_checks(alarms(found), c), terminal=True) if "next:" not in line)
        <= 80
    )
    check("sample", json=True)
    assert [Check(**each) for each in json.loads(capsys.readouterr().out)] == found
    last = shown(lambda console: print_alarms(result, console))
    assert 1 < len(last) <= 4
    assert last[-1].split("   #")[0].endswith("-m search.check sample")
    outcome = shown(lambda console: print_outcome(result, tmp_path / "runs", console) and None)
    assert outcome[-len(last) :] == last
    none = dataclasses.replace(result, trials=[], spec=spec_of(trials=40), folder=folder)
    assert shown(lambda console: print_alarms(none, console)) == []


def test_a_check_that_is_ok_asks_for_nothing() -> None:
    with pytest.raises(ValueError, match="nothing to do"):
        Check("name", "ok", "evidence", "next")
    checks = [Check("a", "warning", "e"), Check("b", "unknown", "e"), Check("c", "problem", "e"), Check("d", "ok", "e")]
    assert [check.name for check in alarms(checks)] == ["c", "a"]
