from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from search.study.overrides import override, shortened_grace
from search.study.parse import load_study, parse_study, study_tree
from search.study.settings import ASHASettings, HyperbandSettings, NoSchedulerSettings, RandomSettings, TPESettings
from spaces import path_of, study_names
from spaces.space import value_at
from trainables.config import SGD, ConfigError, Step, merge, parse_yaml

DIGITS = load_study("digits_resnet8")


def problems_of(sets: list[str] | None = None, **options: Any) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        override(DIGITS, sets=sets or [], **options)
    return [(problem.path, problem.rule) for problem in caught.value.problems]


def test_nothing_given_changes_nothing() -> None:
    assert override(DIGITS) == DIGITS


def test_every_option_lands_where_it_belongs() -> None:
    spec = override(DIGITS, trials=3, epochs=27, hours=1.5, max_cost=20, prices=["0.4"], concurrent=2, cpus_per_trial=2,
        gpus_per_trial=0.25, seed=5, data="cifar10",
    )  # fmt: skip
    assert spec.budget.model_dump() == {"trials": 3, "epochs": 27, "hours": 1.5, "max_cost": 20}
    resources = spec.resources
    assert resources.prices == 0.4
    assert (resources.concurrent, resources.cpus_per_trial, resources.gpus_per_trial) == (2, 2, 0.25)
    config = spec.trial_config({})
    assert (config.seed, config.epochs, config.data.source) == (5, 27, "cifar10")
    assert DIGITS.budget.trials == 16


def test_options_are_laid_over_a_file_before_it_is_checked() -> None:
    for name in study_names():
        options: dict[str, Any] = {
            "data": "cifar10", "trials": 9, "sets": ["searcher.startup_trials=3", "objective.metric=val_loss"],
        }  # fmt: skip
        assert override(study_tree(name), **options) == override(load_study(name), **options)
    tree = merge(study_tree("digits_resnet8"), {"trial": {"augment": {"flip": True}}})
    with pytest.raises(ConfigError, match="must be false for digits"):
        override(tree, trials=9)
    assert override(tree, data="cifar10").trial_config({}).data.source == "cifar10"
    del tree["searcher"], tree["scheduler"]
    sets = ["scheduler.kind=hyperband", "scheduler.grace_period=2", "searcher.startup_trials=3"]
    spec = override(tree, data="cifar10", sets=sets)
    assert spec.scheduler == HyperbandSettings(grace_period=2)
    assert spec.searcher == TPESettings(startup_trials=3)
    for broken in ("trial", "scheduler", "fixed"):
        with pytest.raises(ConfigError, match=f"^{broken}: must be a valid dictionary"):
            override({**tree, broken: [1]}, data="cifar10", sets=sets)
    with pytest.raises(ConfigError, match="must be a mapping with the keys of a study"):
        override([1], trials=9)


def test_data_paths_are_taken_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert override(DIGITS, data="parquet:x").trial["data"]["source"] == f"parquet:{tmp_path}/x"
    spec = override(load_study("cifar10_resnet20"), sets=["model.pretrained=w.th"])
    for recipe in spec.recipes.values():
        assert spec.trial_config(recipe.config).model_dump()["model"]["pretrained"] == f"{tmp_path}/w.th"


def test_a_set_path_wins_everywhere_and_is_searched_no_more() -> None:
    spec = override(DIGITS, sets=["batch_size=16", "optimizer.weight_decay=0", "schedule.milestones=[0.3, 0.8]"])
    assert {"batch_size", "optimizer.weight_decay"} <= {path_of(key) for key in DIGITS.parsed_space.domains()}
    assert not {"batch_size", "optimizer.weight_decay"} & {path_of(key) for key in spec.parsed_space.domains()}
    he2015 = spec.trial_config(spec.recipes["he2015"].config)
    assert he2015.optimizer == SGD(lr=0.1)
    assert he2015.batch_size == 16
    assert he2015.schedule == Step(milestones=(0.3, 0.8))
    adamw = spec.trial_config({"optimizer": {"kind": "adamw", "weight_decay": 0.1}})
    assert adamw.optimizer.weight_decay == 0
    assert adamw.schedule.kind == "cosine"


