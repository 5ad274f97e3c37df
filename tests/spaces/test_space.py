from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from spaces import (
    Choice,
    Domain,
    Entry,
    Fixed,
    Float,
    Int,
    Scalar,
    Space,
    check,
    conditions_of,
    locate,
    parse_space,
    path_of,
    read_study,
    space_tree,
    study_names,
    walk,
)
from tests.mutations import mutated, read_or_refused
from trainables.config import ConfigError, merge

SGD = {"lr": {"float": [1e-3, 1.0], "log": True}, "momentum": {"float": [0.5, 0.9], "step": 0.1}, "nesterov": True}
NESTED = {
    "optimizer": {"kind": {"choice": {"sgd": SGD, "adam": {}, "adamw": {"lr": {"float": [1e-4, 0.1], "log": True}}}}},
    "batch_size": {"int": [32, 128], "step": 32},
    "schedule": {"milestones": [0.3, 0.6]},
    "data": {"resolution": {"choice": [None, 64]}},
}


def drawn(values: dict[str, Scalar]) -> Callable[[str, Domain], Scalar]:
    return lambda key, domain: values[key]


def lowest(key: str, domain: Domain) -> Scalar:
    return domain.options[0] if isinstance(domain, Choice) else domain.low


def problems_of(tree: object) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        parse_space(tree)
    return [(problem.path, problem.rule) for problem in caught.value.problems]


# --- grammar


def test_every_leaf_is_read() -> None:
    space = parse_space(NESTED)
    assert space.domains() == {
        "optimizer.kind": space.entries[0].domain,
        "optimizer.kind=sgd/optimizer.lr": Float(1e-3, 1.0, log=True),
        "optimizer.kind=sgd/optimizer.momentum": Float(0.5, 0.9, step=0.1),
        "optimizer.kind=adamw/optimizer.lr": Float(1e-4, 0.1, log=True),
        "batch_size": Int(32, 128, step=32),
        "data.resolution": Choice((None, 64)),
    }
    assert Entry("schedule.milestones", Fixed((0.3, 0.6))) in space.entries


def test_a_walk_gives_values_by_key_and_a_tree_to_merge() -> None:
    values: dict[str, Scalar] = {
        "optimizer.kind": "sgd", "optimizer.kind=sgd/optimizer.lr": 0.1, "optimizer.kind=sgd/optimizer.momentum": 0.8,
        "batch_size": 64, "data.resolution": None,
    }  # fmt: skip
    point = walk(parse_space(NESTED), drawn(values))
    assert point.values == values
    assert point.tree == {
        "optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.8, "nesterov": True},
        "batch_size": 64, "schedule": {"milestones": [0.3, 0.6]}, "data": {"resolution": None},
    }  # fmt: skip


def test_only_the_chosen_branch_is_drawn() -> None:
    asked = []

    def draw(key: str, domain: Domain) -> Scalar:
        asked.append(key)
        return "adam" if key == "optimizer.kind" else lowest(key, domain)

    assert walk(parse_space(NESTED), draw).tree["optimizer"] == {"kind": "adam"}
    assert asked == ["optimizer.kind", "batch_size", "data.resolution"]


def test_choices_nest_and_their_keys_say_so() -> None:
    inner = {"choice": {True: {"x": {"int": [1, 3]}}, False: None}}
    space = parse_space({"a": {"kind": {"choice": {"p": {"b": inner}, "q": {}}}}})
    assert list(space.domains()) == ["a.kind", "a.kind=p/a.b", "a.kind=p/a.b=true/a.x"]
    assert [dict(p.when) for p in space.parameters()] == [{}, {"a.kind": "p"}, {"a.kind": "p", "a.kind=p/a.b": True}]


