"""The images that a user names: files, folders, patterns, and the rows of a table."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.types as kinds

from trainables.config import ConfigError
from trainables.config.images import split_source
from trainables.data.names import EXTENSIONS, OTHER_IMAGES, is_junk, suffix
from trainables.data.tables import find_tables, opened, refusal

__all__ = ["NamedImage", "find_images"]

_TABLES = (".parquet", ".arrow")
_ROWS_AT_ONCE = 16


@dataclass(frozen=True)
class NamedImage:
    """An image file, or its bytes, and how it is called in what is printed."""

    name: str
    image: Path | bytes


def find_images(named: Sequence[str]) -> Iterator[NamedImage]:
    """Every image that the arguments name, in their order; those of a folder by their paths.

    An argument is a file; a folder, whose images of any depth are meant; a pattern (`**` too); a Parquet file or a
    folder of them; or a source as a config has it, `imagefolder:PATH` or `parquet:PATH`. A file that is named itself is
    an image, or comes out as unreadable, whatever its extension.

    Raises:
        ConfigError: before the first image, if an argument names nothing.
    """
    parts = [_of_argument(argument) for argument in named]
    return (image for part in parts for image in part)


def _of_argument(argument: str) -> Iterator[NamedImage]:
    kind, rest = split_source(argument)
    if kind == "parquet" and rest:
        return _rows(Path(rest))
    path = Path(rest if kind == "imagefolder" and rest else argument)
    if path.is_dir():
        return _in_folder(path)
    if path.exists():
        return _rows(path) if suffix(path.name) in _TABLES else iter([NamedImage(str(path), path)])
    found = sorted(file for file in map(Path, glob.iglob(argument, recursive=True)) if file.is_file())
    if not found:
        raise ConfigError.single("IMAGES", argument, "must name a file, a folder or a pattern of images that exist")
    return (image for file in found for image in _of_argument(str(file)))


def _in_folder(folder: Path) -> Iterator[NamedImage]:
    files: list[Path] = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not is_junk(name))
        files += [Path(place, name) for name in sorted(names) if not is_junk(name)]
    images = [file for file in files if suffix(file.name) in (*EXTENSIONS, *OTHER_IMAGES)]
    if images:
        return iter([NamedImage(str(file), file) for file in images])
    if any(suffix(file.name) in _TABLES for file in files):
        return _rows(folder)
    raise ConfigError.single("IMAGES", str(folder), f"must hold images ({', '.join(EXTENSIONS)}), and has none")


def _rows(path: Path) -> Iterator[NamedImage]:
    tables = [(file.path, _image_column(file.path)) for file in find_tables(path)[0]]
    return (image for table, column in tables for image in _rows_of(table, column))


def _image_column(path: Path) -> str:
    """The column with the bytes of images; labels are not needed here."""
    with opened(path) as table:
        fitting: list[str] = [field.name for field in table.schema if _holds_bytes(field.type)]
    usual = [name for name in fitting if name in ("image", "img")]
    if len(usual or fitting) != 1:
        rule = f"must have one column of images as bytes, named `image`, and has {fitting or 'none'}"
        raise refusal(path, rule)
    return (usual or fitting)[0]


def _holds_bytes(kind: object) -> bool:
    if kinds.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)  # type: ignore[attr-defined]
    return bool(kinds.is_binary(kind) or kinds.is_large_binary(kind))


def _rows_of(path: Path, column: str) -> Iterator[NamedImage]:
    number = 0
    with opened(path) as table:
        for batch in table.batches(column, _ROWS_AT_ONCE):
            for value in batch.to_pylist():
                struct = value if isinstance(value, dict) else {"bytes": value}
                inner = f" ({struct['path']})" if struct.get("path") else ""
                yield NamedImage(f"{path.name} row {number}{inner}", struct.get("bytes") or b"")
                number += 1