def test_what_trials_share_goes_to_the_trial() -> None:
    spec = override(DIGITS, sets=["data.val_fraction=0.3", "execution.threads=2"])
    assert spec.fixed == {}
    assert (spec.trial["data"]["val_fraction"], spec.trial["execution"]["threads"]) == (0.3, 2)


def test_own_sections_can_be_set() -> None:
    spec = override(
        DIGITS, sets=["searcher.kind=random", "scheduler.kind=none", "budget.hours=2", "objective.metric=val_loss"]
    )
    assert (spec.searcher, spec.scheduler, spec.budget.hours) == (RandomSettings(), NoSchedulerSettings(), 2)
    assert (spec.objective.metric, spec.objective.mode) == ("val_loss", "min")
    assert override(DIGITS, sets=["searcher.startup_trials=3"]).searcher.model_dump()["startup_trials"] == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("5000", 5000), ("true", True), ("null", None), ("none", "none"), ("[1, 2]", [1, 2]),
        ("imagefolder:/x", "imagefolder:/x"), ("a=b", "a=b"), (" 3", 3),
    ],
)  # fmt: skip
def test_values_are_yaml(text: str, value: object) -> None:
    from search.study.overrides import _parsed

    assert list(_parsed([f"a.b={text}"], [])) == [("a.b", value)]


def test_prices_by_node_type_are_laid_over_those_of_the_study() -> None:
    by_type = override(DIGITS, prices=["ray.head.default=0.1", " gpu = 1e0"])
    assert by_type.resources.prices == {"ray.head.default": 0.1, "gpu": 1.0}
    assert override(by_type, prices=["gpu=0.5"]).resources.prices == {"ray.head.default": 0.1, "gpu": 0.5}
    assert override(by_type, prices=["0"]).resources.prices == 0
    assert override(by_type, sets=["resources.prices.gpu=2"]).resources.prices == {"ray.head.default": 0.1, "gpu": 2}
    assert parse_study(parse_yaml(by_type.dump(), "study.yaml")) == by_type


def test_overrides_add_up_and_are_written_down() -> None:
    spec = override(override(DIGITS, sets=["optimizer.lr=0.5"]), sets=["batch_size=8"], trials=4)
    assert spec.fixed == {"optimizer.lr": 0.5, "batch_size": 8}
    assert parse_study(parse_yaml(spec.dump(), "study.yaml")) == spec
    assert DIGITS.difference(spec) == ["fixed.optimizer.lr: (not set) -> 0.5", "fixed.batch_size: (not set) -> 8"]


