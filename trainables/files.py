"""Files written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainables.config import ConfigError

__all__ = ["checkpoint_meant", "replaced", "replacing", "write_text"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; on a clean exit it takes `path`'s place, else it is removed.

    Raises:
        OSError: if the folder cannot be written to or the disk is full; an older file at `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))  # less what the user's umask forbids
    try:
        yield partial
        handle = os.open(partial, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """`replacing`, for what a user asked to be written.

    Raises:
        ConfigError: if the folder cannot be written to or the disk is full.
    """
    try:
        with replacing(path) as partial:
            yield partial
    except OSError as error:
        raise ConfigError.single(str(path), error.strerror or str(error), "must be writable") from error


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file whole or not at all.

    Raises:
        ConfigError: if it cannot be written.
    """
    with replaced(path) as partial:
        partial.write_text(text, encoding="utf-8")


def checkpoint_meant(folder: Path) -> str:
    """For who names a folder, such as a trial's, instead of a checkpoint in it: the newest one; empty without any."""
    found = sorted([*folder.glob("*.pt"), *folder.glob("*/*.pt")], key=lambda path: path.stat().st_mtime)
    return f"; did you mean {found[-1]}?" if found else ""
