from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mutations import check_clear
from trainables.config import (
    ConfigError,
    TrialConfig,
    dump_config,
    flatten,
    load_config,
    merge,
    parse_config,
    unflatten,
    with_source,
)


def problems(tree: Any) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(tree)
    return {problem.path: problem.rule for problem in caught.value.problems}


def test_every_mistake_is_reported_at_once() -> None:
    found = problems(
        {
            "optimizer": {"kind": "sgd", "momentun": 0.9, "lr": -1},
            "epochs": True,
            "model": {"kind": "cifar_resnet", "depth": 21},
            "bach_size": 3,
        }
    )
    assert found == {
        "model.depth": "must be 6n+2, for example 20 or 26",
        "optimizer.lr": "must be greater than 0",
        "optimizer.momentun": "unknown key, did you mean `momentum`?",
        "epochs": "must be a valid integer",
        "bach_size": "unknown key, did you mean `batch_size`?",
    }


def test_the_value_is_told_where_there_is_one() -> None:
    for tree, ending in (({"kind": "timm"}, "model.name: is required"), ({"kind": "timm", "name": None}, ", got None")):
        with pytest.raises(ConfigError) as caught:
            parse_config({"model": tree})
        assert str(pickle.loads(pickle.dumps(caught.value))).endswith(ending)


@pytest.mark.parametrize(
    ("tree", "path", "words"),
    [
        ({"optimizer": {"kind": "adamw", "momentum": 0.9}}, "optimizer.momentum", "unknown key"),
        ({"optimizer": {"kind": "sdg"}}, "optimizer.kind", "'sgd', 'adam', 'adamw', 'rmsprop'"),
        ({"schedule": {"gamma": 0.1}}, "schedule.kind", "'one_cycle'"),
        ({"optimizer": {"kind": "sgd", "momentum": 0.0, "nesterov": True}}, "optimizer.nesterov", "momentum is 0"),
        ({"schedule": {"kind": "step", "milestones": [0.7, 0.5]}}, "schedule.milestones", "increasing"),
        ({"model": {"kind": "cifar_resnet", "frozen_stages": 1}}, "model.frozen_stages", "pretrained"),
        ({"model": {"kind": "cifar_resnet", "pretrained": "w", "frozen_stages": 5}}, "model.frozen_stages", "most 4"),
        ({"model": {"kind": "torchvision_resnet", "depth": 20}}, "model.depth", "18, 34, 50, 101 or 152"),
        ({"model": {"kind": "cifar_resnet", "pretrained": "torchvision:V2"}}, "model.pretrained", "path"),
        ({"data": {"source": "digits"}, "augment": {"flip": True}}, "augment", "mirrored digit"),
        ({"data": {"source": "parquet"}}, "data.source", "parquet:PATH"),
        ({"data": {"normalize": {"mean": [0, 0, 0], "std": [1, 0, 1]}}}, "data.normalize.std.1", "greater than 0"),
        ({"data": {"folds": 1}}, "data.folds", "greater than or equal to 2"),
        ({"data": {"folds": 5, "fold": 5}}, "data.fold", "below `data.folds`, 5: folds are counted from 0"),
        ({"data": {"fold": 1}}, "data.fold", "must be 0 unless `data.folds` is set"),
        ({"data": {"repeat": 1}}, "data.repeat", "must be 0 unless `data.folds` is set"),
        ({"data": {"n_splits": 5}}, "data.n_splits", "did you mean `data.folds`?"),
        ({"augment": {"pad_crop": 0.1, "resized_crop": 0.5}}, "augment.resized_crop", "one of the two crops"),
        ({"optimizer": {"kind": "sgd", "lr": float("nan")}}, "optimizer.lr", "finite"),
        ({"optimizer": {"kind": "sgd", "lr": "0.1"}}, "optimizer.lr", "number"),
        ({"optimizer": 3}, "optimizer", "dictionary"),
        ({"optimizer": "sgd"}, "optimizer", "{kind: sgd}, one of 'sgd', 'adam'"),
        ({"optimizer": {"kind": "adam", "betas": [0.9, 0.99]}}, "optimizer.betas", "`optimizer.beta1` and"),
        (
            {"optimizer": {"kind": "sgd", "beta2": 0.9}},
            "optimizer.beta2",
            "with kind sgd: adam, adamw, nadamw, lamb and lion have it",
        ),
        ({"schedule": {"kind": "cosine", "gamma": 0.1}}, "schedule.gamma", "with kind cosine: step has it"),
        ({"model": {"kind": "cifar_resnet", "lr": 1}}, "model.lr", "did you mean `optimizer.lr`?"),
        ({"image_size": 32}, "image_size", "did you mean `data.resolution`?"),
        ({"schedule": {"kind": "step", "milestones": "0.3, 0.6"}}, "schedule.milestones", "brackets, [0.3, 0.6]"),
        ({"schedule": {"kind": "step", "milestones": "(0.3, 0.6)"}}, "schedule.milestones", "brackets, [0.3, 0.6]"),
        ({"batch_size": "064"}, "batch_size", "write 64, without quotes"),
        ({"batch_size": 1e3}, "batch_size", "digits alone"),
        ({"augment": {"mixup": None}}, "augment.mixup", "0 leaves it out"),
        ({"augment": {"policy": False}}, "augment.policy", "'none' for none"),
        ({"augment": {"flip": "yes"}}, "augment.flip", "true or false"),
        ({"regularization": {"clip_norm": "None"}}, "regularization.clip_norm", "null for none"),
        ({"model": {"kind": "cifar_resnet", "pretrained": None}}, "model.pretrained", "'none' for none"),
        ({"model": {"kind": "cifar_resnet", "pretrained": "None"}}, "model.pretrained", "'none' for no weights"),
        ({"data": {"source": 64}}, "data.source", "text in quotes, '64'"),
        ({True: 1}, "1", "put it in quotes"),
        ([1], "", "dictionary"),
    ],
)
def test_a_mistake_names_path_and_rule(tree: Any, path: str, words: str) -> None:
    found = problems(tree)
    assert words in found[path]