def test_the_path_of_a_key_survives_a_path_as_option() -> None:
    space = parse_space({"model": {"pretrained": {"choice": {"/a/b=c.pt": {"frozen_stages": {"int": [0, 2]}}}}}})
    assert [path_of(key) for key in space.domains()] == ["model.pretrained", "model.frozen_stages"]
    *_, key = space.domains()
    assert [f"{condition}/model.frozen_stages" for condition in conditions_of(key)] == [key]
    assert conditions_of("model.kind=a/optimizer.kind=sgd/optimizer.lr") == ["model.kind=a", "optimizer.kind=sgd"]
    assert conditions_of("batch_size") == []


LR = "optimizer.lr"


@pytest.mark.parametrize(
    ("leaf", "path", "rule"),
    [
        ({"float": [1.0, 0.1]}, f"{LR}.float", "low must be below high"),
        ({"float": [0.0, 0.1], "log": True}, f"{LR}.float", "low must be above 0 with log"),
        ({"float": [0.1, 1.0], "log": True, "step": 0.1}, f"{LR}.step", "must be left out with log"),
        ({"float": [math.nan, 1.0]}, f"{LR}.float", "low must be a finite number"),
        ({"float": [0.0, math.inf]}, f"{LR}.float", "high must be a finite number"),
        ({"float": [-1.7e308, 1.7e308]}, f"{LR}.float", "high - low must be finite"),
        ({"float": [False, 1]}, f"{LR}.float", "low must be a finite number"),
        ({"float": [0.1]}, f"{LR}.float", "must be [low, high]"),
        ({"float": [0, 1], "step": math.nan}, f"{LR}.step", "above 0"),
        ({"float": [0, 1], "step": 0.3}, f"{LR}.step", "must divide high - low, as it does with high 0.9"),
        ({"float": [0.1, 1], "log": "yes"}, f"{LR}.log", "must be true or false"),
        ({"int": [1.5, 3]}, f"{LR}.int", "low must be an integer"),
        ({"int": [1, 2**60]}, f"{LR}.int", "high must be an integer within +-2**53"),
        ({"int": [1, 4], "step": 2}, f"{LR}.step", "must divide high - low, as it does with high 3"),
        ({"float": [0, 1], "lgo": True}, f"{LR}.lgo", "did you mean `log`?"),
        ({"choice": [1, 2], "log": True}, f"{LR}.log", "unknown key"),
        ({"float": [0, 1], "int": [0, 1]}, LR, "must be one of float, int, choice, not several"),
        ({"flaot": [0, 1]}, LR, "unknown key `flaot`, did you mean `float`?"),
        ({"log": True}, LR, "must say what is searched"),
        ({"loguniform": [1e-4, 0.1]}, LR, "write {float: [0.0001, 0.1], log: true}; what is searched is one of float"),
        ({"grid": [32, 64]}, LR, "write {choice: [32, 64]}"),
        ({"_type": "loguniform", "_value": [0.001, 0.1]}, LR, "write {float: [0.001, 0.1], log: true}"),
        ({"lower_bound": 1, "upper_bound": 8}, LR, "write {int: [1, 8]}"),
        ({"grid_search": [32, 64]}, LR, "write {choice: [32, 64]}"),
        ({"randint": [1, 8]}, LR, "write {int: [1, 8]}"),
        ({"uniform": {"lower": 0.1, "upper": 1}}, LR, "write {float: [0.1, 1]}"),
        ({"distribution": "log_uniform_values", "min": 0.1, "max": 1}, LR, "write {float: [0.1, 1], log: true}"),
        ({"log_uniform": {"min": -5, "max": 0}}, LR, "write {float: [LOW, HIGH], log: true}"),
        ({"values": ["a", "b"]}, LR, "write {choice: [a, b]}"),
        ({"value": 3}, LR, "write 3"),
        ({"low": 1, "high": 8, "log": True}, LR, "write {int: [1, 8], log: true}"),
        ({"type": "float", "bounds": [0, 1]}, LR, "write {float: [0, 1]}"),
        ({"Float": [0, 1]}, LR, "write {float: [0, 1]}"),
        ("tune.loguniform(1e-4, 1e-1)", LR, "write {float: [1e-4, 1e-1], log: true}"),
        ("trial.suggest_float('lr', 1e-5, 1e-1, log=True)", LR, "write {float: [1e-5, 1e-1], log: true}"),
        ("tag(log, interval(0.001, 1))", LR, "write {float: [0.001, 1], log: true}"),
        ("range(1,5)", LR, "write {int: [1, 5]}"),
        ({"float": [0, 1], "q": 0.1}, f"{LR}.q", "did you mean `step`?"),
        ({"choice": []}, f"{LR}.choice", "must hold at least one option"),
        ({"choice": "sgd"}, f"{LR}.choice", "must be a list of options"),
        ({"choice": [1, True]}, f"{LR}.choice", "must differ"),
        ({"choice": [1, "1"]}, f"{LR}.choice", "must differ"),
        ({"choice": [[1, 2]]}, f"{LR}.choice", "must be a scalar"),
        ({"choice": {"a": 3}}, f"{LR}=a/optimizer", "must be a mapping"),
        ({"choice": {"a": {"lr": 3}}}, f"{LR}=a/optimizer.lr", "must be set once, `optimizer.lr` sets it too"),
        ({"choice": [1, 2], "requires": "a b"}, f"{LR}.requires", "must be a path"),
        ({}, LR, "must hold a range, a choice or a value"),
        ([{"a": 1}], LR, "must be a range, a choice, a scalar or a list of scalars"),
        (math.inf, LR, "must be finite"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(leaf: object, path: str, rule: str) -> None:
    [(found, said)] = problems_of({"optimizer": {"lr": leaf}})
    assert found == path
    assert rule in said


def test_shapes_and_sizes_that_are_no_space_are_named() -> None:
    assert problems_of([1]) == [("", "must be a mapping on the tree of TrialConfig")]
    for tree in ({"a.b": 1}, {3: 1}, {"b=c/d": 1}):
        assert problems_of(tree) == [("", "must be a plain key: write `a: {b: ...}` for a.b")]
    for key in ("parameters", "param_space", "space"):
        [(path, rule)] = problems_of({key: {"lr": {"values": [1, 2]}}})
        assert (path, "must be left out" in rule) == (key, True)
    parse_space({"model": {"settings": {"range": {"int": [1, 3]}, "value": 3}}})
    many = {f"k{i}": {"int": [1, 2]} for i in range(30_000)}
    assert problems_of({"a": many}) == [("", "must not hold more than 300 entries")]
    deep: dict[str, Any] = {"a": 1}
    for _ in range(300):
        deep = {"a": deep}
    [(_, rule)] = problems_of(deep)
    assert "nested" in rule


def test_all_mistakes_are_reported_at_once() -> None:
    branch = {"lr": {"float": [1, 0]}, "momentum": {"float": [0, 1], "stepp": 1}}
    tree = {"a": {"int": [3, 1]}, "optimizer": {"kind": {"choice": {"sgd": branch}}}, "c": {"choice": []}}
    assert [path for path, _ in problems_of(tree)] == [
        "a.int", "optimizer.kind=sgd/optimizer.lr.float", "optimizer.kind=sgd/optimizer.momentum.stepp", "c.choice",
    ]  # fmt: skip


def test_a_path_may_be_set_once_only_but_in_branches_of_one_choice() -> None:
    lr = {"lr": {"float": [0, 1]}}
    assert problems_of({"o": {"kind": {"choice": {"a": lr, "b": lr}}, **lr}}) == [
        ("o.kind=a/o.lr", "must be set once, `o.lr` sets it too"),
        ("o.kind=b/o.lr", "must be set once, `o.lr` sets it too"),
    ]
    two = {"o": {"k": {"choice": {"a": lr, "b": {}}}, "m": {"choice": {"c": {}, "d": lr}}}}
    assert problems_of(two) == [("o.m=d/o.lr", "must be set once, `o.k=a/o.lr` sets it too")]
    above = {"o": {"k": {"choice": {"a": {"p": {"q": 1}}, "b": {}}}, "p": 3}}
    assert problems_of(above) == [("o.k=a/o.p.q", "must be set once, `o.p` sets it too")]
    parse_space({"o": {"kind": {"choice": {"a": lr, "b": lr}}}})


# --- domains


def test_a_choice_has_a_branch_for_each_option() -> None:
    with pytest.raises(ConfigError, match="must be 2 branches"):
        Choice((1, 2), (Space(),))


@pytest.mark.parametrize(
    ("domain", "inside", "outside"),
    [
        (Float(0, 1), [0, 0.5, 1, np.float64(0.3), np.float32(0.5)], [-0.1, 1.1, math.nan, True, "0.5", None]),
        (Float(0.1, 0.5, step=0.1), [0.1, 0.1 + 0.1 + 0.1, 0.5], [0.0, 0.15, 0.6]),
        (Int(2, 8, step=3), [2, 5, 8, np.int64(5)], [1, 3, 11, 5.0, True, "5"]),
        (Choice((1, "a", None, False)), [1, 1.0, "a", None, False], [True, 0, "b", [1]]),
    ],
)
def test_membership(domain: Domain, inside: list[Any], outside: list[Any]) -> None:
    assert all(domain.contains(value) for value in inside)
    assert not any(domain.contains(value) for value in outside)


def test_values_off_their_step_by_rounding_are_put_on_it() -> None:
    assert 3 * 0.1 != 0.3
    assert Float(0.0, 0.3, step=0.1).canonical(3 * 0.1) == 0.3
    assert type(Int(1, 3).canonical(np.int64(2))) is int  # type: ignore[arg-type]


# --- walk, check, locate


def test_a_walk_refuses_a_value_outside() -> None:
    with pytest.raises(ValueError, match="batch_size: 33 is not in"):
        walk(parse_space({"batch_size": {"int": [32, 128], "step": 32}}), lambda *_: 33)


def test_check_names_what_is_missing_outside_and_unknown() -> None:
    values = {"optimizer.kind": "adamw", "optimizer.kind=sgd/optimizer.lr": 0.1, "batch_size": 33}
    found = {problem.path: problem.rule for problem in check(parse_space(NESTED), values)}
    assert found == {
        "optimizer.kind=adamw/optimizer.lr": "is required",
        "batch_size": "must be in 32 to 128, step 32",
        "data.resolution": "is required",
        "optimizer.kind=sgd/optimizer.lr": "is not searched here, did you mean `optimizer.kind=adamw/optimizer.lr`?",
    }


def test_locate_finds_what_the_space_can_make_and_nothing_else() -> None:
    space = parse_space(NESTED)
    config = {
        "optimizer": {"kind": "sgd", "lr": 0.01, "momentum": 0.1 * 6, "nesterov": True, "eps": 1.0},
        "batch_size": 96, "schedule": {"milestones": (0.3, 0.6)}, "data": {"resolution": 64, "source": "digits"},
    }  # fmt: skip
    assert locate(space, config) == {
        "optimizer.kind": "sgd", "optimizer.kind=sgd/optimizer.lr": 0.01, "optimizer.kind=sgd/optimizer.momentum": 0.6,
        "batch_size": 96, "data.resolution": 64,
    }  # fmt: skip
    for elsewhere in (
        {"optimizer": {"kind": "rmsprop"}}, {"optimizer": {"lr": 2.0}}, {"optimizer": {"momentum": 0.65}},
        {"optimizer": {"nesterov": False}}, {"optimizer": {"nesterov": 1}}, {"schedule": {"milestones": [0.3]}},
        {"batch_size": "64"}, {"data": None},
    ):  # fmt: skip
        assert locate(space, merge(config, elsewhere)) is None


@st.composite
def float_leaves(draw: st.DrawFn) -> dict[str, Any]:
    low = draw(st.floats(-1e6, 1e6, allow_subnormal=False))
    if draw(st.booleans()):
        step = draw(st.sampled_from([0.05, 0.1, 0.25, 1.0, 3.0]))
        low = draw(st.integers(-20, 20)) * 0.1
        return {"float": [low, low + draw(st.integers(1, 30)) * step], "step": step}
    if draw(st.booleans()):
        low = abs(low) + 1e-9
        return {"float": [low, low * draw(st.floats(1.001, 1e9))], "log": True}
    return {"float": [low, low + draw(st.floats(1.0, 1e6))]}


@st.composite
def int_leaves(draw: st.DrawFn) -> dict[str, Any]:
    low, steps, step = draw(st.integers(-1000, 1000)), draw(st.integers(1, 50)), draw(st.integers(1, 7))
    if draw(st.booleans()):
        return {"int": [abs(low) + 1, abs(low) + 1 + steps], "log": True}
    return {"int": [low, low + steps * step], "step": step}


OPTIONS = st.lists(st.sampled_from(["sgd", "adamw", "a/b=c", 1, 2.5, -3, False, None]), min_size=1, unique=True)


@st.composite
def spaces(draw: st.DrawFn) -> dict[str, Any]:
    """A raw space in which no path is set twice but in two branches of one choice."""

    def mapping(depth: int, start: int, kind_is_free: bool) -> tuple[dict[str, Any], int]:
        names = [f"k{start + i}" for i in range(draw(st.integers(1, 3)))]
        end = start + len(names)
        if kind_is_free and draw(st.booleans()):
            names[0] = "kind"  # which `merge` treats as the tag of a union
        tree = {}
        for name in names:
            tree[name], end = leaf(depth, end)
        return tree, end

    def leaf(depth: int, start: int) -> tuple[Any, int]:
        deeper = ["branches", "nested"] if depth < 2 else []
        form = draw(st.sampled_from(["float", "int", "choice", "fixed", *deeper]))
        if form == "nested":
            return mapping(depth + 1, start, True)
        if form == "branches":
            branches: dict[Scalar, Any] = {}
            ends = [start]
            for option in draw(OPTIONS):
                branches[option], end = mapping(depth + 1, start, False) if draw(st.booleans()) else ({}, start)
                ends.append(end)
            return {"choice": branches}, max(ends)
        if form == "choice":
            return {"choice": draw(OPTIONS)}, start
        fixed = st.sampled_from([1, 0.5, "x", True, None, [0.1, 0.2]])
        return draw({"float": float_leaves(), "int": int_leaves(), "fixed": fixed}[form]), start

    return mapping(0, 0, True)[0]


def any_value(data: st.DataObject) -> Callable[[str, Domain], Scalar]:
    def draw(key: str, domain: Domain) -> Scalar:
        if isinstance(domain, Choice):
            return data.draw(st.sampled_from(domain.options))
        if domain.step is None:
            return data.draw(st.floats(domain.low, domain.high))
        return domain.low + domain.step * data.draw(st.integers(0, round((domain.high - domain.low) / domain.step)))

    return draw


@for_all(spaces(), st.data())
def test_a_point_is_found_again_in_its_config(raw: dict[str, Any], data: st.DataObject) -> None:
    space = parse_space(raw)
    point, other = walk(space, any_value(data)), walk(space, any_value(data))
    assert check(space, point.values) == []
    assert walk(space, drawn(point.values)) == point
    assert locate(space, merge(merge({"other": 1}, other.tree), point.tree)) == point.values


@for_all(spaces())
def test_a_space_is_written_as_it_is_read(raw: dict[str, Any]) -> None:
    space = parse_space(raw)
    assert parse_space(space_tree(space)) == space


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["float", "int", "choice", "log", "step", "requires", "lr", "kind", "a.b"]) | st.integers(),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


SHIPPED = [read_study(name)["space"] for name in study_names()]


@for_all(ANYTHING | st.sampled_from(SHIPPED).flatmap(mutated))
def test_whatever_is_read_gives_a_space_or_a_clear_error(tree: object) -> None:
    space = read_or_refused(lambda: parse_space(tree))
    if space is not None:
        walk(space, lowest)
        assert parse_space(space_tree(space)) == space
