from __future__ import annotations

import math
import os
import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.planning.resources import resolved_execution
from search.study.overrides import override
from search.study.parse import load_study, parse_study
from search.study.settings import ASHASettings, TPESettings
from spaces import Scalar, walk
from trainables.config import SGD, AdamW, ConfigError, merge, parse_yaml
from trainables.data.store import request
from trainables.precision import cpu_multiplies_bf16, fastest_precision

SMALL: dict[str, Any] = {
    "study": "small",
    "trial": {"model": {"kind": "cifar_resnet", "depth": 8}, "data": {"source": "digits"}},
    "space": {
        "optimizer": {
            "kind": {
                "choice": {
                    "sgd": {"lr": {"float": [0.01, 1.0], "log": True}, "momentum": {"float": [0.5, 0.9]}},
                    "adamw": {"lr": {"float": [1e-4, 0.01], "log": True}},
                }
            }
        }
    },
    "recipes": {"naive": {"config": {"optimizer": {"kind": "adam"}}}},
    "budget": {"trials": 5, "epochs": 9},
}


def tree(**changes: Any) -> dict[str, Any]:
    """The small study with dotted changes, `trial__optimizer__lr=1`; recipes and space are replaced whole."""
    changed = deepcopy(SMALL)
    for path, value in changes.items():
        *parents, leaf = path.split("__")
        node = changed
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return changed


def problems_of(raw: object) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        parse_study(raw)
    return [(problem.path, problem.rule) for problem in caught.value.problems]


# --- a study that is right


def test_defaults_are_filled_in() -> None:
    spec = parse_study(SMALL)
    assert (spec.objective.metric, spec.objective.mode) == ("val_accuracy", "max")
    assert (spec.searcher, spec.scheduler, spec.seed) == (TPESettings(), ASHASettings(), 0)
    assert spec.trial["optimizer"]["momentum"] == 0.9
    assert spec.trial["augment"]["strength"] == 1.0
    assert not {"epochs", "seed"} & spec.trial.keys()


def test_a_trial_has_the_studys_epochs_and_seed() -> None:
    spec = parse_study(tree(seed=7))
    config = spec.trial_config({"optimizer": {"lr": 0.5}})
    assert (config.epochs, config.seed, config.optimizer) == (9, 7, SGD(lr=0.5))
    assert spec.trial_config({"optimizer": {"kind": "adamw", "lr": 0.5}}).optimizer == AdamW(lr=0.5)


def test_a_study_is_written_as_it_is_read() -> None:
    spec = parse_study(tree(fixed={"optimizer.lr": 0.3}, trial__schedule={"kind": "step", "milestones": [0.2, 0.6]}))
    text = spec.dump()
    assert parse_study(parse_yaml(text, "study.yaml")) == spec
    assert "milestones: [0.2, 0.6]" in text
    assert parse_study(yaml.safe_load(text)).dump() == text


@pytest.mark.parametrize("name", ["cifar10_resnet110", "imagefolder_resnet50"])
def test_shipped_studies_are_written_as_they_are_read(name: str, tmp_path: Path) -> None:
    spec = load_study(name)
    (tmp_path / "study.yaml").write_text(spec.dump(), encoding="utf-8")
    assert load_study(str(tmp_path / "study.yaml")) == spec


def test_options_that_are_no_text_survive_writing() -> None:
    choice = {"choice": {32: {"regularization": {"clip_norm": {"float": [0.1, 1]}}}, 64: {}}}
    spec = parse_study(tree(space={"batch_size": choice, "data": {"resolution": {"choice": [None, 16]}}}))
    again = parse_study(parse_yaml(spec.dump(), "study.yaml"))
    assert again.parsed_space == spec.parsed_space
    assert list(again.space["batch_size"]["choice"]) == [32, 64]


def test_a_spec_travels_to_other_processes() -> None:
    spec = parse_study(SMALL)
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert pickle.loads(pickle.dumps(spec)).parsed_space == spec.parsed_space


def test_the_mode_follows_from_the_metric() -> None:
    assert parse_study(tree(objective={"metric": "val_loss"})).objective.mode == "min"
    assert parse_study(tree(objective={"metric": "grad_norm", "mode": "min"})).objective.mode == "min"


