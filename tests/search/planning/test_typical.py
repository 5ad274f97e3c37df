"""Which trial is timed: the defaults, unless networks or sizes are searched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from search.planning.preflight import check_inputs
from search.planning.typical import typical
from search.study.parse import parse_study
from trainables.models.cost import forward_gflops

LR: dict[str, Any] = {"optimizer": {"lr": {"float": [0.01, 0.1], "log": True}}}


def chosen(tmp_path: Path, space: Mapping[str, Any]) -> tuple[Any, str]:
    trial = {"model": {"kind": "cifar_resnet", "depth": 56}, "data": {"source": "digits"}}
    budget = {"trials": 3, "epochs": 3}
    spec = parse_study({"study": "small", "trial": trial, "space": space, "budget": budget})
    return typical(spec, check_inputs(spec, tmp_path))


def test_the_defaults_where_the_network_is_not_searched(tmp_path: Path) -> None:
    config, name = chosen(tmp_path, LR)
    assert (config.model.depth, name) == (56, "the trial defaults")


def test_a_network_of_mean_work_where_it_is(tmp_path: Path) -> None:
    config, name = chosen(tmp_path, LR | {"model": {"depth": {"choice": [8, 14, 110]}}})
    assert (config.model.depth, name) == (14, config.model.label)  # nearest to the mean of 8, 14 and 110: about 44
    work = [forward_gflops(config.model.model_copy(update={"depth": depth}), 8) for depth in (8, 14, 110)]
    assert work == sorted(work)  # type: ignore[type-var]


def test_a_size_of_mean_work_where_it_is(tmp_path: Path) -> None:
    config, name = chosen(tmp_path, {"data": {"resolution": {"choice": [8, 24, 28]}}})
    assert config.data.resolution == pytest.approx(24)
    assert "56" in name
