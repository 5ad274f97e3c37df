"""A search over networks of several origins, frozen at any depth, on real images: killed, continued and exported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from search.journal.events import SessionStarted
from search.journal.log import read
from tests.search.killed_search import begin, environment, result, run, written
from trainables.config import load_config, parse_config
from trainables.config.plugins import allow_plugins
from trainables.models import build_model
from trainables.models.networks import build_network
from trainables.models.protocol import stages

ROOT = Path(__file__).parents[2]
OWN = """
from torch import nn

def build(num_classes):
    net = nn.Sequential()
    for number, (inputs, outputs) in enumerate([(3, 8), (8, 16)]):
        net.add_module(f"stage{number}", nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, 2, 1), nn.BatchNorm2d(outputs), nn.ReLU()))
    net.add_module("pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    net.add_module("last", nn.Linear(16, num_classes))
    return net

build.stages = lambda net: [[net.stage0], [net.stage1]]
build.head = lambda net: net.last
"""
NETWORKS: dict[str, dict[str, Any]] = {
    "test_resnet": {"kind": "timm", "name": "test_resnet", "small_images": True},
    "resnet10t": {"kind": "timm", "name": "resnet10t", "small_images": True},
    "resnet18d": {"kind": "timm", "name": "resnet18d", "small_images": True},
    "wrn": {"kind": "wide_resnet", "depth": 10, "width": 1},
    "own": {"kind": "own_networks:build"},
}


@pytest.fixture
def own_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package `own_networks`, importable in this process and in those of a search."""
    (tmp_path / "own_networks.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    allow_plugins(["own_networks"])


def study(folder: Path, images: Path) -> dict[str, Any]:
    """Each network with weights of its own to start from, as a recipe too, so that each is trained."""
    weights = {}
    for name, network in NETWORKS.items():
        weights[name] = str(folder / f"{name}.pt")
        torch.save(build_network(parse_config({"model": network}).model, 10).state_dict(), weights[name])
    timms = {name: {"pretrained": weights[name]} for name, network in NETWORKS.items() if network["kind"] == "timm"}
    kinds = {
        "timm": {
            "name": {"choice": timms}, "small_images": True,
            "frozen_stages": {"int": [0, 5]}, "drop_path": {"float": [0.0, 0.3]},
        },
        "wide_resnet": {"depth": 10, "width": 1, "frozen_stages": {"int": [0, 4]}, "pretrained": weights["wrn"]},
        "own_networks:build": {"frozen_stages": {"int": [0, 2]}, "pretrained": weights["own"]},
    }  # fmt: skip
    recipes = {
        name: {"config": {"model": {**network, "pretrained": weights[name], "frozen_stages": 1}}}
        for name, network in NETWORKS.items()
    }
    return {
        "study": "killed", "space": {"model": {"kind": {"choice": kinds}}}, "recipes": recipes,
        "trial": {
            "data": {"source": f"parquet:{images}", "train_samples": 64, "val_samples": 50, "train_eval_samples": 32},
            "optimizer": {"kind": "sgd", "lr": 0.05, "backbone_lr_ratio": 0.3}, "batch_size": 16,
        },
        "searcher": {"kind": "tpe", "startup_trials": 4},
        "scheduler": {"kind": "asha", "grace_period": 1, "reduction_factor": 3}, "budget": {"trials": 8, "epochs": 3},
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("own_networks")
def test_networks_of_every_origin_are_searched_killed_continued_and_exported(tmp_path: Path, data_dir: Path) -> None:
    path = written(study(tmp_path, data_dir / "cifar10_jpeg"), tmp_path / "study")
    options = ("--plugin", "own_networks", "--concurrent", "1")
    process = begin(path, tmp_path / "runs", 8, *options)
    assert process.poll() is None, "the search was over before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    run(path, tmp_path / "runs", *options)

    found = result(tmp_path / "runs")
    sessions = [e for e in read(tmp_path / "runs" / "killed" / "journal") if isinstance(e, SessionStarted)]
    assert len(sessions) == 2
    assert [record.number for record in found.trials] == list(range(8))
    assert all(record.status.ended and not record.failures for record in found.trials)
    trained = {(record.config["model"]["kind"], record.config["model"].get("name")) for record in found.trials}
    assert trained >= {(network["kind"], network.get("name")) for network in NETWORKS.values()}
    assert len({record.config["model"]["frozen_stages"] for record in found.trials}) > 1

    exported = tmp_path / "best.yaml"
    command = [sys.executable, "-m", "search.export", tmp_path / "runs" / "killed", "--plugin", "own_networks"]
    subprocess.run([*command, "--to", exported], env=environment(), check=True, timeout=240)
    best = load_config(exported)
    assert len(stages(build_model(best.model, 10))) >= best.model.frozen_stages