def test_locate_is_strict_about_what_the_space_leaves_alone() -> None:
    spec = parse_study(SMALL)
    values: dict[str, Scalar] = {
        "optimizer.kind": "sgd",
        "optimizer.kind=sgd/optimizer.lr": 0.1,
        "optimizer.kind=sgd/optimizer.momentum": 0.5,
    }
    config = {"optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.5}}
    assert spec.locate(config) == values
    assert walk(spec.parsed_space, lambda key, _: values[key]).tree == config
    assert spec.locate(merge(config, {"optimizer": {"nesterov": True}})) is None
    assert spec.locate(merge(config, {"batch_size": 32})) is None
    assert spec.locate(SMALL["recipes"]["naive"]["config"]) is None


# --- fixed values


def test_a_fixed_value_wins_wherever_its_key_exists() -> None:
    spec = parse_study(tree(fixed={"optimizer.momentum": 0.7, "batch_size": 16}, recipes={
        "a": {"config": {"optimizer": {"kind": "sgd", "momentum": 0.8}, "batch_size": 256}},
        "b": {"config": {"optimizer": {"kind": "adam"}}},
    }))  # fmt: skip
    assert spec.trial_config({}).optimizer == SGD(momentum=0.7)
    a, b = (spec.trial_config(recipe.config) for recipe in spec.recipes.values())
    assert a.optimizer == SGD(momentum=0.7)
    assert b.optimizer.kind == "adam"
    assert a.batch_size == b.batch_size == 16
    assert list(spec.parsed_space.domains()) == [
        "optimizer.kind", "optimizer.kind=sgd/optimizer.lr", "optimizer.kind=adamw/optimizer.lr",
    ]  # fmt: skip


def test_a_fixed_kind_keeps_what_is_searched_below_it() -> None:
    spec = parse_study(tree(fixed={"optimizer.kind": "adamw"}, trial__optimizer={"kind": "sgd", "momentum": 0.5}))
    assert list(spec.parsed_space.domains()) == ["optimizer.lr"]
    point = walk(spec.parsed_space, lambda *_: 1e-3)
    assert spec.trial_config(point.tree).optimizer == AdamW(lr=1e-3)
    assert spec.trial_config(spec.recipes["naive"].config).optimizer == AdamW()
    assert spec.locate(point.tree) == point.values


# --- identity


def test_identity_leaves_out_how_a_study_runs_and_what_it_is_called() -> None:
    spec = parse_study(SMALL)
    other = parse_study(tree(
        study="other", description="more", budget={"trials": 99, "epochs": 9, "hours": 2.0, "max_cost": 3},
        resources={"concurrent": 3, "cpus_per_trial": 2, "gpus_per_trial": 0.5, "prices": {"a": 1}},
        recipes__naive__source="a book",
    ))  # fmt: skip
    assert spec.identity() == other.identity()
    assert spec.difference(other) == []


def test_a_list_of_images_to_leave_out_may_move_and_its_groups_may_not_change() -> None:
    here, there = (parse_study(tree(trial__data={"source": "digits", "exclude": f"{place}.txt"})) for place in "ab")
    assert here.trial["data"]["exclude"] == os.path.abspath("a.txt")
    assert here.difference(there) == []
    config = here.trial_config({}).model_dump(mode="json")
    assert there.at_source(config)["data"]["exclude"] == os.path.abspath("b.txt")
    grouped = parse_study(tree(trial__data={"source": "digits", "group_by": "image (.)"}))
    assert grouped.difference(here) == ["trial.data.group_by: image (.) -> (not set)"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"budget__epochs": 27}, "epochs: 9 -> 27"),
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"trial__data__source": "cifar10"}, "trial.data.source: digits -> cifar10"),
        ({"scheduler": {"kind": "asha", "grace_period": 3}}, "scheduler.grace_period: 1 -> 3"),
        ({"fixed": {"batch_size": 3}}, "fixed.batch_size: (not set) -> 3"),
        ({"recipes__naive__config": {"batch_size": 3}}, "recipes.naive.config.batch_size: (not set) -> 3"),
        ({"space__batch_size": {"choice": [1, 2]}}, "space.batch_size.choice: (not set) -> [1, 2]"),
        ({"trial__regularization": {"patience": 1}}, "trial.regularization.patience: None -> 1"),
    ],
)
def test_a_difference_is_a_line(change: dict[str, Any], line: str) -> None:
    assert line in parse_study(SMALL).difference(parse_study(tree(**change)))


