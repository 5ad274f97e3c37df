"""Parquet files of images: splits, labels and class names, and what is refused."""

from __future__ import annotations

import contextlib
import json
import os
import resource
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mutations import check_clear
from tests.trainables.image_files import (
    contents,
    encode,
    labels_per_split,
    picture,
    refused,
    write_parquet,
)
from trainables.config import ConfigError, Data
from trainables.data.source import Row
from trainables.data.store import prepare

PICTURES = [encode(picture(i)) for i in range(24)]
HALVES = [i % 2 for i in range(24)]


def test_the_real_files_have_their_names_and_splits(data_dir: Path) -> None:
    found = contents(f"parquet:{data_dir}/cifar10_jpeg")
    assert found.class_names[:3] == ("airplane", "automobile", "bird")
    assert found.count == 60_000
    first = next(found.rows())
    assert (first.split, first.name.split(" (")[0]) == ("test", "test-00000-of-00001.parquet row 0")
    assert isinstance(first.image, bytes)
    assert found.nbytes == pytest.approx(60_000 * len(first.image), rel=0.5)


def test_splits_come_from_the_names_of_files_or_their_folders(tmp_path: Path) -> None:
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-0", "more/test/0000"):
        write_parquet(tmp_path / f"{name}.parquet", PICTURES[:4], HALVES[:4])
    found = labels_per_split(contents(f"parquet:{tmp_path}"))
    assert found == {"train": {0: 4, 1: 4}, "val": {0: 2, 1: 2}, "test": {0: 2, 1: 2}}


def test_one_file_of_any_name_is_training_data(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "flowers.parquet", PICTURES, HALVES, ["rose", "tulip"], "img", "fine_label")
    found = contents(f"parquet:{file}")
    assert found.class_names == ("rose", "tulip")
    assert labels_per_split(found) == {"train": {0: 12, 1: 12}}
    assert [row.image for row in found.rows()] == PICTURES


def test_without_names_the_numbers_name_the_classes(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", PICTURES, [7 if i % 2 else 3 for i in range(24)])
    found = contents(f"parquet:{file}")
    assert found.class_names == ("3", "7")
    assert [row.label for row in found.rows()] == HALVES


def test_rows_without_bytes_are_empty_images(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", [None, *PICTURES[1:]], HALVES)
    first: Row = next(contents(f"parquet:{file}").rows())
    assert first.image == b""


@pytest.mark.parametrize(
    ("labels", "names", "match"),
    [
        ([0, 1, 2] * 8, ["a", "b"], "labels below 2, the number of class names: row 2 has 2"),
        ([0, -1, 1] * 8, None, "labels 0 or more.*row 1 has -1"),
        ([0, 1, None] * 8, ["a", "b"], "8 of `label` are null, the first in row 2"),
        ([0] * 24, None, "at least 2 classes"),
        ([0, 1] * 12, ["a", "b", "c"], "training images of every class: add some of c"),
        ([0, 1] * 12, ["a", "a"], "no list of distinct names"),
    ],
)
def test_unusable_labels_are_refused(
    tmp_path: Path, labels: list[int | None], names: list[str] | None, match: str
) -> None:
    refused(f"parquet:{write_parquet(tmp_path / 'a.parquet', PICTURES, labels, names)}", match)


def test_missing_columns_are_refused(tmp_path: Path) -> None:
    struct = pa.array([{"bytes": data} for data in PICTURES])
    for name, columns, match in (
        ("none", {"image": struct, "id": HALVES}, "a label column; its columns are image: struct<.*, id: int64"),
        ("two", {"left": struct, "right": struct, "label": HALVES}, "one image column, and may have left, right"),
        ("pixels", {"pixel0": HALVES, "pixel1": HALVES, "label": HALVES}, "one image column, the bytes of image files"),
    ):
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
        refused(f"parquet:{tmp_path / name}.parquet", match)


def test_classes_that_only_the_test_split_has_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", PICTURES, HALVES)
    write_parquet(tmp_path / "test.parquet", PICTURES, [i % 3 for i in range(24)])
    refused(f"parquet:{tmp_path}", "every class in its test split, and has none of 2")


def test_files_that_disagree_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", PICTURES, HALVES, ["a", "b"])
    write_parquet(tmp_path / "train-1.parquet", PICTURES, HALVES, ["b", "a"])
    refused(f"parquet:{tmp_path}", "same class names in every file")
    (tmp_path / "train-1.parquet").rename(tmp_path / "extra.parquet")
    refused(f"parquet:{tmp_path}", "named after their split .* unlike extra.parquet")


def test_a_test_split_alone_is_refused(tmp_path: Path) -> None:
    refused(f"parquet:{write_parquet(tmp_path / 'test-0.parquet', PICTURES, HALVES)}", "must hold training images")


def test_what_is_no_parquet_is_refused(tmp_path: Path) -> None:
    refused(f"parquet:{tmp_path}/gone.parquet", "must name an existing Parquet file")
    refused(f"parquet:{tmp_path}", r"files named \*.parquet")
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    refused(f"parquet:{tmp_path}", "must be a sound Parquet file")


def test_damage_in_the_middle_of_a_file_is_reported(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    file = write_parquet(tmp_path / "a.parquet", [noise.bytes(3000) for _ in range(240)], [i % 2 for i in range(240)])
    whole = file.read_bytes()
    header = whole.index(b"PAR1", 1) if b"PAR1" in whole[1:-4] else 4
    file.write_bytes(whole[:header] + bytes(2000) + whole[header + 2000 :])  # the header of the first page of images
    with pytest.raises(ConfigError, match="must be a sound Parquet file"):
        list(contents(f"parquet:{file}").rows())


@given(changes=st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_bytes_are_reported_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    file = write_parquet(tmp_path_factory.mktemp("damaged") / "a.parquet", PICTURES[:6], HALVES[:6], ["a", "b"])
    damaged = bytearray(file.read_bytes())
    for place, value in changes:
        damaged[-place % len(damaged)] = value  # the footer is at the end
    file.write_bytes(damaged)
    with contextlib.suppress(ConfigError):  # anything else fails the test
        list(contents(f"parquet:{file}").rows())


STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})


FEATURES = {"info": {"features": {"image": {"_type": "Image"}, "label": {"names": ["a", "b"], "_type": "ClassLabel"}}}}


def with_metadata(path: Path, metadata: bytes) -> Path:
    rows = [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(PICTURES)]
    schema = pa.schema({"image": STRUCT, "label": pa.int64()}).with_metadata({"huggingface": metadata})
    pq.write_table(pa.Table.from_arrays([pa.array(rows, STRUCT), pa.array(HALVES)], schema=schema), path)
    return path


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
