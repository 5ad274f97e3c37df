"""Small image data sets on disk, and short ways to read them, for the tests of sources and stores."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st
from PIL import Image

from trainables.config import ConfigError
from trainables.data.source import Contents
from trainables.data.sources import open_source


def picture(seed: int, width: int = 20, height: int = 20) -> Image.Image:
    """A smooth random RGB image."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def damaged(sound: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """One of these files with some of its bytes changed, and perhaps its end cut off."""

    def damage(encoded: bytes, changes: list[tuple[int, int]], cut: int) -> bytes:
        found = bytearray(encoded)
        for place, value in changes:
            found[place % len(found)] = value
        if cut % 3 == 0:
            del found[cut % len(found) :]
        return bytes(found)

    changes = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8)
    return st.builds(damage, st.sampled_from(sound), changes, st.integers(0, 10_000))


def write_folder(root: Path, counts: Mapping[str, int], width: int = 20, height: int = 20, kind: str = "png") -> Path:
    """Images under `root`: `{"train/cat": 5}` makes five. No two are alike."""
    for number, (folder, count) in enumerate(counts.items()):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            picture(1000 * number + i, width, height).save(root / folder / f"{i:04d}.{kind}")
    return root


def write_parquet(
    path: Path,
    images: Sequence[bytes | None],
    labels: Sequence[int | None],
    names: Sequence[str] | None = None,
    image: str = "image",
    label: str = "label",
) -> Path:
    """A file of the Hugging Face layout; class names go into the schema's metadata."""
    struct = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    rows = [None if data is None else {"bytes": data, "path": f"{i}.png"} for i, data in enumerate(images)]
    schema = pa.schema({image: struct, label: pa.int64()})
    if names is not None:
        features = {image: {"_type": "Image"}, label: {"names": list(names), "_type": "ClassLabel"}}
        schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_arrays([pa.array(rows, struct), pa.array(labels, pa.int64())], schema=schema)
    pq.write_table(table, path, row_group_size=100)
    return path


def cut_parquet(source: Path, target: Path, train: int, test: int) -> Path:
    """The first rows of real Parquet files, as a folder of the same layout."""
    target.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", train), ("test", test)):
        name = f"{split}-00000-of-00001.parquet"
        pq.write_table(pq.read_table(source / name).slice(0, count), target / name, row_group_size=500)
    return target


def python(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Another process that runs `code`, its output in pipes."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def contents(source: str, downloads: Path = Path("/nowhere")) -> Contents:
    return open_source(source).contents(downloads)


def refused(source: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        contents(source)
    assert all(problem.path == "data.source" for problem in caught.value.problems)


def labels_per_split(found: Contents) -> dict[str, Counter[int]]:
    counts: dict[str, Counter[int]] = {}
    for row in found.rows():
        counts.setdefault(row.split, Counter())[row.label] += 1
    return counts