# --- execution


def test_execution_is_decided_by_the_machine() -> None:
    spec = parse_study(SMALL)
    cpu, cuda = resolved_execution(spec, False, 2.5), resolved_execution(spec, True, 1)
    for resolved, device, threads, gpus in ((cpu, "cpu", 2, 0.0), (cuda, "cuda", 1, 1.0)):
        execution = resolved.trial_config({}).execution
        assert (execution.device, execution.threads, execution.memory_format) == (device, threads, "channels_last")
        assert resolved.resources.gpus_per_trial == gpus
    assert cpu.trial["execution"]["precision"] == ("bf16" if cpu_multiplies_bf16() else "fp32")
    assert cuda.trial["execution"]["precision"] == fastest_precision("cuda")
    assert resolved_execution(spec, True, 1, lambda _: "bf16").trial["execution"]["precision"] == "bf16"
    exact = resolved_execution(override(spec, sets=["execution.precision=fp32"]), False, 1)
    assert exact.trial["execution"]["precision"] == "fp32"
    assert resolved_execution(spec, False, 0.5).trial["execution"]["threads"] == 1
    assert resolved_execution(cpu, True, 8) == cpu
    assert spec.difference(cpu) == spec.difference(cuda) == []
    assert "trial.execution.device: cpu -> cuda" in cpu.difference(cuda)


def test_a_change_of_how_a_study_runs_checks_that_section_alone() -> None:
    spec = parse_study(SMALL)
    changed = spec.with_resources(gpus_per_trial=0.5, prices={"gpu": 1}).with_execution(threads=3)
    assert changed == parse_study(
        tree(resources={"gpus_per_trial": 0.5, "prices": {"gpu": 1}}, trial__execution={"threads": 3})
    )
    assert changed.parsed_space == spec.parsed_space
    with pytest.raises(ConfigError, match=r"^resources\.gpus_per_trial: must be a whole number above 1, got 1\.5"):
        spec.with_resources(gpus_per_trial=1.5)
    with pytest.raises(ConfigError, match=r"^trial\.execution\.threads: "):
        spec.with_execution(threads=-1)


def test_execution_that_was_asked_for_stays() -> None:
    asked = {"threads": 3, "memory_format": "contiguous", "precision": "bf16"}
    spec = parse_study(tree(trial__execution=asked, resources={"gpus_per_trial": 0.5}))
    resolved = resolved_execution(spec, True, 1)
    assert resolved.trial["execution"] == {**spec.trial["execution"], **asked, "device": "cuda"}
    assert resolved.resources.gpus_per_trial == 0.5
    no_gpu = parse_study(tree(resources={"gpus_per_trial": 0}))
    assert resolved_execution(no_gpu, True, 1).trial["execution"]["device"] == "cpu"


@pytest.mark.parametrize(
    ("execution", "gpus", "cuda", "path"),
    [
        ({"device": "cuda"}, None, False, "trial.execution.device"),
        ({"device": "cuda"}, 0, True, "resources.gpus_per_trial"),
        ({"device": "cpu"}, 1, True, "resources.gpus_per_trial"),
        ({}, 1, False, "resources.gpus_per_trial"),
    ],
)
def test_execution_that_the_machine_lacks_is_refused(execution: Any, gpus: Any, cuda: bool, path: str) -> None:
    spec = parse_study(tree(trial__execution=execution, resources={"gpus_per_trial": gpus}))
    with pytest.raises(ConfigError) as caught:
        resolved_execution(spec, cuda, 1)
    assert [problem.path for problem in caught.value.problems] == [path]


# --- mistakes

BATCH = {"batch_size": {"int": [1, 9]}}


