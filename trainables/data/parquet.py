"""Images in tables: Parquet files as the `datasets` library, pandas and others write them.

`trainables.data.tables` finds the files and their splits, `trainables.data.columns` the columns; class names come from
the feature types that the schema's `huggingface` metadata records, or from labels that are texts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.types as kinds

from trainables.config import ConfigError
from trainables.config.images import Columns, check_pattern
from trainables.data.columns import (
    Found,
    Labels,
    class_names,
    find_columns,
    groups_of,
    labels_of,
    split_column,
    splits_of,
)
from trainables.data.names import EXTENSIONS, suffix
from trainables.data.source import Contents, Row, Split, check_classes, listed
from trainables.data.tables import Table, TableFile, find_tables, opened, refusal, unreadable

__all__ = ["ParquetFiles"]

_ROWS_AT_ONCE = 16
_LONGEST_PATH, _LONGEST_NAME = 1000, 255  # bytes
_BASE64 = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "data:")  # how PNG, JPEG, GIF and WEBP begin in it


@dataclass(frozen=True)
class _Read:
    """What one file's schema, labels, splits and groups say; `images` are its files where it holds paths alone.

    `splits` has the split of each row, which a column says (`told_by`) unless the names of files tell several.
    """

    file: TableFile
    columns: Found
    told_by: str | None
    splits: list[Split]
    others: tuple[str, ...]
    names: tuple[str, ...] | None
    labels: Labels
    image_nbytes: int
    images: tuple[Path, ...] | None
    groups: list[str] | None


@dataclass(frozen=True)
class ParquetFiles:
    """One file, or all of a folder. `group_by` is `data.group_by`: perhaps a column, perhaps a pattern."""

    path: Path
    columns: Columns
    group_by: str | None
    files: tuple[TableFile, ...]
    left_out: tuple[str, ...]

    @classmethod
    def scan(cls, path: Path, columns: Columns, group_by: str | None = None) -> ParquetFiles:
        """Find the files of `path`.

        Raises:
            ConfigError: as `find_tables`.
        """
        return cls(path, columns, group_by, *find_tables(path))

    def signature(self) -> Any:
        files = [(str(f.path), f.split, f.nbytes, f.modified_ns) for f in self.files]
        return ["parquet", str(self.path), files, *self._image_files()]

    def _image_files(self) -> Iterator[tuple[str, int, int]]:
        for file in self.files:
            try:
                paths = _named_in(file, self.columns)
                stats = [(str(path), path.stat()) for path in paths or ()]
            except (ConfigError, OSError):  # whatever it is, `contents` says it
                continue
            yield from ((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)

    def column_splits(self) -> set[Split]:
        """The splits that a column of the files tells; none where there is no such column, or it tells none.

        Raises:
            ConfigError: if a file has no labels or images, or its column tells only the splits of some rows.
        """
        splits: set[Split] = set()
        for file in self.files:
            with opened(file.path) as table:
                label = find_columns(table.schema, self.columns, file.path).label
                if (name := split_column(table.schema, label)) is not None:
                    splits.update(splits_of(table.column(name), name, file.path) or ())
        return splits

    def contents(self, downloads: Path) -> Contents:
        source = f"parquet:{self.path}"
        are_told = len({file.split for file in self.files}) > 1
        tables = [_read_table(file, self.columns, self.group_by, are_told) for file in self.files]
        grouped = self._has_group_column(tables)
        names, positions = _classes(self.path, tables)
        counts: dict[Split, list[int]] = {}
        for table, position in zip(tables, positions, strict=True):
            for split, number in zip(table.splits, table.labels.numbers, strict=True):
                counts.setdefault(split, [0] * len(names))[position[int(number)]] += 1
        check_classes(source, names, counts)

        def rows() -> Iterator[Row]:
            for table, position in zip(tables, positions, strict=True):
                yield from _rows(table, self._name(table.file), [position[int(n)] for n in table.labels.numbers])

        total = sum(len(table.labels.numbers) for table in tables)
        others = dict.fromkeys(name for table in tables for name in table.others)
        unused = (f"the columns {listed(list(others))}",) if others else ()
        named = any(table.images for table in tables)  # then image files beside the table are not left out
        left_out = [item for item in self.left_out if not (named and suffix(item) in EXTENSIONS)]
        return Contents(
            names, rows, total, sum(table.image_nbytes for table in tables), self._origins(tables), _notes(tables),
            (*unused, *left_out), grouped,
        )  # fmt: skip

    def _name(self, file: TableFile) -> str:
        return file.path.name if file.path == self.path else str(file.path.relative_to(self.path))

    def _has_group_column(self, tables: list[_Read]) -> bool:
        """Whether `group_by` is a column; if not, it must be a pattern."""
        without = [self._name(table.file) for table in tables if table.groups is None]
        if self.group_by is None or not without:
            return self.group_by is not None
        if len(without) < len(tables):
            rule = f"must name a column of every file, and {listed(without)} has none of this name"
            raise ConfigError.single("data.group_by", self.group_by, rule)
        try:
            check_pattern(self.group_by)
        except ValueError as error:
            columns = dict.fromkeys(name for table in tables for name in table.others)
            rule = f"must name a column of the table ({listed(list(columns), 10) or 'it has no others'}), or {error}"
            raise ConfigError.single("data.group_by", self.group_by, rule.replace("or must be", "or be")) from None
        return False

    def _origins(self, tables: list[_Read]) -> dict[Split, str]:
        if by := {split: f"by `{table.told_by}`" for table in tables if table.told_by for split in table.splits}:
            return by
        if not any(file.told for file in self.files):
            return {}
        found: dict[Split, list[str]] = {}
        for file in self.files:
            found.setdefault(file.split, []).append(self._name(file))
        return {split: listed(names, 1) for split, names in found.items()}


def _classes(root: Path, tables: list[_Read]) -> tuple[tuple[str, ...], list[dict[int, int]]]:
    """The class names, and for each table the class of each of its labels."""
    declared = {table.names for table in tables if table.names is not None}
    if len(declared) > 1:
        raise refusal(root, "must have the same class names in every file's metadata")
    texts = {text for table in tables for text in table.labels.texts or ()}
    if texts:
        if any(table.labels.texts is None for table in tables):
            rule = "must have labels of one kind in every file, and has texts in some and numbers in others"
            raise refusal(root, rule)
        names = tuple(sorted(texts))
        place = {name: label for label, name in enumerate(names)}
        return names, [{i: place[text] for i, text in enumerate(table.labels.texts or ())} for table in tables]
    numbers = sorted({int(label) for table in tables for label in np.unique(table.labels.numbers)})
    if declared:
        names = declared.pop()
        for table in tables:
            beyond = table.labels.numbers >= len(names)
            if beyond.any():
                _refuse_label(
                    table.file, table.labels, int(np.argmax(beyond)), f"below {len(names)}, the number of class names"
                )
        return names, [{number: number for number in range(len(names))}] * len(tables)
    return tuple(map(str, numbers)), [{number: label for label, number in enumerate(numbers)}] * len(tables)


def _notes(tables: list[_Read]) -> tuple[str, ...]:
    found = {f"`{table.columns.label}`" for table in tables}
    images = {f"`{table.columns.image}`" for table in tables}
    notes = []
    if found != {"`label`"} or images != {"`image`"}:
        notes.append(f"labels from {listed(sorted(found))}, images from {listed(sorted(images))}")
    if any(table.images for table in tables):
        notes.append("images are files that the table names")
    return tuple(notes)


def _read_table(file: TableFile, wanted: Columns, group_by: str | None, are_told: bool) -> _Read:
    with opened(file.path) as table:
        columns = find_columns(table.schema, wanted, file.path)
        names = class_names(table.schema, columns.label, file.path)
        labels = labels_of(table.column(columns.label), columns.label, file.path)
        images = _paths(table, columns, file.path)
        nbytes = table.nbytes(columns.field) if images is None else sum(path.stat().st_size for path in images)
        is_column = group_by in table.schema.names
        groups = groups_of(table.column(str(group_by)), str(group_by), file.path) if is_column else None
        told_by = None if are_told else split_column(table.schema, columns.label)
        told = None if told_by is None else splits_of(table.column(told_by), told_by, file.path)
        told_by, splits = (told_by, told) if told else (None, [file.split] * table.num_rows)
        used = {columns.image, columns.label, told_by, *([group_by] if is_column else [])}
        others = tuple(name for name in table.schema.names if name not in used)
    numbers = labels.numbers
    if len(numbers) and numbers.min() < 0:
        bound = "0 or more (-1 often marks a test split whose labels are secret)"
        _refuse_label(file, labels, int(np.argmax(numbers < 0)), bound)
    return _Read(file, columns, told_by, splits, others, names, labels, nbytes, images, groups)


@cache
def _named_in(file: TableFile, wanted: Columns) -> tuple[Path, ...] | None:
    """`_paths` of a file, which is opened once in a process: every trial asks whether its images were prepared."""
    with opened(file.path) as table:
        return _paths(table, find_columns(table.schema, wanted, file.path), file.path)


def _paths(table: Table, columns: Found, path: Path) -> tuple[Path, ...] | None:
    """The image files that a table without bytes names, relative to its own folder; None if it has the bytes.

    Raises:
        ConfigError: if one of them is missing.
    """
    if columns.field and (table.nulls(columns.field) < table.num_rows or not table.num_rows):
        return None
    column = table.column(columns.image)
    named = [value["path"] if isinstance(value, dict) else value for value in column.to_pylist()]
    if any(_is_no_path(name or "") for name in named):
        rule = f"must hold images as bytes: `{columns.image}` has texts that are no paths (decode base64 into bytes)"
        raise refusal(path, rule)
    files = [path.parent / name for name in named if name]
    lost = [str(name) for name in named if not name or Path(name).is_absolute() or not (path.parent / name).is_file()]
    if lost:
        rule = (
            f"must hold the bytes of its images: `{columns.image}` has paths without bytes, and {len(lost)} of "
            f"{len(named)} files are missing beside the table ({listed(lost, 2)}); put them there, or embed the bytes"
        )
        raise refusal(path, rule)
    return tuple(files)


def _is_no_path(text: str) -> bool:
    longest = max(len(os.fsencode(part)) for part in text.split("/"))
    return len(text) > _LONGEST_PATH or longest > _LONGEST_NAME or text.startswith(_BASE64)


def _refuse_label(file: TableFile, labels: Labels, row: int, bound: str) -> None:
    rule = f"must have labels {bound}: row {row} has {labels.numbers[row]}; correct or remove the file"
    raise refusal(file.path, rule)


def _rows(table: _Read, name: str, labels: list[int]) -> Iterator[Row]:
    file, number = table.file, 0
    groups: list[str] | list[None] = table.groups or [None] * len(labels)
    if table.images is not None:
        for label, group, image_file in zip(labels, groups, table.images, strict=True):
            yield Row(table.splits[number], label, f"{name} row {number} ({image_file.name})", image_file, group)
            number += 1
        return
    with opened(file.path) as opened_again:
        if opened_again.num_rows != len(labels):
            raise unreadable(file.path, ValueError("it changed while it was read"))
        for batch in opened_again.batches(table.columns.image, _ROWS_AT_ONCE):
            is_struct = kinds.is_struct(batch.type)
            for value in batch:
                image = value.as_py()
                struct = (image or {}) if is_struct else {"bytes": image}
                path = struct.get("path")
                shown = f"{name} row {number}" + (f" ({path})" if path else "")
                yield Row(table.splits[number], labels[number], shown, struct.get("bytes") or b"", groups[number])
                number += 1
