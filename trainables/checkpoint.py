"""Checkpoints: one file that holds the TrialConfig, the weights and everything needed to go on."""

from __future__ import annotations

import os
import pickle
import re
import struct
import tempfile
import warnings
import zlib
from pathlib import Path
from typing import Any

import torch

from trainables.config import ConfigError, TrialConfig, parse_config

__all__ = ["config_of", "load_checkpoint", "read_tensors", "save_checkpoint"]

# torch.load lets through whatever its unpickler stumbles over in a damaged or hostile file.
_UNREADABLE = (
    pickle.UnpicklingError, ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError,
    MemoryError, RuntimeError, TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write a `Trainable.state_dict()` so that `path` is at any moment absent, the old file or the new one, whole.

    Raises:
        OSError: if the disk is full or the folder not writable; an older file at `path` is left as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def read_tensors(path: Path, name: str) -> object:
    """Load a file of tensors and plain data onto the CPU; a hostile file runs no code.

    Args:
        path: the file.
        name: the setting that named it, for the error.

    Raises:
        ConfigError: if it is missing, unreadable, damaged, or holds anything else.
    """
    try:
        if not path.is_file():
            raise FileNotFoundError("there is none")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old formats: what matters here is whether it can be read
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        rule = f"must be the path of a readable file with weights ({error.strerror or error})"
        raise ConfigError.single(name, str(path), rule) from None
    except _UNREADABLE as error:
        # torch's own text advises to switch the protection off: only the object it refused is worth repeating.
        refused = re.search(r"(?i)unsupported (?:global|class).*?(?= was not| whose|$)", str(error), re.MULTILINE)
        reason = refused[0] if refused else "it is damaged or of another format"
        rule = f"must be a file of plain tensors as torch.save writes them ({reason})"
        raise ConfigError.single(name, str(path), rule) from None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        ConfigError: as `read_tensors`, or if it is no checkpoint of a trial.
    """
    state = read_tensors(path, "checkpoint")
    if not isinstance(state, dict) or not {"config", "epoch"} <= state.keys():
        raise ConfigError.single(
            "checkpoint", str(path), "must be a checkpoint that a trial wrote, with its TrialConfig"
        )
    return state


def config_of(state: dict[str, Any]) -> TrialConfig:
    """The TrialConfig that travels in a checkpoint.

    Raises:
        ConfigError: if it is not valid (for example written by a newer version).
    """
    return parse_config(state["config"])
