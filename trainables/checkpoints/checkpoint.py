"""Checkpoints: one file that holds the TrialConfig, the weights and everything needed to resume."""

from __future__ import annotations

import errno
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any, TypeGuard

import torch

from trainables.config import ConfigError, TrialConfig, flatten, parse_config
from trainables.config.images import without_path
from trainables.files import checkpoint_meant, replacing

__all__ = [
    "UNREADABLE",
    "config_of",
    "is_checkpoint",
    "is_dense",
    "load_checkpoint",
    "read_tensors",
    "save_checkpoint",
    "trained_weights",
]

# Differences between two configs that are named; the rest is counted.
MOST_NAMED = 3
NOT_SET = "not set"

FOLDER_BIT = 0x10  # of the attributes in a zip file

# torch.load lets through whatever its unpickler stumbles over in a damaged or hostile file.
UNREADABLE = (
    pickle.UnpicklingError, ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError,
    MemoryError, RuntimeError, TypeError, ValueError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write a `Trainable.state_dict()` so that `path` is at any moment absent, the old file or the new one, whole.

    Raises:
        OSError: if the disk is full or the folder not writable; an older file at `path` is left as it was.
    """
    # To a file of Python's: torch's own writer raises RuntimeError where the disk is full.
    with replacing(path) as partial, partial.open("wb") as file:
        torch.save(state, file)


def read_tensors(path: Path, name: str, *, checksums: bool = False) -> object:
    """Load a file of tensors and plain data onto the CPU; a hostile file runs no code.

    Args:
        path: the file.
        name: the setting that named it, for the error.
        checksums: whether to hold the content against the file's checksums, which files of torch before 1.6 lack.

    Raises:
        ConfigError: if it is missing, unreadable, damaged, or holds anything else.
    """
    try:
        if not path.is_file():
            raise FileNotFoundError(f"there is none{checkpoint_meant(path)}")
        if checksums:
            _check_content(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old formats: what matters here is whether it can be read
            # Opened here: given a path, torch goes by its ending, and hands what is called .safetensors on.
            with path.open("rb") as file:
                content: object = torch.load(file, map_location="cpu", weights_only=True)
        return content
    except OSError as error:
        rule = f"must be the path of a readable file with weights ({error.strerror or error})"
        raise ConfigError.single(name, str(path), rule) from None
    except UNREADABLE as error:
        # torch's own text advises to switch the protection off: only the object it refused is worth repeating.
        refused = re.search(r"(?i)unsupported (?:global|class).*?(?= was not| whose|$)", str(error), re.MULTILINE)
        reason = refused[0] if refused else "it is damaged, cut off, or of another format"
        rule = f"must be a file of plain tensors as torch.save writes them ({reason})"
        raise ConfigError.single(name, str(path), rule) from None


def _check_content(path: Path) -> None:
    # torch writes a zip file with checksums, and does not look at them: it loads a flipped bit as another weight.
    try:
        with zipfile.ZipFile(path) as archive:
            # torch would not have written such entries: it takes what lies in memory for the content of a folder, and
            # one that is compressed may unpack forever.
            if any(e.external_attr & FOLDER_BIT or e.compress_type != zipfile.ZIP_STORED for e in archive.infolist()):
                raise zipfile.BadZipFile("an entry is a folder or compressed")
            if archive.testzip() is not None:
                raise zipfile.BadZipFile("the content is not what was written")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise zipfile.BadZipFile("an entry lies outside the file") from None


def is_dense(tensor: torch.Tensor) -> bool:
    """Whether every number of the tensor lies in memory, as in whatever is trained; a file may hold others."""
    return not tensor.is_nested and tensor.layout == torch.strided and not tensor.is_meta


def is_checkpoint(content: object) -> TypeGuard[dict[str, Any]]:
    """Whether the content of a file is that of a trial's checkpoint."""
    return isinstance(content, dict) and {"config", "epoch", "step"} <= content.keys()


def load_checkpoint(path: Path, expected: TrialConfig | None = None) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, every byte of it held against the checksums it was written with.

    Args:
        path: the file.
        expected: the config of the trial that is to resume from it, if any. What `execution` leaves to the machine
            (`auto` or null) in one of the two configs is no difference, as it is none between two studies.

    Raises:
        ConfigError: as `read_tensors`, or if it is no checkpoint of a trial, or one of a trial with another config.
    """
    state = read_tensors(path, "checkpoint", checksums=True)
    if not is_checkpoint(state):
        raise ConfigError.single(
            "checkpoint", str(path), "must be a checkpoint that a trial wrote, with its TrialConfig"
        )
    try:
        config = config_of(state)
    except ConfigError as error:
        first = error.problems[0]
        rule = f"must hold a valid TrialConfig ({first})"
        if option := re.search(r"--plugin \w+$", first.rule):  # nothing is wrong with it: the way out comes first
            rule = f"needs {option[0]} (its {first.path} names code that runs only if you allow it: {first.value})"
        raise ConfigError.single("checkpoint", str(path), rule) from None
    if expected is not None and (different := _differences(config, expected)):
        named = "; ".join(different[:MOST_NAMED])
        more = f"; and {len(different) - MOST_NAMED} more" if len(different) > MOST_NAMED else ""
        rule = f"must be of a trial with the same config, not with another {named}{more}"
        raise ConfigError.single("checkpoint", str(path), rule)
    return state


def _differences(there: TrialConfig, here: TrialConfig) -> list[str]:
    """Each key in which two configs differ, with both values; images may lie elsewhere."""
    old, new = (flatten(config.model_dump(mode="json")) for config in (there, here))
    for flat in (old, new):
        flat["data.source"] = without_path(flat["data.source"])
        flat.pop("data.exclude", None)
    keys = sorted(dict.fromkeys([*new, *old]), key=lambda key: not key.endswith(".kind"))  # the rest follows from these
    return [
        f"{key} ({old.get(key, NOT_SET)} there, {new.get(key, NOT_SET)} here)"
        for key in keys
        if old.get(key, NOT_SET) != new.get(key, NOT_SET)
        and not (key.startswith("execution.") and {old[key], new[key]} & {"auto", None})
    ]


def config_of(state: dict[str, Any]) -> TrialConfig:
    """The TrialConfig that travels in a checkpoint.

    Raises:
        ConfigError: if it is not valid (for example written by a newer version).
    """
    return parse_config(state["config"])


def trained_weights(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights that a trial's metrics are of: the average's with EMA, else the network's.

    In the checkpoint of a trial that has ended they are those of its best epoch (`training.early_stopping`).
    """
    weights: dict[str, torch.Tensor] = state["model"] if state["ema"] is None else state["ema"]
    return weights
