"""Parquet files that are damaged or made to hurt: prepared, or refused in clear words."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mutations import check_clear, damaged, mutated, read_or_refused
from tests.trainables.image_files import contents, encode, picture, write_parquet
from trainables.config import ConfigError, Data
from trainables.data.store import prepare

PICTURES = [encode(picture(i, 8, 8)) for i in range(12)]
HALVES = [i % 2 for i in range(12)]
STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_parquet(tmp_path_factory.mktemp("sound") / "a.parquet", PICTURES, HALVES, ["a", "b"]).read_bytes()


@given(data=st.data())
def test_a_damaged_file_is_prepared_or_refused(
    tmp_path_factory: pytest.TempPathFactory, sound: bytes, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "a.parquet").write_bytes(data.draw(damaged(sound)))
    store = read_or_refused(lambda: prepare(Data(source=f"parquet:{folder / 'a.parquet'}"), folder / "cache"))
    if store is not None:
        assert sum(store.counts.values()) <= len(PICTURES)


FEATURES = {"info": {"features": {"image": {"_type": "Image"}, "label": {"names": ["a", "b"], "_type": "ClassLabel"}}}}


def with_metadata(path: Path, metadata: bytes) -> Path:
    rows = [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(PICTURES)]
    schema = pa.schema({"image": STRUCT, "label": pa.int64()}).with_metadata({"huggingface": metadata})
    pq.write_table(pa.Table.from_arrays([pa.array(rows, STRUCT), pa.array(HALVES)], schema=schema), path)
    return path


@given(features=mutated(FEATURES))
def test_mutated_features_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, features: Any) -> None:
    path = with_metadata(tmp_path_factory.mktemp("features") / "a.parquet", json.dumps(features).encode())
    found = read_or_refused(lambda: contents(f"parquet:{path}"))
    assert found is None or len(found.class_names) == 2


@pytest.mark.parametrize("metadata", [b"[" * 100_000, b"\xff", b'{"info": 1' + b"0" * 9000 + b"}"])
def test_hostile_metadata_are_refused(tmp_path: Path, metadata: bytes) -> None:
    with pytest.raises(ConfigError, match="no JSON") as caught:
        contents(f"parquet:{with_metadata(tmp_path / 'a.parquet', metadata)}")
    check_clear(caught.value)


def test_class_names_of_half_characters_are_replaced(tmp_path: Path) -> None:
    features = json.dumps(FEATURES).replace('"b"', '"\\ud800"')
    file = with_metadata(tmp_path / "a.parquet", features.encode())
    assert prepare(Data(source=f"parquet:{file}"), tmp_path / "cache").class_names == ("a", "?")


def limited_growth(source: str, match: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigError, match=match) as caught:
        contents(source)
    check_clear(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_a_small_file_of_very_many_rows_is_refused(tmp_path: Path) -> None:
    rows = 3_000_000
    table = pa.table({"image": pa.nulls(rows, STRUCT), "label": pa.repeat(pa.scalar(1), rows)})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
    limited_growth(f"parquet:{tmp_path / 'a.parquet'}", r"3,000,000 rows in [\d,]+ bytes")


def test_a_small_file_of_very_large_images_is_refused(tmp_path: Path) -> None:
    rows = [{"bytes": bytes(70_000_000), "path": "a.png"}, {"bytes": b"", "path": "b.png"}]
    table = pa.table({"image": pa.array(rows, STRUCT), "label": [0, 1]})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
    del rows, table
    limited_growth(f"parquet:{tmp_path / 'a.parquet'}", r"image.bytes unpacks from [\d,]+ to 70,000,\d+ bytes")


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    images = pa.array([{"bytes": data, "path": ""} for data in PICTURES], STRUCT)
    labels = pa.array(HALVES)
    for names in (["image", "label", "label"], ["image", "image", "label"]):
        columns = [labels if name == "label" else images for name in names]
        pq.write_table(pa.Table.from_arrays(columns, names=names), tmp_path / "a.parquet")
        with pytest.raises(ConfigError, match="columns of one name: image, "):
            contents(f"parquet:{tmp_path / 'a.parquet'}")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "train.parquet")
    with pytest.raises(ConfigError, match=r"regular files only, unlike train\.parquet"):
        contents(f"parquet:{tmp_path}")
