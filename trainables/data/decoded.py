"""Encoded images decoded once into a mapped file of pixels, one file a size, so that trials don't decode them again."""

from __future__ import annotations

import logging
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from filelock import FileLock

from trainables.cpu import available_cpus
from trainables.data.arrow import EncodedRows, read_labels, read_pixels, write_pixels
from trainables.data.decode import Pixels, Size, Square, decode_as
from trainables.data.image_file import quiet

__all__ = ["LARGEST_BYTES", "decode_rows", "materialize"]

log = logging.getLogger(__name__)

LARGEST_BYTES = 8 * 2**30
_SPARE_BYTES = 256 * 2**20
_ROWS_AT_ONCE = 256

_DECODING = 2  # raise it when the same file is decoded to other pixels


def decode_rows(
    pool: ThreadPoolExecutor, encoded: EncodedRows, rows: Sequence[int], sizes: Sequence[Size]
) -> Iterator[Pixels]:
    """The images at `rows`, uint8 [3, h, w] each, in `sizes`, one for each of them."""

    def decoded(row: int, size: Size) -> Pixels:
        return decode_as(encoded[row], size)

    with quiet():
        for start in range(0, len(rows), _ROWS_AT_ONCE):  # a few at a time: all of them may not fit into memory
            part = slice(start, start + _ROWS_AT_ONCE)
            yield from pool.map(decoded, rows[part], sizes[part])


def materialize(path: Path, count: int, size: Size) -> Pixels | None:
    """The first rows of a file of encoded images, at least `count`, as mapped pixels [n, 3, h, w].

    They are decoded at the first call and stored beside the file; processes that ask at once wait for one of them. None
    if that would take more than `LARGEST_BYTES`, or more disk than is free, or the folder can't be written.
    """
    height, width = (size.side, size.side) if isinstance(size, Square) else size
    reduced = "-reduced" if isinstance(size, Square) and size.reduced else ""
    name = f"{path.stem}-{height}x{width}{reduced}-v{_DECODING}"
    if (ready := _ready(path, name, count)) is not None:
        return ready
    needed = math.prod((count, 3, height, width))
    if needed > LARGEST_BYTES or not os.access(path.parent, os.W_OK):
        return None
    try:
        with FileLock(path.parent.parent / "locks" / f"{path.parent.name}-{name}.lock"):
            if (ready := _ready(path, name, count)) is not None:
                return ready
            for remains in path.parent.glob(f"tmp-{name}-*"):  # of a process that died: this one has the lock
                remains.unlink()
            if shutil.disk_usage(path.parent).free < needed + _SPARE_BYTES:
                log.warning("%s: too little disk for decoded images, they are decoded for every batch", path)
                return None
            temporary = path.parent / f"tmp-{name}-{uuid.uuid4().hex}"
            try:
                with ThreadPoolExecutor(available_cpus()) as pool:
                    images = decode_rows(pool, EncodedRows(path), range(count), [size] * count)
                    write_pixels(temporary, read_labels(path)[:count], (height, width), (i.tobytes() for i in images))
                temporary.rename(path.parent / f"{name}-{count}.arrow")
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s: decoded images can't be stored (%s), they are decoded for every batch", path, error)
        return None
    return _ready(path, name, count)


def _ready(path: Path, name: str, count: int) -> Pixels | None:
    counts = (int(found.stem.rpartition("-")[2]) for found in path.parent.glob(f"{name}-*.arrow"))
    enough = sorted(n for n in counts if n >= count)
    return read_pixels(path.parent / f"{name}-{enough[0]}.arrow") if enough else None
