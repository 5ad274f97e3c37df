"""Exported networks: what they compute, where they run, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.image_files import picture
from tests.trained_example import Example
from trainables.config import ConfigError, Normalization, parse_config
from trainables.data.decode import decode_square
from trainables.models import build_model
from trainables.prediction import formats
from trainables.prediction.folder import NETWORKS, export_model
from trainables.prediction.formats import FORMATS, FormatName, write_model
from trainables.prediction.predictor import Predictor
from trainables.prediction.preprocessing import Preprocessing
from trainables.prediction.trained import TrainedNetwork, open_checkpoint

NAMES: tuple[FormatName, ...] = ("weights", "pt2")  # of the others: tests/search/test_parity.py
# What a machine has where this package is not installed: an import of it fails.
ELSEWHERE = """
import importlib.util, json, sys
sys.modules.update(dict.fromkeys(("trainables", "search", "spaces")))
found = {}
for folder in sys.argv[1].split(":"):
    sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location("load", folder + "/load.py")
    spec.loader.exec_module(load := importlib.util.module_from_spec(spec))
    found[folder] = load.classify(sys.argv[2:])
print(json.dumps(found))
"""


def untrained(tree: dict[str, object], size: tuple[int, int], resolution: int | None, **more: object) -> TrainedNetwork:
    """A network with running statistics that mean something."""
    config = parse_config({"model": tree, "data": {"resolution": resolution}})
    torch.manual_seed(0)
    network = build_model(config.model, 3).train()
    with torch.no_grad():
        network(torch.randn(16, 3, 32, 32))
    normalization = Normalization(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    preprocessing = Preprocessing.model_validate(
        {"size": size, "normalization": normalization, "resolution": resolution, **more}
    )
    return TrainedNetwork(network.eval(), config, ("ant", "bee", "wasp"), preprocessing, 1, None)


def test_exports_give_validations_logits_here_and_where_this_package_is_not(example: Example, tmp_path: Path) -> None:
    trained = open_checkpoint(example.checkpoint)
    expected = example.logits.softmax(1).max(1)
    for name in NAMES:
        written = export_model(trained, name, tmp_path / name)
        assert [path.is_file() for path in written] == [True] * len(written)
        logits = torch.tensor([found.logits for found in Predictor.load(tmp_path / name)(example.files)])
        torch.testing.assert_close(logits, example.logits, rtol=0, atol=1e-4)
    folders = ":".join(str(tmp_path / name) for name in NAMES)
    command = [sys.executable, "-W", "ignore", "-c", ELSEWHERE, folders, *map(str, example.files)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for classified in json.loads(done.stdout).values():
        assert [trained.class_names.index(name) for name, _ in classified] == expected.indices.tolist()
        assert [p for _, p in classified] == pytest.approx(expected.values.tolist(), abs=1e-4)


def loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The folder's `load.py` as a module of this process."""
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "network", raising=False)
    spec = importlib.util.spec_from_file_location("load", folder / "load.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "tree",
    [
        {"kind": "cifar_resnet", "depth": 14, "norm": "group", "norm_groups": 6},
        {"kind": "cifar_resnet", "depth": 8, "dropout": 0.3},
        {"kind": "torchvision_resnet", "depth": 18, "norm": "group", "norm_groups": 6},
        {"kind": "torchvision_resnet", "depth": 18, "small_images": True, "dropout": 0.3},
        {"kind": "torchvision_resnet", "depth": 50, "variant": "resnext_32x4d", "small_images": True},
    ],
)
def test_definitions_that_travel_are_those_that_are_trained(
    tree: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tree["kind"] in NETWORKS
    trained = untrained(tree, (32, 32), 48)
    export_model(trained, "weights", tmp_path)
    pixels = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        found = loaded(tmp_path, monkeypatch).logits(pixels)
    torch.testing.assert_close(found, Predictor.load(tmp_path).logits(pixels), rtol=1e-4, atol=1e-4)


def test_a_reduced_resolution_is_inside_the_program(tmp_path: Path) -> None:
    trained = untrained({"kind": "cifar_resnet", "depth": 8}, (40, 24), 16)
    pixels = torch.randint(256, (2, 3, 40, 24), dtype=torch.uint8)
    export_model(trained, "pt2", tmp_path)
    found = Predictor.load(tmp_path)
    assert found.preprocessing == trained.preprocessing
    assert found.logits(pixels).shape == (2, 3)
    assert "ImageOps.fit" in (tmp_path / "load.py").read_text()
    assert "resized to 16 x 16" in (tmp_path / "README.md").read_text()


def test_reduced_decoding_travels_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = untrained({"kind": "cifar_resnet", "depth": 8}, (16, 16), None, decoding="reduced")
    export_model(trained, "weights", tmp_path)
    photo = tmp_path / "photo.jpg"
    picture(3, 300, 200).save(photo)
    expected = decode_square(photo.read_bytes(), 16, reduced=True)
    assert torch.equal(loaded(tmp_path, monkeypatch).prepare(photo), torch.from_numpy(expected))


def test_what_cannot_be_exported_or_opened_is_refused(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = open_checkpoint(example.checkpoint)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--to: must be a folder to write to"):
        export_model(trained, "weights", tmp_path / "file")
    export_model(trained, "weights", tmp_path / "net")
    path = tmp_path / "net" / "model.safetensors"
    whole = path.read_bytes()
    newer = json.loads(formats.metadata_of(trained)) | {"version": 99}
    for content, rule in (
        (whole[:-50], "must be as it was exported"),
        (whole.replace(b"class_names", b"class_mames"), "must be as it was exported"),
    ):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=rule):
            Predictor.load(tmp_path / "net")
    monkeypatch.setattr(formats, "metadata_of", lambda _: json.dumps(newer))
    export_model(trained, "weights", tmp_path / "net")
    with pytest.raises(ConfigError, match="is of a newer version"):
        Predictor.load(tmp_path / "net")
    monkeypatch.undo()
    other = replace(FORMATS["weights"], read=lambda path: ("", lambda pixels: torch.full((len(pixels), 3), 7.0)))
    monkeypatch.setitem(FORMATS, "weights", other)
    with pytest.raises(ConfigError, match="must compute the network's logits, and is off by"):
        write_model(trained, "weights", tmp_path)
    monkeypatch.delitem(NETWORKS, "cifar_resnet")
    with pytest.raises(ConfigError, match=r"program for cifar_resnet, .* definition, as torchvision_resnet"):
        export_model(trained, "weights", tmp_path)
