"""Files that are no weights, or of another program: each is named as what it is, with a way out."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from trainables.checkpoints.weights_file import read_weights
from trainables.config import ConfigError

TENSORS = {"a.weight": torch.arange(400.0), "a.bias": torch.ones(3)}


def _torch(legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(TENSORS, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def _script() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8)), buffer)
    return buffer.getvalue()


def _zip(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return buffer.getvalue()


def _npz(save: Callable[..., None] = np.savez) -> bytes:
    buffer = io.BytesIO()
    save(buffer, np.ones(3))
    return buffer.getvalue()


SAFE = safetensors.torch.save(TENSORS)
NOTHING_ELSE = {  # name of the file, its content, what it is called, the way out
    "lfs": ("w.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS", "git lfs pull"),
    "page": ("w.pth", b"\n<!DOCTYPE html><html><head>Not found</head></html>", "a web page", "download it again"),
    "xml": ("w.pth", b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a web page", "download"),
    "json": ("w.pth", json.dumps({"error": "no access"}).encode(), "a JSON text", "model.safetensors"),
    "empty": ("w.pth", b"", "an empty file", "download it again"),
    "text": ("w.pth", b"a note to myself", "a text ('a note to myself')", "give the path of the weights"),
    "keras": ("w.h5", b"\x89HDF\r\n\x1a\n" + bytes(99), "weights of Keras", "PyTorch"),
    "keras 3": ("w.keras", _zip("config.json", "model.weights.h5"), "weights of Keras", "PyTorch"),
    "onnx": ("w.onnx", b"\x08\x08\x12\x07pytorch\x1a\x05" + bytes(99), "an ONNX model", "model.state_dict()"),
    "onnx by content": ("w.bin", b"\x08\x07\x12\x07pytorch\x1a\x05" + bytes(99), "an ONNX model", "state_dict"),
    "tensorflow": ("m.ckpt.data-00000-of-00001", bytes(range(99)), "a TensorFlow checkpoint", "convert"),
    "tensorflow's list": ("checkpoint", b'model_checkpoint_path: "m.ckpt"\n', "a TensorFlow checkpoint", "convert"),
    "saved model": ("saved_model.pb", bytes(99), "a TensorFlow model", "convert"),
    "npz": ("w.npz", _npz(), "a NumPy archive", "torch.from_numpy"),
    "npy": ("w.npy", _npz(np.save), "a NumPy array", "state dict"),
    "torchscript": ("w.pt", _script(), "a TorchScript archive", "torch.jit.load('w.pt').state_dict()"),
    "zip": ("w.zip", _zip("w.pth"), "a zip archive", "unpack it"),
    "gzip": ("w.pth.gz", b"\x1f\x8b\x08" + bytes(99), "a compressed archive", "unpack it"),
    "cut off": ("w.pth", _torch()[:-200], "a file whose end is missing", "download it again"),
    "cut off, safetensors": ("w.safetensors", SAFE[:40], "a safetensors file that is cut off", "download it again"),
    "cut off, its numbers": ("w.safetensors", SAFE[:-40], "safetensors file that is damaged or cut off", "download"),
    "pickle": ("w.pkl", pickle.dumps({"w": np.ones(3)}, protocol=2), "a pickle of Python's", "save it with torch"),
    "pickle, newer": ("w.pth", pickle.dumps({"w": 1}, protocol=4), "a pickle of Python's", "save it with torch"),
    "unfinished": ("w.pth.crdownload", bytes(99), "an unfinished download", "download it again"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NOTHING_ELSE)
def test_what_is_no_weights_is_named_with_a_way_out(kind: str, tmp_path: Path) -> None:
    name, content, what, way_out = NOTHING_ELSE[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_weights(tmp_path / name, "model.pretrained")
    rule = caught.value.problems[0].rule
    assert rule.startswith("must be a file of weights, and is ")
    assert what in rule
    assert way_out in rule


@pytest.mark.parametrize("cut", [30, 300, 900])
def test_an_old_file_that_is_cut_off(cut: int, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(_torch(legacy=True)[:-cut])
    with pytest.raises(ConfigError, match="damaged, cut off, or of another format"):
        read_weights(tmp_path / "w.pth", "model.pretrained")


@pytest.mark.parametrize("content", [_torch(), _torch(legacy=True), SAFE], ids=["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w"])
def test_the_content_decides_not_the_name(content: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    read, file = read_weights(tmp_path / name, "model.pretrained")
    assert file == tmp_path / name
    assert isinstance(read, dict)
    assert all(torch.equal(read[key], value) for key, value in TENSORS.items())


@pytest.mark.parametrize("beside", ["m.ckpt.index", "m.ckpt.data-00000-of-00001"])
def test_the_stem_of_a_tensorflow_checkpoint(beside: str, tmp_path: Path) -> None:
    (tmp_path / beside).write_bytes(b"x")
    (tmp_path / "m.ckpt.index").write_bytes(b"x")
    with pytest.raises(ConfigError, match="is a TensorFlow checkpoint"):
        read_weights(tmp_path / "m.ckpt", "model.pretrained")
