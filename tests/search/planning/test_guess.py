from __future__ import annotations

from search.planning.guess import gflops_here, guessed_seconds
from search.study.overrides import override
from search.study.parse import load_study


def test_more_work_takes_longer() -> None:
    assert gflops_here(steps=2) > 0
    digits, resnet20, resnet110 = (
        guessed_seconds(load_study(name), 20.0) or 0.0
        for name in ("digits_resnet8", "cifar10_resnet20", "cifar10_resnet110")
    )
    assert 20 < digits < 600
    assert 100 * digits < resnet20 < resnet110
    assert guessed_seconds(load_study("cifar10_resnet20"), 200.0) < resnet20


def test_images_that_are_not_known_cannot_be_guessed() -> None:
    assert guessed_seconds(load_study("imagefolder_resnet50"), 20.0) is None


def test_a_proxy_makes_the_search_cheaper_and_not_the_refit() -> None:
    whole, deep = load_study("cifar10_resnet20"), guessed_seconds(load_study("cifar10_resnet20"), 20.0)
    proxied = override(whole, sets=["proxy.depth=8"])
    small = guessed_seconds(override(whole, sets=["model.depth=8"]), 20.0)
    found = guessed_seconds(proxied, 20.0)
    assert small is not None
    assert deep is not None
    assert found is not None
    assert small < found < deep
