"""The forms in which a network leaves this package, each written and opened again.

Every file carries the class names, the preprocessing and the model's config as one JSON text, `METADATA`: it is whole
on its own. Programs (pt2, TorchScript, ONNX) take pixels uint8 [n, 3, h, w] and normalize inside.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from trainables.config import ConfigError, Execution, TrialConfig, parse_config
from trainables.files import checkpoint_meant
from trainables.models.networks import build_network
from trainables.prediction.preprocessing import Preprocessing, Program
from trainables.prediction.trained import TrainedNetwork

__all__ = ["FORMATS", "METADATA", "Format", "FormatName", "OpenedModel", "metadata_of", "open_folder", "write_model"]

FormatName = Literal["weights", "pt2", "torchscript", "onnx"]
Forward = Callable[[Tensor], Tensor]

METADATA = "resnet_search"
_VERSION = 1  # raise it when an older version would misread the metadata
_TOLERANCE = 1e-4  # of logits in float32, absolute below 1 and relative above


@dataclass(frozen=True)
class OpenedModel:
    """An exported network: pixels uint8 [n, 3, h, w] to logits float32 [n, classes], both on the CPU."""

    forward: Forward
    class_names: tuple[str, ...]
    preprocessing: Preprocessing


@dataclass(frozen=True)
class Format:
    """One form.

    Attributes:
        file: its name in the folder.
        needs: what a program needs to run it.
        write: writes a program, and its metadata inside the file.
        read: the metadata, and what computes logits.
    """

    file: str
    needs: str
    write: Callable[[Program, Path, str], None]
    read: Callable[[Path], tuple[str, Forward]]


def metadata_of(trained: TrainedNetwork) -> str:
    """What travels with the weights, as JSON."""
    return json.dumps(
        {
            "version": _VERSION,
            "class_names": trained.class_names,
            "preprocessing": trained.preprocessing.model_dump(mode="json"),
            "model": trained.config.model.model_dump(mode="json"),
        }
    )


def write_model(trained: TrainedNetwork, name: FormatName, folder: Path) -> Path:
    """Write the network's file into an existing folder, and hold what was written against the network.

    Raises:
        ConfigError: if a package is missing, the network cannot be written in this form, or what was written computes
            other logits.
        OSError: if the folder cannot be written to.
    """
    form, path = FORMATS[name], folder / FORMATS[name].file
    device = torch.device("cpu")
    execution = Execution(device="cpu", precision="fp32", memory_format="contiguous")
    program = Program(trained.network.float(), trained.preprocessing, execution, device)
    pixels = _some_pixels(trained.preprocessing, 3)
    with torch.inference_mode():
        expected = program(pixels)
    with _quiet(), torch.no_grad():
        form.write(program, path, metadata_of(trained))
        found = form.read(path)[1](pixels)
    off = float(((found - expected).abs() / expected.abs().clamp(min=1)).max())
    if not off <= _TOLERANCE:
        rule = f"must compute the network's logits, and is off by {off:.1e} on this machine: export another format"
        raise ConfigError.single("--format", name, rule)
    return path


def open_folder(folder: Path) -> OpenedModel:
    """The model that an exported folder holds.

    Raises:
        ConfigError: if there is none, a package is missing, or it is damaged or of a newer version.
    """
    for place in (folder, folder / "artifacts" / "model"):  # the latter is MLflow's
        for form in FORMATS.values():
            if (path := place / form.file).is_file():
                return _opened(path, form)
    files = ", ".join(form.file for form in FORMATS.values())
    rule = f"must be a checkpoint, or an exported folder with one of {files}{checkpoint_meant(folder)}"
    raise ConfigError.single("MODEL", str(folder), rule)


def _opened(path: Path, form: Format) -> OpenedModel:
    try:
        text, forward = form.read(path)
        metadata = json.loads(text)
        if metadata["version"] > _VERSION:
            rule = "is of a newer version of this package: update the package, or export it again"
            raise ConfigError.single("MODEL", str(path), rule)
        preprocessing = Preprocessing.model_validate(metadata["preprocessing"])
        return OpenedModel(forward, tuple(metadata["class_names"]), preprocessing)
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, ValidationError, SafetensorError) as error:
        if isinstance(error, ConfigError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise ConfigError.single("MODEL", str(path), f"must be as it was exported ({reason})") from None


def _some_pixels(preprocessing: Preprocessing, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (count, 3, *preprocessing.size)
    return torch.randint(256, shape, dtype=torch.uint8, generator=generator)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters say of their own workings."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _write_weights(program: Program, path: Path, metadata: str) -> None:
    weights = {name: tensor.contiguous() for name, tensor in program.network.state_dict().items()}
    safetensors.torch.save_file(weights, path, metadata={METADATA: metadata})


def _read_weights(path: Path) -> tuple[str, Forward]:
    with safe_open(path, "pt") as file:
        metadata = (file.metadata() or {})[METADATA]
    found = json.loads(metadata)
    config: TrialConfig = parse_config({"model": found["model"]})
    network = build_network(config.model, len(found["class_names"]))
    network.load_state_dict(safetensors.torch.load_file(path))
    execution = Execution(device="cpu", precision="fp32")
    preprocessing = Preprocessing.model_validate(found["preprocessing"])
    return metadata, Program(network, preprocessing, execution, torch.device("cpu"))


def _write_pt2(program: Program, path: Path, metadata: str) -> None:
    torch.export.save(_exported(program), path, extra_files={METADATA: metadata})


def _exported(program: Program) -> torch.export.ExportedProgram:
    pixels = _some_pixels(program.preprocessing, 2)
    images = torch.export.Dim("images", min=1)
    return torch.export.export(program, (pixels,), dynamic_shapes={"pixels": {0: images}})


def _read_pt2(path: Path) -> tuple[str, Forward]:
    extra: dict[str, Any] = {METADATA: ""}
    program = torch.export.load(path, extra_files=extra)
    return extra[METADATA], program.module()


def _write_torchscript(program: Program, path: Path, metadata: str) -> None:
    # Of the exported program, since TorchScript knows nothing of functions with a gradient of their own.
    plain = _exported(program).module()
    traced = torch.jit.trace(plain, (_some_pixels(program.preprocessing, 2),), check_trace=False)  # type: ignore[no-untyped-call]
    torch.jit.save(traced, path, _extra_files={METADATA: metadata})


def _read_torchscript(path: Path) -> tuple[str, Forward]:
    extra: dict[str, Any] = {METADATA: ""}
    program: Forward = torch.jit.load(path, map_location="cpu", _extra_files=extra)  # type: ignore[no-untyped-call]
    found = extra[METADATA]
    return found.decode() if isinstance(found, bytes) else found, program


def _write_onnx(program: Program, path: Path, metadata: str) -> None:
    _require("onnx", "onnxscript")
    exported = torch.onnx.export(_exported(program), dynamo=True, verbose=False, input_names=["pixels"],
                                 output_names=["logits"])  # fmt: skip
    if exported is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    exported.model.metadata_props[METADATA] = metadata
    exported.save(path, external_data=False)


def _read_onnx(path: Path) -> tuple[str, Forward]:
    _require("onnxruntime")
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def forward(pixels: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: pixels.numpy()})[0])

    return session.get_modelmeta().custom_metadata_map[METADATA], forward


def _require(*packages: str) -> None:
    from importlib.util import find_spec

    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        rule = f"needs {' and '.join(missing)}: pip install 'resnet-search[export]'"
        raise ConfigError.single("--format", "onnx", rule)


FORMATS: dict[str, Format] = {
    "weights": Format(
        "model.safetensors", "torch, torchvision, safetensors and Pillow", _write_weights, _read_weights
    ),
    "pt2": Format("model.pt2", "torch, torchvision and Pillow", _write_pt2, _read_pt2),
    "torchscript": Format(
        "model.torchscript", "torch, torchvision and Pillow", _write_torchscript, _read_torchscript
    ),
    "onnx": Format("model.onnx", "onnxruntime, torch, torchvision and Pillow", _write_onnx, _read_onnx),
}  # fmt: skip