@pytest.mark.parametrize(
    ("options", "path", "rule"),
    [
        ({"trials": 0}, "--trials", "must be greater than or equal to 1"),
        ({"epochs": -1}, "--epochs", "must be greater than or equal to 1"),
        ({"epochs": 1}, "scheduler.grace_period", "must be below budget.epochs (1), or nothing could be stopped; else"),
        ({"hours": 0.0}, "--hours", "must be greater than 0"),
        ({"hours": math.nan}, "--hours", "must be a finite number"),
        ({"max_cost": 5.0}, "--max-cost", "needs the nodes' prices an hour: --price 0.4 for each node"),
        ({"max_cost": 0.0, "prices": ["1"]}, "--max-cost", "must be greater than 0"),
        ({"max_cost": 5.0, "prices": ["cheap"]}, "--price", "must be a price an hour: 0.4 for each node"),
        ({"prices": ["gpu="]}, "--price", "must be a price an hour"),
        ({"prices": ["=3"]}, "--price", "must be a price an hour"),
        ({"prices": ["-1"]}, "--price", "must be greater than or equal to 0"),
        ({"prices": ["nan"]}, "--price", "must be"),
        ({"prices": ["gpu=-1", "head=1"]}, "--price.gpu", "must be greater than or equal to 0"),
        ({"prices": ["gpu=1", "gpu=2"]}, "--price", "must be given once for a node type"),
        ({"prices": ["1", "gpu=2"]}, "--price", "must be one price for each node, or one for each node type"),
        ({"sets": ["resources.prices=1"], "prices": ["2"]}, "--set resources.prices", "together with --price"),
        ({"concurrent": 0}, "--concurrent", "must be greater than or equal to 1"),
        ({"cpus_per_trial": -1.0}, "--cpus-per-trial", "must be greater than 0"),
        ({"gpus_per_trial": 1.5}, "--gpus-per-trial", "must be a whole number above 1"),
        ({"seed": -1}, "--seed", "must be from 0"),
        ({"data": "mnist"}, "--data", "must be one of cifar10"),
        ({"data": "imagefolder:"}, "--data", "must be one of cifar10"),
        ({"data": ""}, "--data", "must be one of cifar10"),
        ({"sets": ["optimizer.lr"]}, "--set", "must be PATH=VALUE"),
        ({"sets": ["=3"]}, "--set", "must be PATH=VALUE"),
        ({"sets": ["optimizer.lr="]}, "--set", "must be PATH=VALUE"),
        ({"sets": ["optimizer..lr=3"]}, "--set", "must be PATH=VALUE"),
        ({"sets": ["optimizer.lr=[1"]}, "--set optimizer.lr line 1", "is not plain YAML"),
        ({"sets": ["optimizer.lr=!!python/name:os.system"]}, "--set optimizer.lr line 1", "is not plain YAML"),
        ({"sets": ["optimizer.lr={a: 1}"]}, "--set optimizer.lr", "must be a scalar or a list"),
        ({"sets": ["optimizer.lr=1", "optimizer.lr=2"]}, "--set optimizer.lr", "must be given once"),
        ({"sets": ["optimizer.lr=fast"]}, "--set optimizer.lr", "must be a valid number"),
        ({"sets": ["optimizer.lr=-1"]}, "--set optimizer.lr", "must be greater than 0"),
        ({"sets": ["optimizer.lrr=1"]}, "--set optimizer.lrr", "did you mean `optimizer.lr`?"),
        ({"sets": ["optimiser.lr=1"]}, "--set optimiser.lr", "did you mean `optimizer.lr`?"),
        ({"sets": ["schedular.grace_period=1"]}, "--set schedular.grace_period", "mean `scheduler.grace_period`?"),
        ({"sets": ["recipes.naive=1"]}, "--set recipes.naive", "unknown key"),
        ({"sets": ["scheduler.grace=1"]}, "--set scheduler.grace", "did you mean `grace_period`?"),
        ({"sets": ["scheduler.kind=asher"]}, "--set scheduler.kind", "must be one of"),
        ({"sets": ["scheduler=asha"]}, "--set scheduler", "must be"),
        ({"sets": ["objective.mode=min"]}, "--set objective.mode", "must be max with val_accuracy"),
        ({"sets": ["epochs=3"]}, "--set epochs", "is the study's own: use --epochs"),
        ({"sets": ["seed=3"]}, "--set seed", "is the study's own: use --seed"),
        ({"sets": ["budget.trials=3"], "trials": 4}, "--set budget.trials", "must not be given together with --trials"),
        ({"sets": ["data.source=digits"], "data": "digits"}, "--set data.source", "must not be given together"),
        ({"sets": ["data=digits"]}, "--set data", "must be"),
        ({"sets": ["optimizer=sgd"]}, "--set optimizer", "must be"),
        ({"sets": ["augment.flip=true"]}, "trial.augment", "must be false for digits"),
        ({"sets": ["batch_size=32 # small"]}, "--set batch_size", "must hold no comment"),
        ({"sets": ["resources.gpus_per_trial=#2"]}, "--set resources.gpus_per_trial", "must hold no comment"),
        ({"sets": ["batch_size=2.5e0"]}, "--set batch_size", "must be a valid integer: digits alone"),
        ({"sets": ["batch_size=1e400"]}, "--set batch_size", "must be a valid integer"),
        ({"sets": ["batch_size=32,64"]}, "--set batch_size", "{choice: [32,64]}"),
        ({"sets": ["optimizer.lr=1,5"]}, "--set optimizer.lr", "write 1.5, with a point"),
        ({"sets": ["optimizer.lr=10%"]}, "--set optimizer.lr", "write 0.1"),
        ({"sets": ["optimizer.lr=inf"]}, "--set optimizer.lr", "must be a valid number: a finite one"),
        ({"sets": ["optimizer.kind=no"]}, "--set optimizer.kind", "must be one of 'sgd'"),
        ({"sets": ["optimizer.kind=sgd # the usual"]}, "--set optimizer.kind", "must be one of 'sgd'"),
        ({"sets": ["schedule.kind=step", "schedule.milestones=0.3,0.6"]}, "--set schedule.milestones", "[0.3,0.6]"),
        ({"sets": ["optimizer.lr=tune.loguniform(1e-4, 1e-1)"]}, "--set optimizer.lr", "{float: [1e-4, 1e-1], log"),
        ({"sets": ["batch_size=choice(32,64)"]}, "--set batch_size", "`space`: {choice: [32, 64]}"),
        ({"sets": ["batch_size={values: [32, 64]}"]}, "--set batch_size", "`space`: {choice: [32, 64]}"),
        ({"sets": ["batch_size={int: [32, 64]}"]}, "--set batch_size", "`space`: {int: [32, 64]}"),
        ({"sets": ["optimizer.kind=adam", "optimizer.momentum=0.9"]}, "--set optimizer.momentum", "is `beta1`"),
        ({"sets": ["optimizer.wd=1"]}, "--set optimizer.wd", "did you mean `optimizer.weight_decay`?"),
        ({"sets": ["lr=0.1"]}, "--set lr", "did you mean `optimizer.lr`?"),
        ({"sets": ["bs=32"]}, "--set bs", "did you mean `batch_size`?"),
        ({"sets": ["max_epochs=3"]}, "--set max_epochs", "did you mean `budget.epochs`?"),
        ({"sets": ["num_samples=3"]}, "--set num_samples", "did you mean `budget.trials`?"),
        ({"sets": ["gpus=1"]}, "--set gpus", "did you mean `resources.gpus_per_trial`?"),
        ({"sets": ["trial.optimizer.lr=1"]}, "--set trial.optimizer.lr", "did you mean `optimizer.lr`?"),
        ({"sets": ["scheduler.eta=3"]}, "--set scheduler.eta", "did you mean `scheduler.reduction_factor`?"),
        ({"sets": ["model.depth=9"]}, "--set model.depth", "must be 6n+2"),
        ({"sets": ["model.frozen_stages=1"]}, "--set model.frozen_stages", "must be 0 unless `pretrained`"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_by_its_option(options: dict[str, Any], path: str, rule: str) -> None:
    found = problems_of(**options)
    assert [where for where, _ in found] == [path]
    assert rule in found[0][1]


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("model.pretrained=/data/run #3/best.pt", "model.pretrained", "/data/run #3/best.pt"),
        ("model.pretrained=/data/a: b.pt", "model.pretrained", "/data/a: b.pt"),
        ("model.pretrained=/data/a=[b], {c} & *d!%@.pt", "model.pretrained", "/data/a=[b], {c} & *d!%@.pt"),
        ("model.pretrained='/data/run 3.pt'", "model.pretrained", "/data/run 3.pt"),
        ("model.pretrained=/data/064", "model.pretrained", "/data/064"),
        ("data.source=imagefolder:/data/birds #2", "data.source", "imagefolder:/data/birds #2"),
        ("model.pretrained=", "model.pretrained", "none"),
        ("model.pretrained=None", "model.pretrained", "none"),
        ("model.pretrained=off", "model.pretrained", "none"),
        ("augment.policy=null", "augment.policy", "none"),
        ("regularization.patience=None", "regularization.patience", None),
        ("data.resolution=null", "data.resolution", None),
        ("batch_size=064", "batch_size", 64),
        ("batch_size=0x10", "batch_size", 16),
        ("batch_size=1_000", "batch_size", 1000),
        ("batch_size=1e2", "batch_size", 100),
        ("batch_size=32.0", "batch_size", 32),
        ("data.train_samples=5e3", "data.train_samples", 5000),
        ("optimizer.lr=1e-3", "optimizer.lr", 0.001),
        ("optimizer.lr=.1", "optimizer.lr", 0.1),
        ("augment.flip=off", "augment.flip", False),
        ("optimizer.nesterov=yes", "optimizer.nesterov", True),
        ('augment.policy="none"', "augment.policy", "none"),
    ],
)
def test_a_value_means_what_its_key_says(text: str, path: str, value: object) -> None:
    found = value_at(override(DIGITS, sets=[text]).trial_config({}).model_dump(mode="json"), path)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("epochs", "grace"), [(81, 9), (200, 9), (40, 9), (28, 9), (27, 3), (20, 2), (9, 1), (4, 1), (2, 1)]
)
def test_fewer_epochs_shorten_a_grace_period_that_would_cost_rungs(epochs: int, grace: int) -> None:
    """81 epochs have rungs at 9 and 27; the study that is written down continues as it is."""
    tree = study_tree("cifar10_resnet110")
    spec = override(tree, epochs=epochs)
    assert isinstance(spec.scheduler, ASHASettings)
    assert spec.scheduler.grace_period == grace
    assert shortened_grace(tree, spec) == (None if grace == 9 else (9, grace))
    assert override(tree, sets=[f"budget.epochs={epochs}"]) == spec
    again = override(parse_yaml(spec.dump(), "study.yaml"), epochs=epochs)
    assert again == override(spec) == spec
    assert shortened_grace(spec, again) is None


