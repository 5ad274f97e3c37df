"""What may be set of a network of one's own: the arguments of its class or function."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest

from trainables.config import ConfigError, parse_config
from trainables.config.arguments import arguments_of, called_with
from trainables.config.plugins import allow_plugins, checked_settings
from trainables.models.networks import build_network

NETWORKS = """
from __future__ import annotations
from typing import TYPE_CHECKING, Literal
from torch import nn
if TYPE_CHECKING:
    from somewhere import Thing

def made(num_classes, *given, **named):
    net = nn.Linear(1, num_classes)
    net.given, net.named = given, named
    return net

class Annotated(nn.Linear):
    def __init__(self, num_classes: int, *, stem: Literal["deep", "plain"] = "plain", drop: float = 0, depths: tuple[int, ...] = (2, 2)):
        super().__init__(1, num_classes)
        self.found = stem, drop, depths

def bare(num_classes=1000, width=32, rate=.5, deep=False, name="a", seed=None, depths=(2, 2), norm=nn.BatchNorm2d, _own=1):
    return made(num_classes, width, rate, deep, name, seed, depths, norm)

def unreadable(num_classes: int, thing: Thing = None, width: int = 8):
    return made(num_classes, thing, width)

def needing(num_classes, width: int):
    return made(num_classes, width)

def odd(
    num_classes, width: "channels of it" = 8, clip=float("inf"), kernel: int = (3, 3), nested=((1, 2), (3, 4)), cfg={},
    three: 3 = 3, copy=1, model_config=2, later: Nope.Never = None,
):
    return made(num_classes, width=width, clip=clip, kernel=kernel, nested=nested, cfg=cfg, copy=copy, config=model_config)

def other(classes, width=3): ...
def positional(num_classes, /): ...
"""  # noqa: E501


@pytest.fixture(autouse=True)
def networks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Any:
    folder = tmp_path_factory.mktemp("networks")
    (folder / "argued.py").write_text(NETWORKS)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "argued", raising=False)
    allow_plugins(["argued"])
    import argued  # type: ignore[import-not-found]

    return argued


def model(name: str, /, **settings: Any) -> Any:
    """As it is recorded, and read again."""
    first = parse_config({"model": {"kind": f"argued:{name}", "settings": settings}}).model
    again = parse_config({"model": first.model_dump(mode="json")}).model
    assert again == first
    return again


def test_annotations_are_followed_and_defaults_recorded() -> None:
    assert model("Annotated").settings == {"stem": "plain", "drop": 0, "depths": [2, 2]}
    network: Any = build_network(model("Annotated", drop=0.1, depths=[3, 4]), 5)
    assert (network.out_features, *network.found) == (5, "plain", 0.1, (3, 4))
    for settings, message in (
        ({"stem": "wide"}, r"settings\.stem: must be 'deep' or 'plain'"),
        ({"depths": 3}, r"settings\.depths"),
        ({"drup": 3}, r"settings\.drup: unknown key, did you mean `drop`"),
        ({"num_classes": 3}, r"must be without num_classes"),
    ):
        with pytest.raises(ConfigError, match=message):
            model("Annotated", **settings)


def test_without_annotations_the_defaults_say_the_type() -> None:
    recorded = {"width": 32, "rate": 0.5, "deep": False, "name": "a", "seed": None, "depths": [2, 2]}
    assert model("bare").settings == recorded
    network: Any = build_network(model("bare", width=0.5, seed=3, deep=True), 5)
    assert network.given[:6] == (0.5, 0.5, True, "a", 3, (2, 2))
    assert network.given[6].__name__ == "BatchNorm2d"
    for settings in ({"rate": "high"}, {"deep": 2}, {"name": 3}, {"norm": "group"}, {"_own": 2}):
        with pytest.raises(ConfigError, match=rf"settings\.{next(iter(settings))}"):
            model("bare", **settings)


def test_what_takes_any_argument_takes_any_setting(networks: Any) -> None:
    settings = checked_settings(arguments_of(networks.made), {"width": 3})
    assert called_with(settings, 7) == {"num_classes": 7, "width": 3}
    assert model("made", width=3, deep=True).settings == {"width": 3, "deep": True}


def test_odd_annotations_and_defaults_are_taken_as_they_are() -> None:
    recorded = {"width": 8, "kernel": [3, 3], "nested": [[1, 2], [3, 4]], "cfg": {}, "three": 3, "later": None}
    assert model("odd").settings == recorded
    network: Any = build_network(model("odd"), 5)
    assert network.named == {
        "width": 8, "clip": math.inf, "kernel": (3, 3), "nested": ((1, 2), (3, 4)), "cfg": {}, "copy": 1, "config": 2,
    }  # fmt: skip
    network = build_network(model("odd", width=4, cfg={"a": [1]}, kernel=[5]), 5)
    assert (network.named["width"], network.named["cfg"], network.named["kernel"]) == (4, {"a": [1]}, (5,))
    with pytest.raises(ConfigError, match=r"settings\.copy: unknown key"):
        model("odd", copy=2)


def test_annotations_that_only_type_checkers_read_and_arguments_without_default() -> None:
    assert model("unreadable", width=4).settings == {"thing": None, "width": 4}
    assert model("needing", width=4).settings == {"width": 4}
    with pytest.raises(
        ConfigError, match=r"settings: must have width, or .* return needing\(width=\.\.\., num_classes="
    ):
        model("needing")


@pytest.mark.parametrize("name", ["other", "positional"])
def test_what_takes_no_num_classes_is_refused_with_the_function_to_write(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"model\.kind: .*and {name} takes none: .*def build\(num_classes\): return"):
        model(name)
