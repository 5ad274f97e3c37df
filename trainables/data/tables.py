"""The files of a Parquet source: which there are, which split each is of, and whether one is missing.

Beside Parquet, a folder that `datasets.save_to_disk` wrote is read: Arrow files, listed in its `state.json`.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from trainables.config import ConfigError
from trainables.data.names import EXTENSIONS, NOT_IMAGES, format_of, is_junk, refusal_of_file, split_of_table, suffix
from trainables.data.source import Split, listed

__all__ = ["DAMAGE", "Table", "TableFile", "find_tables", "opened", "refusal", "unreadable"]

DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)  # the last: a name that is not UTF-8
_BUFFER_BYTES = 2**20  # read row groups piecemeal: Hugging Face's hold hundreds of megabytes
# Encoded images hardly shrink. What unpacks to far more would take memory that no image needs.
_MOST_UNPACKED, _SPARE_UNPACKED = 100, 64 * 2**20
_SHARD = re.compile(r"(.*?)(\d+)-of-(\d+)")  # what follows may differ from part to part
_SERIAL = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+")  # what differs in the names of one table's parts
_FIRST_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class TableFile:
    """A file of rows, listed and not read; `told` is whether its name says its split."""

    path: Path
    split: Split
    told: bool
    nbytes: int
    modified_ns: int


def find_tables(path: Path) -> tuple[tuple[TableFile, ...], tuple[str, ...]]:
    """The files of `path` in order, and what lies beside them and is not read.

    Raises:
        ConfigError: if there are none, one is missing, or their names don't tell their splits.
    """
    if not path.exists():
        raise refusal(path, "must name an existing Parquet file or folder of them")
    left_out: tuple[str, ...] = ()
    try:
        if not path.is_dir():
            if suffix(path.name) in NOT_IMAGES - {".parquet", ".arrow"} or suffix(path.name) in EXTENSIONS:
                raise refusal(path, refusal_of_file(str(path)))
            found = [path]
        elif (saved := _saved_to_disk(path)) is not None:
            found = saved
        else:
            found, left_out = _parquet_below(path)
        if odd := [file for file in found if not file.is_file()]:  # opening a pipe would wait forever
            raise refusal(path, f"must hold regular files only, unlike {listed([file.name for file in odd])}")
        splits = {file: _split_of(file, path) for file in found}
        stats = {file: file.stat() for file in found}
    except OSError as error:
        raise refusal(path, f"must be readable: {error.strerror} ({error.filename})") from error
    _check_shards(path, found)
    _check_copies(path, splits)
    _check_splits(path, splits)
    files = [
        TableFile(f, s or "train", s is not None, stats[f].st_size, stats[f].st_mtime_ns) for f, s in splits.items()
    ]
    return tuple(files), left_out


def refusal(path: Path, rule: str) -> ConfigError:
    """The error for a table, or a folder of tables, that breaks a rule."""
    return ConfigError.single("data.source", f"parquet:{path}", rule)


def _parquet_below(path: Path) -> tuple[list[Path], tuple[str, ...]]:
    found: list[Path] = []
    other: Counter[str] = Counter()
    for parent, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not is_junk(name)]
        for name in files:
            kind = suffix(name)
            if kind == ".parquet" and not is_junk(name):
                found.append(Path(parent, name))
            else:
                other[kind or name] += 1
        found += [Path(parent, name) for name in folders if suffix(name) == ".parquet"]
    left_out = tuple(f"{count} {kind}" for kind, count in other.most_common())
    if not found:
        images = sum(other[kind] for kind in EXTENSIONS)
        hint = (
            f"; for its {images} images write imagefolder:{path}"
            if images
            else f" ({listed(left_out)})"
            if other
            else ""
        )
        raise refusal(path, f"must hold files named *.parquet, and has none{hint}")
    return sorted(found), left_out


def _saved_to_disk(folder: Path) -> list[Path] | None:
    """The Arrow files that `datasets.save_to_disk` wrote into a folder; None if it is no such folder."""
    if (folder / "dataset_dict.json").is_file():
        splits = _json(folder, "dataset_dict.json").get("splits")
        if not isinstance(splits, list) or not all(
            isinstance(name, str) and name == Path(name).name for name in splits
        ):
            raise refusal(folder, "must list its splits in dataset_dict.json; the file is damaged")
        return [file for name in splits for file in _saved_to_disk(folder / name) or _missing(folder, name)]
    if not all((folder / name).is_file() for name in ("state.json", "dataset_info.json")):
        return None
    state = _json(folder, "state.json")
    if state.get("_indices_files") or state.get("_indices_data_files"):
        rule = "was saved with a selection of its rows, which only `datasets` can apply"
        raise refusal(folder, f"{rule}: `datasets.load_from_disk({str(folder)!r}).to_parquet('train.parquet')`")
    listing = state.get("_data_files")
    names = [entry.get("filename") for entry in listing if isinstance(entry, dict)] if isinstance(listing, list) else []
    files = [folder / name for name in names if isinstance(name, str) and name == Path(name).name]
    if gone := [file.name for file in files if not file.exists()]:
        raise refusal(folder, f"must have every file that its state.json lists, and lacks {listed(gone)}")
    return files or _missing(folder, "data-00000-of-00001.arrow")


def _missing(folder: Path, name: str) -> NoReturn:
    raise refusal(folder, f"must be whole as `datasets.save_to_disk` wrote it, and lacks {name}")


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        found = json.loads((folder / name).read_bytes())
    except (ValueError, RecursionError) as error:
        raise refusal(folder, f"must have a sound {name} ({type(error).__name__})") from error
    return found if isinstance(found, dict) else {}


def _split_of(file: Path, root: Path) -> Split | None:
    if file == root:  # a single file may have any name: only one that begins with a split's is taken at its word
        word = _FIRST_WORD.match(file.name)
        return split_of_table(word[0]) if word else None
    parts = reversed(file.relative_to(root).with_suffix("").parts)
    return next((split for part in parts if (split := split_of_table(part))), None)


def _check_shards(root: Path, found: list[Path]) -> None:
    """Refuse a table of which a part is missing: `train-00000-of-00002` alone."""
    if found == [root]:
        return
    tables: dict[tuple[Path, str, str], set[int]] = {}
    for file in found:
        if shard := _SHARD.match(file.name):
            tables.setdefault((file.parent, shard[1], shard[3]), set()).add(int(shard[2]))
    for (parent, name, digits), numbers in tables.items():
        count = int(digits)
        first = int(0 not in numbers and count in numbers)  # some writers count from 1
        if count <= 100_000 and (gone := sorted(set(range(first, first + count)) - numbers)):
            names = [f"{(parent / name).relative_to(root)}{n:0{len(digits)}d}-of-{digits}" for n in gone]
            raise refusal(root, f"must have every part of a table, and lacks {listed(names)}: fetch what is missing")


def _check_copies(root: Path, splits: dict[Path, Split | None]) -> None:
    """Refuse several configurations of one data set side by side: their rows would be counted twice."""
    places: dict[tuple[Split | None, str], list[Path]] = {}
    for file, split in splits.items():
        if not any("=" in part for part in file.relative_to(root).parts):
            places.setdefault((split, file.name), []).append(file)
    for files in places.values():
        if len(files) > 1:
            names = listed([str(file.relative_to(root)) for file in files], 3)
            raise refusal(root, f"must be one data set, and holds {names}: name the folder that is meant")


def _check_splits(root: Path, splits: dict[Path, Split | None]) -> None:
    untold = [str(file.relative_to(root)) for file, split in splits.items() if split is None]
    rule = "must have files named after their split (train-*, validation-*, test-*), unlike"
    if untold and len(untold) < len(splits):
        raise refusal(root, f"{rule} {listed(untold)}; rename or remove them")
    if len({_SERIAL.sub("#", name.lower()) for name in untold}) > 1:  # parts of one table differ in their numbers only
        raise refusal(root, f"{rule} {listed(untold)}; rename them, or name the one file that is meant")


class Table(Protocol):
    """An open file of rows."""

    schema: pa.Schema
    num_rows: int

    def column(self, name: str) -> pa.ChunkedArray:
        """A whole column."""

    def batches(self, name: str, rows: int) -> Iterator[pa.Array]:
        """A column in pieces of at most `rows` rows."""

    def nbytes(self, field: str) -> int:
        """Roughly the bytes of a field such as `image.bytes`."""

    def nulls(self, field: str) -> int:
        """How many values of a field such as `image.bytes` are null, as far as the file says without being read."""


class _Parquet:
    def __init__(self, file: pq.ParquetFile, path: Path) -> None:
        self._file, self.schema, self.num_rows = file, file.schema_arrow, file.metadata.num_rows
        nbytes = path.stat().st_size
        if self.num_rows > nbytes:
            raise unreadable(path, ValueError(f"{self.num_rows:,} rows in {nbytes:,} bytes"))
        for chunk in self._chunks():  # a small file may fill the memory
            packed, unpacked = chunk.total_compressed_size, chunk.total_uncompressed_size
            if unpacked > _MOST_UNPACKED * packed + _SPARE_UNPACKED:
                reason = f"column {chunk.path_in_schema} unpacks from {packed:,} to {unpacked:,} bytes"
                raise unreadable(path, ValueError(reason))

    def _chunks(self, field: str = "") -> Iterator[pq.ColumnChunkMetaData]:
        metadata = self._file.metadata
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            chunks = map(group.column, range(metadata.num_columns))
            yield from (chunk for chunk in chunks if not field or chunk.path_in_schema == field)

    def column(self, name: str) -> pa.ChunkedArray:
        return self._file.read(columns=[name]).column(name)

    def batches(self, name: str, rows: int) -> Iterator[pa.Array]:
        return (batch.column(0) for batch in self._file.iter_batches(rows, columns=[name]))

    def nbytes(self, field: str) -> int:
        return sum(chunk.total_uncompressed_size for chunk in self._chunks(field))

    def nulls(self, field: str) -> int:
        statistics = [chunk.statistics for chunk in self._chunks(field)]
        return sum(s.null_count for s in statistics if s is not None and s.has_null_count)


class _Arrow:
    def __init__(self, table: pa.Table) -> None:
        table.validate(full=True)  # Arrow trusts what it maps: a flipped bit would end the process
        self._table, self.schema, self.num_rows = table, table.schema, table.num_rows

    def column(self, name: str) -> pa.ChunkedArray:
        return self._table.column(name)

    def batches(self, name: str, rows: int) -> Iterator[pa.Array]:
        for chunk in self._table.column(name).chunks:
            yield from (chunk.slice(start, rows) for start in range(0, len(chunk), rows))

    def nbytes(self, field: str) -> int:
        return int(self._field(field).nbytes)

    def nulls(self, field: str) -> int:
        return int(self._field(field).null_count)

    def _field(self, field: str) -> pa.ChunkedArray:
        name, _, child = field.partition(".")
        column = self._table.column(name)
        return (
            pa.chunked_array([chunk.field(child) for chunk in column.chunks]) if child and column.num_chunks else column
        )


@contextmanager
def opened(path: Path) -> Iterator[Table]:
    """A file of rows, to be read.

    Raises:
        ConfigError: if it is damaged, also while the caller reads from it.
    """
    try:
        with path.open("rb") as file:
            head = file.read(256)
        if format_of(head) == "Git LFS pointer":
            rule = "is a Git LFS pointer, not the file it stands for: fetch it with `git lfs pull`"
            raise refusal(path, rule)
        if suffix(path.name) == ".arrow":
            with pa.memory_map(str(path)) as source:
                reader = pa.ipc.open_file(source) if head.startswith(b"ARROW1") else pa.ipc.open_stream(source)
                yield _Arrow(reader.read_all())
        else:
            with pq.ParquetFile(path, buffer_size=_BUFFER_BYTES) as parquet:
                yield _Parquet(parquet, path)
    except DAMAGE as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> ConfigError:
    """The error for a damaged file."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    kind = "Arrow" if suffix(path.name) == ".arrow" else "Parquet"
    return refusal(path, f"must be a sound {kind} file ({reason})")
