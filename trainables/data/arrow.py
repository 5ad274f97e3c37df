"""Labelled images in Arrow IPC files: uint8 pixels that a process maps as one tensor, or encoded images one by one.

Pixels are the canonical fixed-shape tensor type in a single record batch, so that all of them lie contiguously in the
file; encoded images are binary, in as many batches as memory asks for.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainables.config import ConfigError

__all__ = ["EncodedRows", "read_labels", "read_pixels", "write_encoded", "write_pixels"]

_BATCH_BYTES = 32 * 2**20
_ENCODED_SCHEMA = pa.schema({"image": pa.binary(), "label": pa.int64()})


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_pixels(path: Path, labels: NDArray[np.int64], shape: tuple[int, int], images: Iterable[bytes]) -> None:
    """Write one image per label, each the bytes of uint8 [3, *shape]; only one is held in memory at a time.

    Raises:
        OSError: if the disk is full or the file can't be written.
    """
    values = math.prod((len(labels), 3, *shape))
    # The file is laid out over zero pages, which cost no memory, and filled in place afterwards: Arrow would want all
    # pixels in memory to write them as one batch.
    zeros = mmap.mmap(-1, values, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
    flat = pa.Array.from_buffers(pa.uint8(), values, [None, pa.py_buffer(zeros)])
    storage = pa.FixedSizeListArray.from_arrays(flat, values // len(labels))
    column = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.uint8(), (3, *shape)), storage)
    batch = pa.record_batch({"image": column, "label": pa.array(labels)})
    options = pa.ipc.IpcWriteOptions(allow_64bit=True)  # more than 2^31 values
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    offset, _ = _layout(*_table(path))
    with path.open("r+b") as file:
        file.seek(offset)
        written = sum(file.write(image) for image in images)
    if written != values:
        raise ValueError(f"{path}: {written} bytes of pixels for {values}")
    _sync(path)


def _table(path: Path) -> tuple[pa.Table, pa.Buffer]:
    """A file's table, mapped, and the buffer of the whole file that it lies in.

    Arrow trusts what it maps: a flipped bit among the offsets of the images ends the process. So they are gone through
    once; of the images themselves nothing is read.
    """
    try:
        with pa.memory_map(str(path)) as source:
            whole = source.read_buffer()
        table = pa.ipc.open_file(pa.BufferReader(whole)).read_all()
        table.validate(full=True)
        _check_columns(table)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        rule = "must be a sound file of prepared images: remove its folder, and they are prepared again"
        raise ConfigError.single(str(path), str(error).partition("\n")[0], rule) from None
    return table, whole


def _check_columns(table: pa.Table) -> None:
    if table.column_names != ["image", "label"] or any(column.null_count for column in table.columns):
        raise ValueError(f"columns {table.column_names}")
    image, label = table.schema.types
    if label != pa.int64() or (image != pa.binary() and not _is_pixels(image, table.column("image"))):
        raise ValueError(f"columns of {image} and {label}")


def _is_pixels(kind: pa.DataType, column: pa.ChunkedArray) -> bool:
    # Arrow does not hold the shape against the length of the lists that the pixels are stored in.
    return (
        isinstance(kind, pa.FixedShapeTensorType)
        and column.num_chunks == 1
        and kind == pa.fixed_shape_tensor(pa.uint8(), kind.shape)
        and (len(kind.shape), kind.shape[0]) == (3, 3)
        and math.prod(kind.shape) == kind.storage_type.list_size > 0
    )


def _layout(table: pa.Table, whole: pa.Buffer) -> tuple[int, tuple[int, int, int, int]]:
    """Where the pixels of a file begin, in bytes, and their shape [n, 3, h, w]; see `_table`."""
    column = table.column("image")
    values = column.chunk(0).storage.flatten().buffers()[1]
    channels, height, width = column.type.shape
    return values.address - whole.address, (table.num_rows, channels, height, width)


def read_pixels(path: Path) -> NDArray[np.uint8] | None:
    """The pixels of a file, [n, 3, h, w], mapped and not copied; None if it holds encoded images.

    The mapping is private: writing into it changes neither the file nor what other processes see.

    Raises:
        ConfigError: if the file is damaged.
    """
    table, whole = _table(path)
    if table.schema.field("image").type == pa.binary():
        return None
    offset, shape = _layout(table, whole)
    return np.memmap(path, np.uint8, "c", offset, shape)


def read_labels(path: Path) -> NDArray[np.int64]:
    """A copy of the labels of a file.

    Raises:
        ConfigError: if the file is damaged.
    """
    chunks = _table(path)[0].column("label").chunks
    return np.concatenate([np.empty(0, np.int64), *map(np.from_dlpack, chunks)])  # to_numpy would load pandas


def write_encoded(path: Path, labels: NDArray[np.int64], images: Iterable[bytes]) -> None:
    """Write one encoded image per label.

    Raises:
        OSError: if the disk is full or the file can't be written.
    """
    rows = zip(images, labels.tolist(), strict=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, _ENCODED_SCHEMA) as writer:
        for part in _batches(rows):
            writer.write_batch(pa.record_batch(list(map(list, zip(*part, strict=True))), schema=_ENCODED_SCHEMA))
    _sync(path)


def _batches(rows: Iterator[tuple[bytes, int]]) -> Iterator[list[tuple[bytes, int]]]:
    part: list[tuple[bytes, int]] = []
    size = 0
    for row in rows:
        part.append(row)
        size += len(row[0])
        if size >= _BATCH_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


class EncodedRows:
    """The images of a file that `write_encoded` wrote, mapped: `rows[i]` copies the bytes of one.

    Raises:
        ConfigError: if the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._column = _table(path)[0].column("image")

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, row: int) -> bytes:
        return bytes(self._column[row].as_py())
