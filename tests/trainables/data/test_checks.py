"""Leaks, conflicting labels, copies and groups: found when data are prepared, kept apart when they are split."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.mutations import check_clear
from tests.trainables.data.test_likeness import CHANGES, jpeg, mirrored, texture
from tests.trainables.image_files import encode
from trainables.check import Check
from trainables.config import ConfigError, Data, validate
from trainables.data.arrow import EncodedRows, read_labels, read_pixels
from trainables.data.store import PreparedData, described, prepare, request

SPLITS = ("train", "val", "test")


def write(root: Path, images: dict[str, Image.Image]) -> str:
    for name, image in images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / name)
    return f"imagefolder:{root}"


def many(split: str, first: int, count: int, side: int = 32) -> dict[str, Image.Image]:
    """`count` images of two classes, of which no two are alike."""
    prefix = f"{split}/" if split else ""
    return {f"{prefix}{'ab'[i % 2]}/{i:03d}.png": texture(first + i, side) for i in range(count)}


def prepared(source: str, tmp_path: Path, **data: Any) -> PreparedData:
    return prepare(validate(Data, {"source": source, **data}), tmp_path / "cache")


def check(store: PreparedData, name: str) -> Check:
    return next(found for found in store.checks if found.name == name)


def refused(source: str, tmp_path: Path, **data: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        prepared(source, tmp_path, **data)
    check_clear(caught.value)
    return str(caught.value)


def contents(store: PreparedData, split: str) -> list[bytes]:
    path = store.directory / f"{split}.arrow"
    pixels = read_pixels(path)
    return list(EncodedRows(path)) if pixels is None else [image.tobytes() for image in pixels]


class TestTheSplitsOfTheSource:
    @pytest.mark.parametrize("change", ["jpeg 50", "mirrored, jpeg 50", "half", "brighter"])
    @pytest.mark.parametrize("side", [32, 90])
    def test_planted_twins_are_counted_and_named(self, tmp_path: Path, change: str, side: int) -> None:
        images = many("train", 0, 60, side) | many("val", 100, 30, side)
        images |= {f"val/a/twin{i}.png": CHANGES[change](images[f"train/a/{i:03d}.png"]) for i in range(0, 12, 2)}
        found = check(prepared(write(tmp_path / "data", images), tmp_path), "leak")
        assert found.status == "problem"
        assert found.evidence.startswith("6 of 36 val images (17 %) are (nearly) identical to images of train")
        assert re.search(r": val/a/twin\d+.png = train/a/0", found.evidence)
        assert "trainables.inspect" in str(found.next_step)

    @pytest.mark.parametrize("split", ["val", "test"])
    @pytest.mark.parametrize("change", [lambda image: image, jpeg(70), mirrored], ids=["exact", "jpeg", "mirrored"])
    def test_a_copy_of_train_is_refused(
        self, tmp_path: Path, split: str, change: Callable[[Image.Image], Image.Image]
    ) -> None:
        images = many("train", 0, 20)
        images |= {name.replace("train", split): change(image) for name, image in list(images.items())[:14]}
        images |= {f"{split}/a/new.png": texture(500)}
        message = refused(write(tmp_path / "data", images), tmp_path)
        assert f"must have other images in its {split} split ({split}/) than in training (train/)" in message
        assert "14 of its 15 images are (nearly) the same" in message

    def test_with_folds_a_validation_split_is_pooled_and_no_copy_of_anything(self, tmp_path: Path) -> None:
        images = many("train", 0, 30)
        images |= {name.replace("train", "val"): jpeg(80)(image) for name, image in images.items()}
        store = prepared(write(tmp_path / "data", images), tmp_path, folds=3)
        assert "of val" not in check(store, "leak").evidence  # only of the test split, which was set aside from train
        assert sum(store.counts.values()) == 60

    def test_clean_data_are_said_to_be_clean(self, tmp_path: Path) -> None:
        images = many("train", 0, 90) | many("val", 200, 60) | many("test", 300, 60)
        data = Data(source=write(tmp_path / "data", images))
        store = prepare(data, tmp_path / "cache")
        assert {found.status for found in store.checks} == {"ok"}
        assert len(described({request(data): store})) == 3

    def test_what_is_wrong_is_told_below_the_three_lines(self, tmp_path: Path) -> None:
        images = many("train", 0, 40) | many("test", 100, 20) | {"test/a/x.png": texture(2)}
        data = Data(source=write(tmp_path / "data", images))
        store = prepare(data, tmp_path / "cache")
        lines = described({request(data): store})
        assert lines[3].startswith("warning: 1 of 21 test images (4.8 %) are (nearly) identical to images of train: ")
        assert "test/a/x.png = train/a/002.png" in lines[3]
        assert "data.exclude" in lines[3]
        again = prepare(data, tmp_path / "cache")
        assert again.checks == store.checks


def test_identical_images_with_other_labels_are_told(tmp_path: Path) -> None:
    images = many("", 0, 200)
    images |= {"b/exact.png": images["a/000.png"], "b/again.png": jpeg(60)(images["a/002.png"])}
    found = check(prepared(write(tmp_path / "data", images), tmp_path), "labels")
    assert found.status == "problem"
    assert found.evidence.startswith(
        "4 images have a (nearly) identical one with another label: a/000.png [a] = b/exact"
    )
    assert "b/again.png [b]" in found.evidence
    clean = check(prepared(write(tmp_path / "clean", many("", 0, 40)), tmp_path), "labels")
    assert (clean.status, clean.next_step) == ("ok", None)


def test_rare_classes_and_few_validation_images_are_told(tmp_path: Path) -> None:
    images = {f"{name}/{i}.png": texture(1000 * n + i) for n, name in enumerate("xyz") for i in range((260, 90, 40)[n])}
    store = prepared(write(tmp_path / "data", images), tmp_path)
    balance, validation = check(store, "classes"), check(store, "validation")
    assert (balance.status, validation.status) == ("warning", "warning")
    assert balance.evidence == "x has 199 training images, z 31: 6.4 times as many"
    assert "imbalance" in str(balance.next_step)
    assert validation.evidence == "2 of 3 classes have fewer than 20 validation images: y (8), z (3)"
    assert check(prepared(f"imagefolder:{tmp_path / 'data'}", tmp_path, folds=4), "validation").status == "ok"


class TestSplitsOfOurs:
    @pytest.mark.parametrize("seed", [0, 1, 2])
    @pytest.mark.parametrize("folds", [None, 4])
    def test_near_identical_images_are_on_one_side(self, tmp_path: Path, seed: int, folds: int | None) -> None:
        images = many("", 0, 120)
        twins = {f"{name[:-4]}-{i}.png": change(images[name]) for name in list(images)[:40]
                 for i, change in enumerate((jpeg(60), mirrored))}  # fmt: skip
        source = write(tmp_path / "data", images | twins)
        store = prepared(source, tmp_path, split_seed=seed, **({} if folds is None else {"folds": folds}))
        assert check(store, "leak").status == "ok"
        assert sum(store.counts.values()) == 200
        assert store.counts["test"] in range(26, 35)  # 15 % of 200

    def test_images_that_are_all_alike_are_split_all_the_same_and_that_is_told(self, tmp_path: Path) -> None:
        base, noise = np.asarray(texture(0)), np.random.default_rng(0)
        images = {f"{'ab'[i % 2]}/{i}.png": Image.fromarray(base ^ noise.integers(0, 2, base.shape, np.uint8))
                  for i in range(60)}  # fmt: skip
        store = prepared(write(tmp_path / "data", images), tmp_path)
        leaks = [found for found in store.checks if found.name == "leak"]
        assert [found.status for found in leaks] == ["problem"] * 2
        assert "data.group_by" in str(leaks[0].next_step)

    def test_of_real_images_nothing_leaks(self, data_dir: Path, tmp_path: Path) -> None:
        table = pq.read_table(data_dir / "cifar10_jpeg" / "test-00000-of-00001.parquet").slice(0, 3000)
        pq.write_table(table, tmp_path / "a.parquet")
        assert check(prepared(f"parquet:{tmp_path / 'a.parquet'}", tmp_path), "leak").status == "ok"


def test_of_real_images_the_twins_across_the_split_are_found(data_dir: Path, tmp_path: Path) -> None:
    """500 exact and 500 re-encoded ones among 10,000: the clean images among them raise almost nothing."""
    table = pq.read_table(data_dir / "cifar10_jpeg" / "test-00000-of-00001.parquet")
    table = pa.table({"image": table["img"].combine_chunks().field("bytes"), "label": table["label"]})
    train, val = table.slice(0, 8000), table.slice(8000)
    clean, planted = tmp_path / "clean", tmp_path / "planted"
    for folder in (clean, planted):
        folder.mkdir()
        pq.write_table(train, folder / "train.parquet")
    pq.write_table(val, clean / "val.parquet")
    again = [encode(jpeg(70)(Image.open(pa.BufferReader(image.as_buffer())).convert("RGB"))) for image in
             train["image"].slice(1000, 500).combine_chunks()]  # fmt: skip
    images = pa.chunked_array([*val["image"].chunks, *train["image"].slice(0, 500).chunks, pa.array(again)])
    labels = pa.chunked_array([*val["label"].chunks, *train["label"].slice(0, 500).chunks,
                               *train["label"].slice(1000, 500).chunks])  # fmt: skip
    pq.write_table(pa.table({"image": images, "label": labels}), planted / "val.parquet")

    def leaks(folder: Path) -> int:
        found = check_of_val(prepared(f"parquet:{folder}", tmp_path))
        return int(found.evidence.split(" of ")[0].replace(",", ""))

    def check_of_val(store: PreparedData) -> Check:
        return next(found for found in store.checks if found.name == "leak" and "val images" in found.evidence)

    own = leaks(clean)
    assert own <= 20  # real near-duplicates, which were looked at
    assert leaks(planted) in range(985 + own, 1000 + own + 4)


class TestGroups:
    """`data.group_by`: a pattern in names, or a column."""

    @staticmethod
    def videos(root: Path, groups: int, each: int, classes: int = 2) -> str:
        """Groups of images, each of one class but every third of two."""
        images = {}
        for group in range(groups):
            for i in range(each):
                label = "abcdef"[(group + (i % 2 if group % 3 == 0 else 0)) % classes]
                images[f"{label}/video{group:02d}_{i}.png"] = texture(100 * group + i)
        return write(root, images)

    @pytest.mark.parametrize("seed", [0, 1, 2, 3])
    @pytest.mark.parametrize("folds", [None, 3])
    def test_a_group_is_on_one_side(self, tmp_path: Path, seed: int, folds: int | None) -> None:
        source = self.videos(tmp_path / "data", 20, 7)
        asked: dict[str, Any] = {"split_seed": seed} | ({} if folds is None else {"folds": folds, "fold": 1})
        store = prepared(source, tmp_path, group_by=r"(video\d+)_", **asked)
        group = {file_pixels(path): path.name[:7] for path in (tmp_path / "data").rglob("*.png")}
        sides = {split: {group[image] for image in contents(store, split)} for split in SPLITS}
        assert sum(map(len, sides.values())) == len(set.union(*sides.values())) == 20
        for split in SPLITS:
            assert set(read_labels(store.directory / f"{split}.arrow").tolist()) == {0, 1}
        assert store.counts["test"] in (14, 21, 28)
        assert "20 groups by (video" in store.description[2]

    def test_a_column_of_a_table(self, tmp_path: Path) -> None:
        images = [encode(texture(i)) for i in range(60)]
        columns = {"image": images, "label": [i % 2 for i in range(60)], "patient": [i // 5 for i in range(60)]}
        pq.write_table(pa.table(columns), tmp_path / "a.parquet")
        source = f"parquet:{tmp_path / 'a.parquet'}"
        store = prepared(source, tmp_path, group_by="patient")
        assert "left out: none" in store.description[2]
        place = {np.asarray(texture(i)).transpose(2, 0, 1).tobytes(): i // 5 for i in range(60)}
        sides = [{place[image] for image in contents(store, split)} for split in SPLITS]
        assert sum(map(len, sides)) == len(set.union(*sides)) == 12
        by_name = prepared(source, tmp_path, group_by=r"row (\d)")
        assert by_name.fingerprint != store.fingerprint
        assert prepared(source, tmp_path).fingerprint not in (by_name.fingerprint, store.fingerprint)

    def test_groups_that_the_source_divides_are_a_leak(self, tmp_path: Path) -> None:
        images = {f"{split}/{'ab'[i % 2]}/p{(i + 7 * n) // 4}_{i}.png": texture(100 * n + i)
                  for n, split in enumerate(("train", "test")) for i in range(40)}  # fmt: skip
        store = prepared(write(tmp_path / "data", images), tmp_path, group_by=r"(p\d+)_")
        found = check(store, "groups")
        assert found.status == "problem"
        assert "groups in test are in train too" in found.evidence
        assert check(store, "leak").status == "ok"

    def test_what_has_no_groups_is_refused_by_name(self, tmp_path: Path) -> None:
        source = self.videos(tmp_path / "data", 6, 4)
        Image.new("RGB", (32, 32)).save(tmp_path / "data/a/odd.png")
        message = refused(source, tmp_path, group_by=r"(video\d+)_")
        assert message.startswith(
            "data.group_by: must find a group in the name of every image, and finds none in 1 of 25"
        )
        assert "a/odd.png" in message
        assert "finds none in 25 of 25" in refused(source, tmp_path, group_by=r"(patient\d+)")
        for pattern, why in (("video", "has none"), ("(a)(b)", "has 2"), ("(", "no regular expression")):
            with pytest.raises(ConfigError, match=why):
                validate(Data, {"source": source, "group_by": pattern})

    def test_too_few_groups_a_class_are_refused_by_name(self, tmp_path: Path) -> None:
        images = {f"a/p{i % 9}_{i}.png": texture(i) for i in range(36)}
        images |= {f"b/q{i % 2}_{i}.png": texture(100 + i) for i in range(20)}
        source = write(tmp_path / "data", images)
        message = refused(source, tmp_path, group_by=r"([pq]\d)_")
        assert "at least 3 groups a class for train and val and test, too few have b (2)" in message

    def test_a_column_that_is_not_there_or_not_filled(self, tmp_path: Path) -> None:
        columns = {"image": [encode(texture(i)) for i in range(20)], "label": [i % 2 for i in range(20)],
                   "who": ["x", None] * 10, "box": [[1, 2]] * 20}  # fmt: skip
        pq.write_table(pa.table(columns), tmp_path / "a.parquet")
        source = f"parquet:{tmp_path / 'a.parquet'}"
        assert "must name a column of the table (who, box), or be a pattern" in refused(
            source, tmp_path, group_by="whom"
        )
        assert "10 of 20 in" in refused(source, tmp_path, group_by="who")
        assert "of type list" in refused(source, tmp_path, group_by="box")


def file_pixels(path: Path) -> bytes:
    return np.asarray(Image.open(path)).transpose(2, 0, 1).tobytes()


class TestExclude:
    def test_what_a_list_names_is_left_out_and_counted(self, tmp_path: Path) -> None:
        source = write(tmp_path / "data", {name.replace("b/", "#b/"): image for name, image in many("", 0, 60).items()})
        (tmp_path / "list.txt").write_text("#\n# blurred\na/000.png\n\n #b/001.png \na/000.png\n", encoding="utf-8")
        store = prepared(source, tmp_path, exclude=str(tmp_path / "list.txt"))
        assert sum(store.counts.values()) == 58
        assert store.description[2].endswith("left out: 2 listed in list.txt")
        there = shutil.copytree(tmp_path / "data", tmp_path / "without")
        (there / "a/000.png").unlink()
        (there / "#b/001.png").unlink()
        assert prepared(f"imagefolder:{there}", tmp_path).fingerprint == store.fingerprint

    def test_the_content_of_the_list_counts_not_its_place(self, tmp_path: Path) -> None:
        source = write(tmp_path / "data", many("", 0, 60))
        (tmp_path / "one.txt").write_text("a/000.png\n")
        (tmp_path / "two.txt").write_text("a/000.png")
        one, two = (prepared(source, tmp_path, exclude=str(tmp_path / f"{name}.txt")) for name in ("one", "two"))
        assert one.fingerprint == two.fingerprint
        (tmp_path / "one.txt").write_text("a/002.png\n")
        assert prepared(source, tmp_path, exclude=str(tmp_path / "one.txt")).fingerprint != one.fingerprint

    def test_rows_of_tables_and_broken_images(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        for n, split in enumerate(("train", "val")):
            images = [{"bytes": b"broken" if i == 3 else encode(texture(100 * n + i)), "path": f"{i} (1).png"}
                      for i in range(30)]  # fmt: skip
            rows = pa.table({"image": images, "label": [i % 2 for i in range(30)]})
            pq.write_table(rows, tmp_path / "data" / f"{split}.parquet")
        source, names = f"parquet:{tmp_path / 'data'}", tmp_path / "list.txt"
        assert "train.parquet row 3 (3 (1).png)" in refused(source, tmp_path)
        names.write_text("train.parquet row 3\nval.parquet row 3 (3 (1).png)\n")
        assert sum(prepared(source, tmp_path, exclude=str(names)).counts.values()) == 58
        names.write_text("train.parquet row 3\n")
        store = prepared(source, tmp_path, exclude=str(names), on_corrupt="skip")
        assert len(store.skipped) == 1

    def test_lines_that_match_nothing_are_refused_by_name(self, tmp_path: Path) -> None:
        source = write(tmp_path / "data", many("", 0, 40))
        (tmp_path / "list.txt").write_text("a/000.png\na/nothing.png\nb\n")
        message = refused(source, tmp_path, exclude=str(tmp_path / "list.txt"))
        assert "has 2 that are none: a/nothing.png, b;" in message
        assert "No such file" in refused(source, tmp_path, exclude=str(tmp_path / "gone.txt"))
        (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
        assert "no text in UTF-8" in refused(source, tmp_path, exclude=str(tmp_path / "list.txt"))

    def test_leaving_the_twins_out_mends_a_leak(self, tmp_path: Path) -> None:
        images = many("train", 0, 60) | many("val", 100, 40)
        images |= {f"val/a/twin{i}.png": images[f"train/a/{i:03d}.png"] for i in range(0, 12, 2)}
        source = write(tmp_path / "data", images)
        (tmp_path / "list.txt").write_text("".join(f"val/a/twin{i}.png\n" for i in range(0, 12, 2)))
        assert check(prepared(source, tmp_path), "leak").status == "problem"
        assert check(prepared(source, tmp_path, exclude=str(tmp_path / "list.txt")), "leak").status == "ok"


def test_keys_that_are_not_set_are_in_no_dump() -> None:
    assert not {"group_by", "exclude"} & Data(source="digits").model_dump().keys()
    asked = validate(Data, {"source": "digits", "group_by": "(image .)", "exclude": "a.txt"})
    assert asked.model_dump()["group_by"] == "(image .)"
    assert request(asked)[-4::2] == ("group_by", "exclude")