def test_what_belongs_to_another_optimizer_is_replaced() -> None:
    base = TrialConfig().model_dump(mode="json")
    config = parse_config(merge(base, {"optimizer": {"kind": "adamw", "lr": 1e-3}}))
    assert config.optimizer.kind == "adamw"
    assert "optimizer.momentum" not in flatten(config.model_dump())


def test_keys_that_were_added_later_are_dumped_where_they_are_set() -> None:
    folds = {"folds": 5, "fold": 2, "repeat": 1}
    assert not folds.keys() & parse_config({}).model_dump(mode="json")["data"].keys()
    dumped = parse_config({"data": folds}).model_dump(mode="json")
    assert folds.items() <= dumped["data"].items()
    assert parse_config(dumped) == parse_config({"data": folds})


def test_what_is_said_of_the_images_is_not_said_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = {"source": "parquet:a", "columns": {"label": "y"}, "group_by": "patient", "exclude": "a.txt", "folds": 5}
    config = parse_config({"data": data, "epochs": 3})
    same = with_source(config, f"parquet:{tmp_path / 'a'}")
    assert same.data == config.data.model_copy(update={"source": f"parquet:{tmp_path / 'a'}"})
    for other in ("parquet:b", "digits"):
        assert with_source(config, other) == parse_config({"data": {"source": other, "folds": 5}, "epochs": 3})
    with pytest.raises(ConfigError, match=r"data\.source: must be one of"):
        with_source(config, "nothing")


@pytest.mark.parametrize("depth", [8, 20, 110, 1202])
def test_yaml_round_trip(tmp_path: Path, depth: int) -> None:
    config = parse_config({"model": {"kind": "cifar_resnet", "depth": depth}, "schedule": {"kind": "step"}})
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config))
    assert load_config(path) == config
    path.write_text(yaml.safe_dump({"config": config.model_dump(mode="json"), "provenance": {"trial": 3}}))
    assert load_config(path) == config


trees = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kind", "model", "optimizer", "lr", "sgd", "data", "x", ""]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(trees)
def test_any_tree_gives_a_config_or_a_config_error(tree: Any) -> None:
    try:
        config = parse_config(tree)
    except ConfigError:
        return
    assert parse_config(config.model_dump(mode="json")) == config


def test_unflatten_is_the_inverse_of_flatten() -> None:
    tree = {"a": {"b": 1, "c": {"d": "x"}}, "e": None}
    assert unflatten(flatten(tree)) == tree
    with pytest.raises(ValueError, match="already holds"):
        unflatten({"a": 1, "a.b": 2})
    with pytest.raises(ValueError, match="keys below it"):
        unflatten({"a.b": 2, "a": 1})


def test_a_message_can_be_shown_whatever_it_names() -> None:
    shared: list[Any] = [1]
    for _ in range(60):
        shared = [shared, shared]
    circle: dict[str, Any] = {}
    circle["model"] = circle
    for value in (
        shared,
        circle,
        {"epochs": shared},
        {"x" * 100_000: 1},
        {"\x1b[2J\n\ud800": 1},
        {"epochs": 1 << 10**6},
    ):
        with pytest.raises(ConfigError) as caught:
            parse_config(value)  # type: ignore[arg-type]
        check_clear(caught.value)
    with pytest.raises(ConfigError) as caught:
        parse_config({str(number): 1 for number in range(5000)})
    check_clear(caught.value)


def test_keys_that_were_added_later_are_left_out_of_dumps_unless_they_are_set() -> None:
    plain = parse_config({"schedule": {"kind": "one_cycle"}}).model_dump(mode="json")
    assert plain["schedule"] == {"kind": "one_cycle", "peak": 0.3, "initial_divisor": 25.0, "final_divisor": 1e4}
    cycled = parse_config({"schedule": {"kind": "one_cycle", "cycle_momentum": True, "base_momentum": 0.8}})
    assert parse_config(cycled.model_dump(mode="json")) == cycled
    rule = problems({"schedule": {"kind": "one_cycle", "max_momentum": 0.8}})["schedule.max_momentum"]
    assert rule == "must not be below base_momentum"
