"""Batches of one image that batch norm cannot train on are refused before anything starts, wherever they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.planning.batches import check_batches
from search.study.parse import parse_study
from trainables.config import ConfigError

RESNET = {"model": {"kind": "torchvision_resnet", "depth": 18}, "data": {"source": "digits", "resolution": 32}}
LR = {"optimizer": {"lr": {"float": [0.1, 1.0]}}}


def check(tmp_path: Path, trial: Any, space: Any, recipes: Any = None) -> None:
    tree = {"study": "one", "trial": trial, "space": space, "recipes": recipes or {}, "scheduler": {"kind": "none"},
            "budget": {"trials": 4, "epochs": 1}}  # fmt: skip
    check_batches(parse_study(tree), tmp_path)


def trial(batch_size: int = 1, **changes: Any) -> dict[str, Any]:
    return {**RESNET, "batch_size": batch_size, **changes}


MODEL, DATA = RESNET["model"], RESNET["data"]
KINDS = {"cifar_resnet": {}, "torchvision_resnet": {"depth": {"choice": [18, 34]}}}
BATCH = {"batch_size": {"choice": [8, 1]}}
RESOLUTION, NORM = {"choice": [64, 128, 32, 96]}, {"choice": ["group", "batch"]}


@pytest.mark.parametrize(
    ("given", "space", "recipes", "path", "words"),
    [
        (trial(), LR, {}, "batch_size", "(the trial defaults)"),
        (trial(64, data={**DATA, "train_samples": 1}), LR, {}, "data.train_samples", "(the trial defaults)"),
        (trial(64), LR, {"tiny": {"config": {"batch_size": 1}}}, "batch_size", "(recipe tiny)"),
        (trial(64), {"batch_size": {"int": [1, 64]}}, {}, "batch_size", "(batch_size 1)"),
        (
            trial(64), {**BATCH, "data": {"resolution": RESOLUTION}, "model": {"norm": NORM}}, {},
            "batch_size", "(batch_size 1, data.resolution 32, model.norm batch)",
        ),
        (
            trial(64, model={}), {"model": {"kind": {"choice": KINDS}}, **BATCH}, {},
            "batch_size", "(model.kind torchvision_resnet, model.depth 18, batch_size 1)",
        ),
        (trial(model={**MODEL, "small_images": True}, data={"source": "digits"}), LR, {}, "batch_size", "above 8"),
        (trial(), LR, {}, "batch_size", "data.resolution above 32"),
    ],
)  # fmt: skip
def test_one_image_and_one_pixel(tmp_path: Path, given: Any, space: Any, recipes: Any, path: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(tmp_path, given, space, recipes)
    [problem] = caught.value.problems
    assert problem.path == path
    assert words in problem.rule
    assert "model.norm: group" in problem.rule


@pytest.mark.parametrize(
    "given",
    [
        trial(2), trial(model={**MODEL, "norm": "group"}), trial(model={**MODEL, "small_images": True}),
        trial(data={**DATA, "resolution": 33}), trial(model={"kind": "cifar_resnet"}),
        trial(model={"kind": "synthetic"}),
    ],
)  # fmt: skip
def test_what_trains_is_let_through(tmp_path: Path, given: Any) -> None:
    check(tmp_path, given, LR)