def test_a_file_with_fewer_epochs_than_its_grace_period_is_told_what_fits() -> None:
    tree = study_tree("cifar10_resnet110")
    edited = tree | {"budget": {**tree["budget"], "epochs": 3}, "scheduler": {"kind": "asha", "grace_period": 3}}
    with pytest.raises(
        ConfigError, match="set it to 1, or leave the file as it was and give --epochs 3, which shortens it"
    ):
        override(edited)
    for spec in (override(edited, sets=["scheduler.grace_period=1"]), override(tree, epochs=3)):
        assert isinstance(spec.scheduler, ASHASettings)
        assert spec.scheduler.grace_period == 1


def test_a_grace_period_that_is_set_stays() -> None:
    tree = study_tree("cifar10_resnet110")
    spec = override(tree, epochs=12, sets=["scheduler.grace_period=4"])
    assert isinstance(spec.scheduler, ASHASettings)
    assert spec.scheduler.grace_period == 4
    with pytest.raises(ConfigError, match=r"grace_period: must be below budget.epochs \(9\)"):
        override(tree, epochs=9, sets=["scheduler.grace_period=9"])
    unstopped = override(tree, epochs=3, sets=["scheduler.kind=none"])
    assert unstopped.scheduler == NoSchedulerSettings()
    assert shortened_grace(tree, unstopped) is None
    assert override(tree, epochs=27, sets=["scheduler.kind=hyperband"]).scheduler == HyperbandSettings(grace_period=3)


def test_none_is_a_sections_word_too() -> None:
    spec = override(DIGITS, sets=["scheduler.kind=None", "budget.hours=none", "resources.prices=~"])
    assert (spec.scheduler, spec.budget.hours, spec.resources.prices) == (NoSchedulerSettings(), None, None)


def test_a_set_path_must_not_lie_above_an_option() -> None:
    assert ("--data", "must not be given together with --set data") in problems_of(["data=digits"], data="digits")


def test_all_mistakes_are_reported_at_once() -> None:
    found = problems_of(["optimizer.lr", "batch_size=0", "scheduler.grace=1"], trials=0, seed=-1)
    assert {path for path, _ in found} == {"--set", "--set batch_size", "--set scheduler.grace", "--trials", "--seed"}
