"""Images in Parquet files of the Hugging Face layout: a struct<bytes, path> column and an integer label column.

Splits come from file names (`train-00000-of-00001.parquet`, also `train/0000.parquet`); class names from the feature
types that the schema's `huggingface` metadata records.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from trainables.config import ConfigError
from trainables.data.source import Contents, Row, Split, check_classes, listed

__all__ = ["LABEL_COLUMNS", "ParquetFiles"]

LABEL_COLUMNS = ("label", "fine_label", "labels")
_PREFIX = re.compile(r"(train|training|val|valid|validation|test)(?![a-z0-9])", re.IGNORECASE)
_SPLITS: dict[str, Split] = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
}  # fmt: skip
_ROWS_AT_ONCE = 16
_DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)  # the last: a name that is not UTF-8
_BUFFER_BYTES = 2**20  # read row groups piecemeal: Hugging Face's hold hundreds of megabytes
# Encoded images hardly shrink. What unpacks to far more would take memory that no image needs.
_MOST_UNPACKED, _SPARE_UNPACKED = 100, 64 * 2**20


def _split_of(path: Path, root: Path) -> Split | None:
    inner = path.relative_to(root).parts if path != root else (path.name,)
    for part in reversed(inner):
        if found := _PREFIX.match(part):
            return _SPLITS[found[1].lower()]
    return None


@dataclass(frozen=True)
class _File:
    path: Path
    split: Split
    nbytes: int
    modified_ns: int


@dataclass(frozen=True)
class _Table:
    """What one file's schema and label column say."""

    file: _File
    image_column: str
    label_column: str
    names: tuple[str, ...] | None
    labels: NDArray[np.int64]
    image_nbytes: int


@dataclass(frozen=True)
class ParquetFiles:
    """One Parquet file, or all of a folder."""

    path: Path
    files: tuple[_File, ...]

    @classmethod
    def scan(cls, path: Path) -> ParquetFiles:
        """Find the Parquet files of `path`.

        Raises:
            ConfigError: if there are none, or only some names tell a split.
        """
        source = f"parquet:{path}"
        if not path.exists():
            raise ConfigError.single("data.source", source, "must name an existing Parquet file or folder of them")
        try:
            found = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
            found = [file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts)]
            if odd := [file for file in found if not file.is_file()]:  # opening a pipe would wait forever
                rule = f"must hold regular files only, unlike {listed([file.name for file in odd])}"
                raise ConfigError.single("data.source", source, rule)
            splits = {file: _split_of(file, path) for file in found}
            stats = {file: file.stat() for file in found}
        except OSError as error:
            rule = f"must be readable: {error.strerror} ({error.filename})"
            raise ConfigError.single("data.source", source, rule) from error
        if not found:
            raise ConfigError.single("data.source", source, "must hold files named *.parquet, and has none")
        untold = [file.name for file, split in splits.items() if split is None]
        if untold and len(untold) < len(found):
            rule = (
                f"must have files named after their split (train-*, validation-*, test-*), unlike {listed(untold)}; "
                "rename or remove them"
            )
            raise ConfigError.single("data.source", source, rule)
        files = [_File(file, splits[file] or "train", stats[file].st_size, stats[file].st_mtime_ns) for file in found]
        return cls(path, tuple(files))

    def signature(self) -> Any:
        files = [(str(f.path), f.split, f.nbytes, f.modified_ns) for f in self.files]
        return ["parquet", str(self.path), files]

    def contents(self, downloads: Path) -> Contents:
        source = f"parquet:{self.path}"
        tables = [_read_table(file) for file in self.files]
        declared = {table.names for table in tables if table.names is not None}
        if len(declared) > 1:
            raise ConfigError.single("data.source", source, "must have the same class names in every file's metadata")
        numbers = sorted({int(label) for table in tables for label in np.unique(table.labels)})
        if declared:
            names = declared.pop()
            position = {number: number for number in range(len(names))}
            _check_range(tables, names)
        else:
            names = tuple(str(number) for number in numbers)
            position = {number: label for label, number in enumerate(numbers)}
        counts: dict[Split, list[int]] = {}
        for table in tables:
            count = counts.setdefault(table.file.split, [0] * len(names))
            for number, n in zip(*np.unique(table.labels, return_counts=True), strict=True):
                count[position[int(number)]] += int(n)
        check_classes(source, names, counts)

        def rows() -> Iterator[Row]:
            for table in tables:
                yield from _rows(table, [position[int(number)] for number in table.labels])

        total = sum(len(table.labels) for table in tables)
        return Contents(names, rows, total, sum(table.image_nbytes for table in tables))


def _unreadable(path: Path, error: Exception) -> ConfigError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ConfigError.single("data.source", f"parquet:{path}", f"must be a sound Parquet file ({reason})")