@pytest.mark.parametrize(
    ("raw", "path", "rule"),
    [
        ([1], "", "must be a mapping"),
        (None, "", "must be a mapping"),
        (tree(study="a/b"), "study", "plain folder name"),
        (tree(study=".."), "study", "plain folder name"),
        (tree(study="a."), "study", "plain folder name"),
        (tree(study=""), "study", "plain folder name"),
        (tree(study=3), "study", "must be a valid string"),
        (tree(seed=-1), "seed", "must be from 0"),
        (tree(seed=True), "seed", "must be a valid integer"),
        (tree(trials=3), "trials", "unknown key, did you mean `trial` or `budget.trials`?"),
        (tree(budget__trial=3), "budget.trial", "unknown key, did you mean `trials` or `trial`?"),
        (tree(budget={"epochs": 9}), "budget.trials", "is required"),
        (tree(budget__trials=0), "budget.trials", "must be greater than or equal to 1"),
        (tree(budget__hours=0), "budget.hours", "must be greater than 0"),
        (tree(budget__hours=math.nan), "budget.hours", "must be"),
        (tree(budget__max_cost=3), "budget.max_cost", "needs the nodes' prices an hour"),
        (tree(resources={"prices": "much"}), "resources.prices", "must be a valid number"),
        (tree(resources={"prices": {"gpu": -1}}), "resources.prices.gpu", "must be greater than or equal to 0"),
        (tree(resources={"prices": {}}), "resources.prices", "should have at least 1 item"),
        (tree(searcher={"kind": "tpee"}), "searcher.kind", "must be one of"),
        (tree(searcher={"kind": "random", "startup_trials": 3}), "searcher.startup_trials", "unknown key"),
        (tree(searcher={}), "searcher.kind", "is required, one of 'random', 'grid', 'tpe'"),
        (tree(scheduler={"kind": "asha", "grace": 3}), "scheduler.grace", "did you mean `grace_period`?"),
        (tree(scheduler={"kind": "asha", "reduction_factor": 1}), "scheduler.reduction_factor", "must be"),
        (tree(scheduler={"kind": "asha", "grace_period": 9}), "scheduler.grace_period", "must be below budget.epochs"),
        (tree(objective={"metric": "accuracy"}), "objective.metric", "must be one of train_loss"),
        (tree(objective={"metric": "val_loss", "mode": "max"}), "objective.mode", "must be min with val_loss"),
        (tree(objective={"metric": "val_f1", "mode": "min"}), "objective.mode", "must be max with val_f1"),
        (tree(objective={"metric": "lr"}), "objective", "`mode` is required with lr"),
        (tree(objective={"mode": "best"}), "objective.mode", "must be 'max' or 'min'"),
        (tree(resources={"cpus_per_trial": 0}), "resources.cpus_per_trial", "must be greater than 0"),
        (tree(resources={"cpus_per_trial": 1.5}), "resources.cpus_per_trial", "whole number above 1"),
        (tree(resources={"gpus_per_trial": -1}), "resources.gpus_per_trial", "must be greater than or equal to 0"),
        (tree(resources={"concurrent": 0}), "resources.concurrent", "must be greater than or equal to 1"),
        (tree(parameters={"lr": {"values": [1]}}), "parameters", "did you mean `space`?"),
        (tree(method="bayes"), "method", "did you mean `searcher.kind`?"),
        (tree(num_samples=3), "num_samples", "did you mean `budget.trials`?"),
        (tree(lr=0.1), "lr", "did you mean `trial.optimizer.lr`?"),
        (tree(objective={"goal": "maximize"}), "objective.goal", "did you mean `objective.mode`?"),
        (tree(objective={"name": "val_loss"}), "objective.name", "did you mean `objective.metric`?"),
        (tree(searcher="tpe"), "searcher", "with its kind: {kind: tpe}, one of 'random', 'grid', 'tpe', or a plug-in"),
        (tree(scheduler=None), "scheduler", "with its kind, one of 'none', 'asha'"),
        (tree(resources={"gpus_per_trial": "none"}), "resources.gpus_per_trial", "0 for none"),
        (tree(study=False), "study", "put a word in quotes"),
        (tree(trial__schedule="none"), "trial.schedule", "with its kind, one of 'constant'"),
        (tree(trial__lr=1), "trial.lr", "did you mean `optimizer.lr`?"),
        (tree(trial__batch_size={"choice": [1, 2]}), "trial.batch_size", "written in a study's `space`"),
        (tree(space={"batch_size": [32, 64]}), "space.batch_size", "are written {choice: [32, 64]}"),
        (tree(space={"optimizer": {"kind": ["sgd", "adam"]}}), "space.optimizer.kind", "{choice: [sgd, adam]}"),
        (tree(space={"optimizer": {"kind": {"choice": ["sgd", False]}}}), "space.optimizer.kind", "a word in quotes"),
        (tree(space={"learning_rate": {"float": [0.1, 1]}}), "space.learning_rate", "did you mean `optimizer.lr`?"),
        (
            tree(space={"model": {"pretrained": {"choice": [None, "none"]}}}), "space.model.pretrained.choice",
            "must differ from the options before it",
        ),
        (tree(trial=[1]), "trial", "must be a valid dictionary"),
        (tree(trial__optimizer={"kind": "sgd", "lrr": 1}), "trial.optimizer.lrr", "did you mean `lr`?"),
        (tree(trial__epochs=3), "trial.epochs", "set budget.epochs"),
        (tree(trial__seed=3), "trial.seed", "set seed at the top level"),
        (tree(trial__batch_size="big"), "trial.batch_size", "must be a valid integer"),
        (tree(trial__data={"source": "mnist"}), "trial.data.source", "must be one of cifar10"),
        (tree(space=[1]), "space", "must be a valid dictionary"),
        (tree(space={}), "space", "must search something, or budget.trials be at most 1"),
        (tree(space={"batch_size": 32}), "space", "must search something"),
        (tree(space={"batch_size": {"int": [9, 1]}}), "space.batch_size.int", "low must be below high"),
        (tree(space={"batchsize": {"int": [1, 9]}}), "space.batchsize", "did you mean `batch_size`?"),
        (tree(space={"batch_size": {"int": [0, 9]}}), "space.batch_size", "must be greater than or equal to 1"),
        (tree(space={"batch_size": {"float": [1, 9]}}), "space.batch_size", "must be a valid integer"),
        (tree(space={"optimizer": {"momentum": {"float": [0.5, 1.0]}}}), "space.optimizer.momentum", "must be less"),
        (tree(space={"optimizer": {"kind": {"choice": ["sgd", "adamm"]}}}), "space.optimizer.kind", "must be one of"),
        (
            tree(space={"optimizer": {"kind": {"choice": {"sgd": {}, "adamw": {"momentum": {"float": [0, 0.9]}}}}}}),
            "space.optimizer.kind=adamw/optimizer.momentum", "unknown key",
        ),
        (
            tree(space={"optimizer": {"momentum": {"float": [0, 0.9]}, "nesterov": {"choice": [False, True]}}}),
            "space.optimizer.nesterov", "must be false when momentum is 0",
        ),
        (tree(space={"model": {"depth": {"int": [8, 26]}}}), "space.model.depth", "must be 6n+2"),
        (tree(space={"batch_size": {"choice": [1, 2]}, "model": {"depth": 9}}), "space.model.depth", "must be 6n+2"),
        (tree(space={"model": {"frozen_stages": {"int": [0, 2]}}}), "space.model.frozen_stages", "must be 0 unless"),
        (
            tree(space={"augment": {"pad_crop": {"float": [0, 0.5]}, "resized_crop": {"float": [0.5, 1]}}}),
            "space.augment.resized_crop", "must be 1 (off) when pad_crop",
        ),
        (tree(space={"augment": {"flip": {"choice": [False, True]}}}), "space.augment.flip", "must be false"),
        (tree(space={"epochs": {"int": [1, 9]}}), "space.epochs", "set budget.epochs"),
        (tree(space={"seed": {"int": [1, 9]}}), "space.seed", "set seed at the top level"),
        (tree(space={"execution": {"compile": {"choice": [True, False]}}}), "space.execution.compile", "must be"),
        (tree(space={"data": {"source": {"choice": ["digits", "cifar10"]}}}), "space.data.source", "same for every"),
        (
            tree(space={"model": {"dropout": {"float": [0, 0.5], "requires": "model.pretraine"}}}),
            "space.model.dropout.requires", "must be a path of TrialConfig",
        ),
        (
            tree(space={"model": {"dropout": {"float": [0, 0.5], "requires": "batch_size"}}, **BATCH}),
            "space.model.dropout.requires", "must not be searched itself",
        ),
        (
            tree(space={"model": {"froz": {"int": [0, 1], "requires": "model.pretrained"}}, **BATCH}),
            "space.model.froz", "unknown key",
        ),
        (tree(recipes=[1]), "recipes", "must be a valid dictionary"),
        (tree(recipes={"a": {}}), "recipes.a.config", "is required"),
        (tree(recipes={"a": {"config": {}, "sorce": "x"}}), "recipes.a.sorce", "did you mean `source`?"),
        (tree(recipes={"a b": {"config": {}}}), "recipes.a b", "must be a plain name"),
        (tree(recipes={"a": {"config": {"optimizer": {"lr": -1}}}}), "recipes.a.config.optimizer.lr", "must be"),
        (tree(recipes={"a": {"config": {"batchsize": 1}}}), "recipes.a.config.batchsize", "did you mean `batch_size`?"),
        (tree(recipes={"a": {"config": {"epochs": 1}}}), "recipes.a.config.epochs", "set budget.epochs"),
        (tree(recipes={"a": {"config": {"data": {"source": "cifar10"}}}}), "recipes.a.config.data.source", "must be"),
        (tree(fixed={"a b": 1}), "fixed.a b", "must be a dotted path"),
        (tree(fixed={1: 1}), "fixed.1", "must be a valid string"),
        (tree(fixed={f"k{i}": 1 for i in range(20_000)}), "", "must not hold more than 3,000 values"),
        (tree(fixed={"optimizer": {"lr": 1}}), "fixed.optimizer", "must be a scalar or a list"),
        (tree(fixed={"optimizer.lrr": 1}), "fixed.optimizer.lrr", "did you mean `optimizer.lr`?"),
        (tree(fixed={"zzz.qqq": 1}), "fixed.zzz.qqq", "unknown key, valid keys: augment, batch_size"),
        (tree(fixed={"optimizer.lr": -1}), "fixed.optimizer.lr", "must be greater than 0"),
        (tree(fixed={"execution.threads": 1}), "fixed.execution.threads", "set it under trial"),
        (tree(fixed={"data.normalize": "auto", "data.normalize.mean": [1]}), "fixed.data.normalize", "lies below it"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(raw: object, path: str, rule: str) -> None:
    found = problems_of(raw)
    assert [where for where, _ in found] == [path]
    assert rule in found[0][1]


def test_all_mistakes_are_reported_at_once() -> None:
    raw = tree(
        seed=-1, budget__trials=0, trial__optimizer={"kind": "sgd", "lrr": 1}, fixed={"optimizer.foo": 2},
        space={"batch_size": {"int": [9, 1]}, "optimizer": {"lr": {"float": [0, 1], "log": True}}},
        recipes={"a": {"config": {"batch_size": 0}}}, objective={"metric": "val_loss", "mode": "max"},
    )  # fmt: skip
    assert {path for path, _ in problems_of(raw)} == {
        "seed", "budget.trials", "trial.optimizer.lrr", "space.batch_size.int", "space.optimizer.lr.float",
        "recipes.a.config.batch_size", "objective.mode", "fixed.optimizer.foo",
    }  # fmt: skip


def test_a_mistake_in_the_space_hides_no_other_one() -> None:
    optimizer = {"lr": {"loguniform": [0.1, 1]}, "momentum": {"float": [0, 2]}, "momentm": {"float": [0, 1]}}
    raw = tree(
        trial__batch_size=0, space={"optimizer": optimizer, "batch_size": {"int": [0, 9]}}, seed=-1, recipes={},
        scheduler={"kind": "asha", "grace_period": 9},
    )  # fmt: skip
    assert {path for path, _ in problems_of(raw)} == {
        "seed", "trial.batch_size", "space.optimizer.lr", "space.optimizer.momentum", "space.optimizer.momentm",
        "space.batch_size", "scheduler.grace_period",
    }  # fmt: skip


@pytest.mark.parametrize("none", ["None", "null", "", None, False])
def test_nothing_in_other_words_is_the_keys_own(none: object) -> None:
    space = {"model": {"pretrained": {"choice": [none, "/a.pt"]}}, "batch_size": {"int": [1, 9]}}
    recipe = {"config": {"model": {"pretrained": none}, "augment": {"policy": none}}}
    spec = parse_study(tree(
        space=space, recipes={"r": recipe}, fixed={"regularization.patience": none}, budget__hours=none,
        trial__model__pretrained=none, scheduler={"kind": none},
    ))  # fmt: skip
    assert spec.trial["model"]["pretrained"] == "none"
    assert spec.space["model"]["pretrained"] == {"choice": ["none", "/a.pt"]}
    config = spec.trial_config(spec.recipes["r"].config)
    assert (config.model.pretrained, config.augment.policy, config.regularization.patience) == ("none", "none", None)
    assert (spec.scheduler.kind, spec.budget.hours) == ("none", None)


def test_mistakes_are_reported_in_the_order_of_the_file() -> None:
    raw = tree(
        space={"batch_size": {"int": [0, 9]}, "optimizer": {"lr": {"float": [0, 1]}}}, trial__augment={"flip": 1}
    )
    assert [path for path, _ in problems_of(raw)] == ["trial.augment.flip", "space.batch_size", "space.optimizer.lr"]


def test_a_name_that_looks_like_a_number_survives_writing() -> None:
    spec = parse_study(tree(study="1e5", description="- 3\n: x #"))
    assert parse_study(parse_yaml(spec.dump(), "study.yaml")) == spec


def test_a_mistake_in_the_trial_is_reported_once_and_not_for_every_recipe_and_draw() -> None:
    assert problems_of(tree(trial__batch_size=0)) == [("trial.batch_size", "must be greater than or equal to 1")]


def test_a_study_of_recipes_alone_needs_no_space() -> None:
    assert parse_study(tree(space={}, budget__trials=1)).parsed_space.domains() == {}


# --- loading


def test_an_unknown_study_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"did you mean `digits_resnet8`.*cifar10_resnet110, cifar10_resnet20"):
        load_study("digit_resnet8")
    with pytest.raises(ConfigError, match="unknown study, there are cifar10_resnet110"):
        load_study("")
    with pytest.raises(ConfigError, match=r"a path ending in \.yaml"):
        load_study("__init__")


def test_a_study_that_was_begun_is_named_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "study.yaml").write_text(yaml.safe_dump(SMALL))
    with pytest.raises(
        ConfigError, match=r"did you mean runs/mine/study\.yaml, which was begun here\? there are cifar10"
    ):
        load_study("mine")


def test_a_path_is_read_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = yaml.safe_dump(SMALL)
    for name in ("mine.yaml", "mine.yml", "mine"):
        (tmp_path / name).write_text(text)
        assert load_study(str(tmp_path / name)) == parse_study(SMALL)
    monkeypatch.chdir(tmp_path)
    assert load_study("mine.yaml") == load_study("./mine") == parse_study(SMALL)
    with pytest.raises(ConfigError, match="must be a readable YAML file"):
        load_study("other.yaml")
    for content in ("", "# nothing\n", "- 1\n", "just text"):
        (tmp_path / "mine.yaml").write_text(content)
        with pytest.raises(ConfigError, match=r"^mine\.yaml: must be a mapping with the keys of a study"):
            load_study("mine.yaml")


def test_hostile_yaml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("study: !!python/object/apply:os.system ['echo']\n")
    with pytest.raises(ConfigError, match="plain YAML"):
        load_study(str(tmp_path / "a.yaml"))


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    raw = tree(
        trial__data__source="imagefolder:images", trial__model__pretrained="a.pt",
        recipes={"r": {"config": {"model": {"pretrained": "~/b.pt"}}}}, fixed={"batch_size": 2},
        space__model={"pretrained": {"choice": {"none": {}, "sub/c.pt": {"frozen_stages": {"int": [0, 2]}}}}},
    )  # fmt: skip
    spec = parse_study(raw)
    assert spec.trial["data"]["source"] == f"imagefolder:{tmp_path}/images"
    assert spec.trial["model"]["pretrained"] == f"{tmp_path}/a.pt"
    assert spec.recipes["r"].config["model"]["pretrained"] == str(Path("~/b.pt").expanduser())
    assert list(spec.space["model"]["pretrained"]["choice"]) == ["none", f"{tmp_path}/sub/c.pt"]
    monkeypatch.chdir("/")
    assert parse_study(parse_yaml(spec.dump(), "study.yaml")) == spec


def test_a_study_reached_through_a_link_is_the_same_study(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "images")
    one, other = (
        parse_study(tree(trial__data__source=f"imagefolder:{tmp_path}/{name}")) for name in ("images", "link")
    )
    assert one == other
    assert request(one.trial_config({}).data) == request(other.trial_config({}).data)


def test_a_study_without_images_says_how_to_give_some() -> None:
    spec = load_study("imagefolder_resnet50")
    for use in (lambda: spec.trial_config({}), lambda: spec.locate({})):
        with pytest.raises(ConfigError, match="give --data imagefolder:PATH"):
            use()
    assert override(spec, data="imagefolder:/images").trial_config({}).data.source == "imagefolder:/images"
