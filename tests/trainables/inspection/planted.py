"""Real images with faults that are known, as Parquet files and folders."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.trainables.image_files import encode

__all__ = ["Row", "changed", "cifar_rows", "copied", "mislabelled", "write_splits"]

Row = dict[str, Any]


def cifar_rows(data_dir: Path, count: int) -> list[Row]:
    """The first of CIFAR-10's test images, which the pretrained networks have not seen."""
    (path,) = (data_dir / "cifar10_jpeg").glob("test*")
    rows: list[Row] = pq.read_table(path).slice(0, count).to_pylist()
    return rows


def opened(row: Row) -> Image.Image:
    return Image.open(io.BytesIO(row["img"]["bytes"])).convert("RGB")


def copied(row: Row, name: str) -> Row:
    return {"img": {"bytes": row["img"]["bytes"], "path": name}, "label": row["label"]}


def changed(row: Row, change: Callable[[Image.Image], Image.Image], name: str, quality: int = 95) -> Row:
    """A copy of an image after a change of its pixels, encoded anew."""
    return {"img": {"bytes": encode(change(opened(row)), "JPEG", quality=quality), "path": name}, "label": row["label"]}


def mislabelled(rows: Sequence[Row], numbers: Sequence[int], classes: int, seed: int = 0) -> list[Row]:
    rng = np.random.default_rng(seed)
    wrong = {number: int((rows[number]["label"] + rng.integers(1, classes)) % classes) for number in numbers}
    return [{**row, "label": wrong.get(number, row["label"])} for number, row in enumerate(rows)]


def write_splits(folder: Path, **splits: Sequence[Row]) -> str:
    """A Parquet file for each split; returns the source."""
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("img", image), ("label", pa.int64())])
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in splits.items():
        pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), folder / f"{name}.parquet")
    return f"parquet:{folder}"