def _image_column(schema: pa.Schema, path: Path) -> str:
    columns = [
        field.name
        for field in schema
        if pa.types.is_struct(field.type)
        and field.type.get_field_index("bytes") >= 0
        and (
            pa.types.is_binary(field.type.field("bytes").type)
            or pa.types.is_large_binary(field.type.field("bytes").type)
        )
    ]
    if len(columns) > 1:
        columns = [name for name in columns if name in ("image", "img")]
    if len(columns) != 1:
        rule = f"must have one image column of type struct<bytes, path>; its columns are {listed(schema.names, 10)}"
        raise ConfigError.single("data.source", f"parquet:{path}", rule)
    return str(columns[0])


def _label_column(schema: pa.Schema, path: Path) -> str:
    for name in LABEL_COLUMNS:
        if name in schema.names and pa.types.is_integer(schema.field(name).type):
            return name
    rule = f"must have an integer column {' or '.join(LABEL_COLUMNS)}; its columns are {listed(schema.names, 10)}"
    raise ConfigError.single("data.source", f"parquet:{path}", rule)


def _class_names(schema: pa.Schema, label_column: str, path: Path) -> tuple[str, ...] | None:
    recorded = (schema.metadata or {}).get(b"huggingface")
    if recorded is None:
        return None
    try:
        node = json.loads(recorded)
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, ValueError(f"its `huggingface` metadata is no JSON: {error}")) from error
    for key in ("info", "features", label_column, "names"):
        node = node.get(key) if isinstance(node, dict) else None
    if node is None:
        return None
    if isinstance(node, list) and all(isinstance(name, str) for name in node):
        names = tuple(name.encode("utf-8", "replace").decode() for name in node)  # JSON may hold half characters
        if len(set(names)) == len(names):
            return names
    raise _unreadable(path, ValueError("the class names in its `huggingface` metadata are no list of distinct names"))


def _read_table(file: _File) -> _Table:
    try:
        with pq.ParquetFile(file.path) as parquet:
            schema, metadata = parquet.schema_arrow, parquet.metadata
            if len(set(schema.names)) < len(schema.names):
                raise _unreadable(file.path, ValueError(f"columns of one name: {listed(schema.names, 10)}"))
            image, label = _image_column(schema, file.path), _label_column(schema, file.path)
            names = _class_names(schema, label, file.path)
            _check_sizes(file, metadata)
            column = parquet.read(columns=[label]).column(label)
            nbytes = sum(
                chunk.total_uncompressed_size for chunk in _chunks(metadata) if chunk.path_in_schema == f"{image}.bytes"
            )
    except _DAMAGE as error:
        raise _unreadable(file.path, error) from error
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        rule = f"must have a label in every row: {column.null_count} of `{label}` are null, the first in row {row}"
        raise ConfigError.single("data.source", f"parquet:{file.path}", rule)
    try:
        labels = column.cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid as error:  # a uint64 beyond int64
        raise _unreadable(file.path, error) from error
    if len(labels) and labels.min() < 0:
        _refuse_label(
            file, labels, int(np.argmax(labels < 0)), "0 or more (-1 often marks a test split whose labels are secret)"
        )
    return _Table(file, image, label, names, labels, nbytes)


def _chunks(metadata: pq.FileMetaData) -> Iterator[pq.ColumnChunkMetaData]:
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        yield from map(group.column, range(metadata.num_columns))


def _check_sizes(file: _File, metadata: pq.FileMetaData) -> None:
    """Refuse a small file that would fill the memory."""
    if metadata.num_rows > file.nbytes:
        raise _unreadable(file.path, ValueError(f"{metadata.num_rows:,} rows in {file.nbytes:,} bytes"))
    for chunk in _chunks(metadata):
        packed, unpacked = chunk.total_compressed_size, chunk.total_uncompressed_size
        if unpacked > _MOST_UNPACKED * packed + _SPARE_UNPACKED:
            reason = f"column {chunk.path_in_schema} unpacks from {packed:,} to {unpacked:,} bytes"
            raise _unreadable(file.path, ValueError(reason))


def _check_range(tables: list[_Table], names: tuple[str, ...]) -> None:
    for table in tables:
        beyond = table.labels >= len(names)
        if beyond.any():
            _refuse_label(
                table.file, table.labels, int(np.argmax(beyond)), f"below {len(names)}, the number of class names"
            )


def _refuse_label(file: _File, labels: NDArray[np.int64], row: int, bound: str) -> None:
    rule = f"must have labels {bound}: row {row} has {labels[row]}; correct or remove the file"
    raise ConfigError.single("data.source", f"parquet:{file.path}", rule)


def _rows(table: _Table, labels: list[int]) -> Iterator[Row]:
    file, number = table.file, 0
    try:
        with pq.ParquetFile(file.path, buffer_size=_BUFFER_BYTES) as parquet:
            if parquet.metadata.num_rows != len(labels):
                raise _unreadable(file.path, ValueError("it changed while it was read"))
            for batch in parquet.iter_batches(_ROWS_AT_ONCE, columns=[table.image_column]):
                for value in batch.column(0):
                    struct = value.as_py() or {}
                    path = struct.get("path")
                    name = f"{file.path.name} row {number}" + (f" ({path})" if path else "")
                    yield Row(file.split, labels[number], name, struct.get("bytes") or b"")
                    number += 1
    except _DAMAGE as error:
        raise _unreadable(file.path, error) from error
