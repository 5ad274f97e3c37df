"""What people have on disk: each kind of folder and table is prepared and told in three lines, or refused in one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.mutations import check_clear
from tests.trainables.image_files import encode, picture, write_folder
from trainables.config import ConfigError, Data, validate
from trainables.data.description import val_is_taken_from_train
from trainables.data.store import described, prepare, request

Make = Callable[[Path], object]


def folders(*names: str, count: int = 6) -> Make:
    return lambda root: write_folder(root, dict.fromkeys(names, count))


def both(*makes: Make) -> Make:
    def make(root: Path) -> None:
        for one in makes:
            one(root)

    return make


def files(*names: str, content: bytes = b"something") -> Make:
    def make(root: Path) -> None:
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)

    return make


def images(convert: Callable[[Image.Image, int], Image.Image], kind: str, count: int = 6, **options: Any) -> Make:
    """Two classes of images that were converted; `kind` is the extension."""

    def make(root: Path) -> None:
        for label, name in enumerate(("cat", "dog")):
            (root / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                convert(picture(100 * label + i), i).save(root / name / f"{i}.{kind}", **options)

    return make


def told(source: str, cache: Path, **data: Any) -> tuple[str, ...]:
    asked = validate(Data, {"source": source, **data})
    store = prepare(asked, cache)
    lines = described({request(asked): store})
    assert all("have fewer than 20 validation images" in line for line in lines[3:])
    assert json.loads((store.directory / "meta.json").read_text())["description"] == list(store.description)
    assert prepare(asked, cache) == store  # read from the record
    return lines[:3]


def refused(source: str, cache: Path, **data: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        prepare(validate(Data, {"source": source, **data}), cache)
    check_clear(caught.value)
    (problem,) = caught.value.problems
    return str(problem)


def half(image: Image.Image, i: int) -> Image.Image:
    """Every other image is half transparent black."""
    image = image.convert("RGBA")
    image.putalpha(Image.new("L", image.size, 255 if i % 2 else 0))
    return image


def twelve_bits(image: Image.Image, _: int) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 16)


def as_it_is(image: Image.Image, _: int) -> Image.Image:
    return image


SMALL = "20 x 20 pixels"
CUT = "splits: train 8 (the rest), val 2 (10 % of the rest), test 2 (15 % of all)"
SIX = "2 classes of 6 images: cat (6), dog (6)"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n"

FOLDERS: dict[str, tuple[Make, tuple[str, str, str]]] = {
    "splits in other words": (
        lambda root: write_folder(
            root, {"Training/cat": 6, "Training/dog": 6, "dev/cat": 6, "hold-out/cat": 2, "hold-out/dog": 2}
        ),
        ("2 classes: cat (14), dog (8); rarest: dog (8)",
         "splits: train 12 (Training/), val 6 (dev/, none of dog), test 4 (hold-out/)",
         f"images: {SMALL}; 22 PNG RGB; left out: none"),
    ),
    "splits under the name of the data, each in itself": (
        folders("seg_train/seg_train/cat", "seg_train/seg_train/dog", "seg_test/seg_test/cat", "seg_test/seg_test/dog"),
        ("2 classes of 12 images: cat (12), dog (12)",
         "splits: train 10 (seg_train/), val 2 (10 % of train), test 12 (seg_test/)",
         f"images: {SMALL}; 24 PNG RGB; left out: none"),
    ),
    "splits in short": (
        folders("trn/cat", "trn/dog", "te/cat", "te/dog"),
        ("2 classes of 12 images: cat (12), dog (12)",
         "splits: train 10 (trn/), val 2 (10 % of train), test 12 (te/)",
         f"images: {SMALL}; 24 PNG RGB; left out: none"),
    ),
    "splits in one word": (
        folders("traindir/cat", "traindir/dog", "valfolder/cat", "valfolder/dog", "LOST.DIR", "@tmp"),
        ("2 classes of 12 images: cat (12), dog (12)",
         "splits: train 10 (traindir/), val 12 (valfolder/), test 2 (15 % of train)",
         f"images: {SMALL}; 24 PNG RGB; left out: 1 @tmp, 1 LOST.DIR"),
    ),
    "classes with names like short splits, and years below them": (
        folders("te/2023", "te/2024", "to/2023", "to/2024", count=3),
        ("2 classes of 6 images: te (6), to (6)", CUT,
         f"images: {SMALL}; 12 PNG RGB; folders inside a class count to it (te/2023, te/2024, to/2023 and 1 more); "
         "left out: none"),
    ),
    "splits inside classes": (
        folders("cat/train", "cat/test", "dog/train"),
        ("2 classes: cat (12), dog (6); rarest: dog (6)",
         "splits: train 10 (*/train/), val 2 (10 % of train), test 6 (*/test/, none of dog)",
         f"images: {SMALL}; 18 PNG RGB; left out: none"),
    ),
    "two levels too high": (
        both(folders("archive/data/cat", "archive/data/dog/young"), files("archive/README.md", "archive/x.zip")),
        (SIX, CUT, f"images: {SMALL}; 12 PNG RGB; found in archive/data/; folders inside a class count to it "
                   "(archive/data/dog/young); left out: 1 .md, 1 .zip"),
    ),
    "junk and lists": (
        both(
            folders("cat", "dog", "@eaDir/cat", "cat/@eaDir/x", "$RECYCLE.BIN/S-1", "lost+found", "dog/.thumbnails"),
            files("cat/._0.png", "Thumbs.db", "dog/desktop.ini", "labels.csv", "cat/a.txt", "cat/b.txt"),
        ),
        (SIX, CUT, f"images: {SMALL}; 12 PNG RGB; left out: 2 .txt, 1 .csv, 2 @eaDir, 1 $RECYCLE.BIN, 1 Thumbs.db, "
                   "1 lost+found, 1 ._*, 1 .thumbnails and 1 more"),
    ),
    "an empty split": (
        both(folders("train/cat", "train/dog"), lambda root: (root / "test").mkdir()),
        (SIX, "splits: train 8 (train/), val 2 (10 % of the rest), test 2 (15 % of all, as test/ holds no images)",
         f"images: {SMALL}; 12 PNG RGB; left out: none"),
    ),
    "TIFF of several pages": (
        images(as_it_is, "tif", save_all=True, append_images=[picture(7)]),
        (SIX, CUT, f"images: {SMALL}; 12 TIFF RGB; 12 first page of several; left out: none"),
    ),
    "gray of 12 bits": (
        images(twelve_bits, "png"),
        (SIX, CUT, f"images: {SMALL}; 12 PNG 16-bit gray; gray from 0 to 3,712 scaled to 0..255, the same for all "
                   "images; left out: none"),
    ),
    "transparency": (
        images(half, "png"),
        (SIX, CUT, f"images: {SMALL}; 12 PNG RGBA; 6 transparent, laid on white; left out: none"),
    ),
    "extensions that lie": (
        both(folders("cat", "dog"), files("cat/x.jpg", content=encode(picture(90), "GIF")),
             files("dog/x.png", content=encode(picture(91), "PPM"))),
        ("2 classes of 7 images: cat (7), dog (7)",
         "splits: train 10 (the rest), val 2 (10 % of the rest), test 2 (15 % of all)",
         f"images: {SMALL}; 12 PNG RGB, 1 GIF palette, 1 PPM RGB; left out: none"),
    ),
    "images of many sizes": (
        both(images(as_it_is, "jpg"), lambda root: picture(9, 80, 30).save(root / "cat/0.jpg")),
        (SIX, CUT, "images: 20 x 20 to 80 x 30 pixels (2 sizes); 12 JPEG RGB; left out: none"),
    ),
}  # fmt: skip


REFUSED: dict[str, tuple[Make, str]] = {
    "a folder beside splits": (
        folders("train/cat", "train/dog", "extra"),
        "has extra/ .6 images. beside its splits train/"
    ),
    "a split beside classes": (folders("cat", "dog", "Test"), "must have a folder `train` .*Test/.*, and has cat/ "),
    "two folders of one split": (
        folders("train/cat", "train/dog", "val/cat", "dev/dog"),
        "one val split, and has dev/ and val/"
    ),
    "loose images in a split": (
        folders("train/cat", "train/dog", "val"),
        "class in .*/val, and has none .*val/0000.png"
    ),
    "loose images beside classes": (folders("cat", "dog", "."), "0000.png.* beside cat/, dog/: move or remove"),
    "splits in some classes": (
        folders("cat/train", "cat/test", "dog"),
        "same split folders in each class.*unlike dog/"
    ),
    "splits and images in a class": (folders("cat/train", "cat", "dog/train"), "only splits in cat/ beside train/"),
    "a data set beside others": (
        folders("a/train/cat", "a/train/dog", "b/train/cat"),
        "did you mean imagefolder:.*/a?"
    ),
    "a class of the test split alone": (
        folders("train/cat", "train/dog", "test/cow"),
        "test split, and has none of cow"
    ),
    "an empty class": (both(folders("cat", "dog"), files("ant/0.npy")), "without images: ant .it holds 1 .npy"),
    "folds": (folders("fold1/cat", "fold1/dog", "fold2/cat", "fold2/dog"), "cat, dog in each of fold1/, fold2/"),
    "splits of words that nobody knows": (
        folders("gallery/cat", "gallery/dog", "query/cat", "query/dog"),
        "cat, dog in each of gallery/, query/: if these are splits, name them train, val and test; if they are classes"
    ),
    "images of other programs": (
        both(folders("cat", "dog"), files("cat/x.qoi", content=b"qoif\0\0"), files("dog/x.cr3", "dog/x.pcx")),
        "3 of 15 .*x.qoi .QOI, which is not read.*convert QOI images: `magick"
    ),
    "archives": (files("train.zip", "test.zip"), "2 .zip: unpack them first"),
    "images without extension": (
        both(folders("cat", "dog"), files("cat/1", content=encode(picture(1)))),
        "cat/1 .PNG.; give"
    ),
    "LFS pointers": (files("cat/0.jpg", "dog/0.jpg", content=LFS), "cat/0.jpg .a Git LFS pointer.*`git lfs pull`"),
    "HEIC": (
        files("cat/0.heic", "dog/0.jpg", content=b"\0\0\0\x18ftypheic" + bytes(90)),
        "HEIC.*`magick mogrify -format png"
    ),
    "AVIF": (images(as_it_is, "avif"), "12 of 12 .*convert AVIF images: `magick"),
    "not finite": (images(lambda *_: Image.fromarray(np.full((9, 9), np.nan, np.float32)), "tif"), "not finite"),
    "truncated": (
        both(folders("cat", "dog"), files("cat/x.gif", content=encode(picture(1), "GIF")[:60])),
        "1 of 13.*x.gif"
    ),
    "too large": (
        both(folders("cat", "dog"), lambda r: Image.new("1", (20_000, 9_000)).save(r / "cat/x.png")),
        "smaller"
    ),
}  # fmt: skip


def test_a_folder_too_low_is_refused_or_said(tmp_path: Path) -> None:
    folders("train/cat", "train/dog", "test/cat")(tmp_path / "data")
    source = f"imagefolder:{tmp_path / 'data'}"
    assert f"if this is a class, {source} is the data" in refused(f"{source}/train/cat", tmp_path / "cache")
    assert "beside it and not read: test/" in told(f"{source}/train", tmp_path / "cache")[2]


@pytest.mark.parametrize(
    ("name", "match"),
    [("a.zip", "`unzip "), ("a.tar.gz", "`tar -xf "), ("a.csv", "list of them"), ("a.png", "folder of images a class")],
)
def test_a_file_in_place_of_a_folder_is_told_what_it_is(tmp_path: Path, name: str, match: str) -> None:
    files(name)(tmp_path)
    for kind in ("imagefolder", "parquet"):
        assert match in refused(f"{kind}:{tmp_path / name}", tmp_path / "cache")
    with pytest.raises(ConfigError, match=f"write imagefolder:{tmp_path / name}"):
        validate(Data, {"source": str(tmp_path / name)})


PICTURES, OTHERS = ([encode(picture(first + i)) for i in range(24)] for first in (0, 24))
HALVES = [i % 2 for i in range(24)]
STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})
IMAGES, OTHER_IMAGES = (
    pa.array([{"bytes": data, "path": None} for data in pictures], STRUCT) for pictures in (PICTURES, OTHERS)
)
TEXTS = pa.array([["cat", "dog"][half] for half in HALVES])
PATHS = [f"pictures/{i}.png" for i in range(24)]


def table(*names: str, **columns: Any) -> Make:
    def make(root: Path) -> None:
        for name in names or ("a.parquet",):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            own = OTHER_IMAGES if "test" in name else IMAGES
            pq.write_table(pa.table({"image": own, "label": HALVES} | columns), root / name)

    return make


def picture_files(root: Path) -> None:
    for name, data in zip(PATHS, PICTURES, strict=True):
        files(name, content=data)(root)


def saved(folder: str = ".", indices: Sequence[str] = ()) -> Make:
    """A folder as `datasets.save_to_disk` writes it."""

    def make(root: Path) -> None:
        feature = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
        rows = pa.table({"image": OTHER_IMAGES if folder == "test" else IMAGES, "label": HALVES})
        rows = rows.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": feature}})})
        path = root / folder / "data-00000-of-00001.arrow"
        path.parent.mkdir(parents=True, exist_ok=True)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows, max_chunksize=10)
        state = {"_data_files": [{"filename": path.name}], "_indices_files": [{"filename": name} for name in indices]}
        (path.parent / "state.json").write_text(json.dumps(state))
        (path.parent / "dataset_info.json").write_text("{}")

    return make


TWELVE = "2 classes of 12 images"
CUT_ROWS = "splits: train 18 (the rest), val 2 (10 % of the rest), test 4 (15 % of all)"
ROWS = f"images: {SMALL}; 24 PNG RGB;"
NOTHING = f"{ROWS} left out: none"
TWO = ("2 classes of 24 images: {}", "splits: train 22 ({}), val 2 (10 % of train), test 24 ({})",
       f"images: {SMALL}; 48 PNG RGB; left out: none")  # fmt: skip


def two(classes: str, train: str, test: str) -> tuple[str, str, str]:
    return TWO[0].format(classes), TWO[1].format(train, test), TWO[2]


TABLES: dict[str, tuple[Make, tuple[str, str, str]]] = {
    "text": (table(label=TEXTS), (f"{TWELVE}: cat (12), dog (12)", CUT_ROWS, NOTHING)),
    "categories": (table(label=TEXTS.dictionary_encode()), (f"{TWELVE}: cat (12), dog (12)", CUT_ROWS, NOTHING)),
    "truth values": (
        table(label=[half == 1 for half in HALVES]), (f"{TWELVE}: false (12), true (12)", CUT_ROWS, NOTHING)
    ),
    "whole floats": (table(label=[float(half) for half in HALVES]), (f"{TWELVE}: 0 (12), 1 (12)", CUT_ROWS, NOTHING)),
    "plain bytes": (table(image=PICTURES), (f"{TWELVE}: 0 (12), 1 (12)", CUT_ROWS, NOTHING)),
    "paths beside the table": (
        both(picture_files, table(image=[{"bytes": None, "path": path} for path in PATHS])),
        (f"{TWELVE}: 0 (12), 1 (12)", CUT_ROWS, f"{ROWS} images are files that the table names; left out: none"),
    ),
    "splits in the middle of names": (
        table("mnist_train.parquet", "mnist_test.parquet"),
        two("0 (24), 1 (24)", "mnist_train.parquet", "mnist_test.parquet"),
    ),
    "splits in the names of folders": (
        table("x/partial-train/0000.parquet", "x/partial-test/0000.parquet"),
        two("0 (24), 1 (24)", "x/partial-train/0000.parquet", "x/partial-test/0000.parquet"),
    ),
    "parts with a hash": (
        table("train-00000-of-00002-0ab.parquet", "train-00001-of-00002-9fe.parquet"),
        ("2 classes of 24 images: 0 (24), 1 (24)",
         "splits: train 36 (train-00000-of-00002-0ab.parquet and 1 more), val 4 (10 % of the rest), "
         "test 8 (15 % of all)",
         f"images: {SMALL}; 48 PNG RGB; left out: none"),
    ),
    "hive folders": (
        table("split=train/part-0.parquet", "split=test/part-0.parquet"),
        two("0 (24), 1 (24)", "split=train/part-0.parquet", "split=test/part-0.parquet"),
    ),
    "splits in a column": (
        table("train.parquet", split=["test" if i % 3 == 0 else "train" for i in range(24)]),
        (f"{TWELVE}: 0 (12), 1 (12)", "splits: train 14 (by `split`), val 2 (10 % of train), test 8 (by `split`)",
         NOTHING),
    ),
    "splits in a column, in other words": (
        table("icml.parquet", Usage=pa.array(["PublicTest", "PrivateTest", "Training", "Training"] * 6)),
        (f"{TWELVE}: 0 (12), 1 (12)", "splits: train 10 (by `Usage`), val 2 (10 % of train), test 12 (by `Usage`)",
         NOTHING),
    ),
    "a column that tells no split": (
        table(subset=["a", "b"] * 12),
        (f"{TWELVE}: 0 (12), 1 (12)", CUT_ROWS, f"{ROWS} left out: the columns subset"),
    ),
    "save_to_disk": (saved(), (f"{TWELVE}: cat (12), dog (12)", CUT_ROWS, NOTHING)),
    "save_to_disk of splits": (
        both(saved("train"), saved("test"), files("dataset_dict.json", content=b'{"splits": ["train", "test"]}')),
        two("cat (24), dog (24)", "train/data-00000-of-00001.arrow", "test/data-00000-of-00001.arrow"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("source", "kind"), [*(("imagefolder", kind) for kind in FOLDERS), *(("parquet", kind) for kind in TABLES)]
)
def test_data_are_told_in_three_lines(tmp_path: Path, source: str, kind: str) -> None:
    make, lines = (FOLDERS if source == "imagefolder" else TABLES)[kind]
    make(tmp_path / "data")
    name = f"{source}:{tmp_path / 'data'}"
    assert told(name, tmp_path / "cache") == (f"{name}: {lines[0]}", *lines[1:])


REFUSED_TABLES: dict[str, tuple[Make, str]] = {
    "a part is missing": (table("data/train-00000-of-00002.parquet"), "lacks data/train-00001-of-00002:"),
    "a part with a hash is missing": (
        table("train-00001-of-00003-0ab.parquet", "train-00000-of-00003-9fe.parquet"), "lacks train-00002-of-00003:"
    ),
    "no name tells a split": (table("cats.parquet", "dogs.parquet"), "unlike cats.parquet, dogs.parquet"),
    "one name tells no split": (table("train.parquet", "extra.parquet"), "unlike extra.parquet"),
    "two configurations": (table("a/train-0.parquet", "b/train-0.parquet"), "one data set, and holds a/train-0"),
    "null texts": (
        table(label=pa.array([None, "", *TEXTS.to_pylist()[2:]])),
        "2 of `label` are null, the first in row 0"
    ),
    "no number": (table(label=[float("nan"), *map(float, HALVES[1:])]), "1 of `label` are null"),
    "fractions": (table(label=[0.5, *map(float, HALVES[1:])]), "`label` of type double"),
    "several labels": (table(label=[[half] for half in HALVES]), "one label a row.*`label` is of type list"),
    "rows of no split": (table(split=["train", "test", None] * 8), "in each row of `split`, unlike None: remove such"),
    "short base64": (table(image=["iVBORw0KGgo" + "A" * 80] * 24), "texts that are no paths .decode base64"),
    "pixels": (table(image=[[1, 2]] * 24), "bytes of image files.*image: list<.*data.columns.image=NAME"),
    "paths of another machine": (table(image=["/x/0.png"] * 24), "without bytes, and 24 of 24 .*missing .*embed"),
    "base64": (table(image=["iVBOR" * 1000] * 24), "texts that are no paths .decode base64"),
    "an LFS pointer": (files("train.parquet", content=LFS), "`git lfs pull`"),
    "a selection saved": (saved(indices=["i.arrow"]), r"load_from_disk\(.*\).to_parquet\("),
    "a split not saved": (
        both(saved("train"), files("dataset_dict.json", content=b'{"splits": ["train", "test"]}')),
        "lacks test"
    ),
    "images": (folders("cat", "dog"), "for its 12 images write imagefolder:"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("source", "kind"),
    [*(("imagefolder", kind) for kind in REFUSED), *(("parquet", kind) for kind in REFUSED_TABLES)],
)
def test_data_that_are_not_understood_are_refused_by_name(tmp_path: Path, source: str, kind: str) -> None:
    make, match = (REFUSED if source == "imagefolder" else REFUSED_TABLES)[kind]
    make(tmp_path / "data")
    message = refused(f"{source}:{tmp_path / 'data'}", tmp_path / "cache")
    assert re.search(match, message), message


def test_columns_are_found_and_said_or_asked_for(tmp_path: Path) -> None:
    rows = {"photo": IMAGES, "species": TEXTS, "id": range(24)}
    pq.write_table(pa.table(rows), tmp_path / "one.parquet")
    pq.write_table(pa.table(rows | {"target": HALVES, "class": HALVES}), tmp_path / "two.parquet")
    one, more = (f"parquet:{tmp_path}/{name}.parquet" for name in ("one", "two"))
    assert "labels from `species`, images from `photo`; left out: the columns id" in told(one, tmp_path / "c")[2]
    assert "may have target, class: --set data.columns.label=NAME" in refused(more, tmp_path / "c")
    assert "labels from `target`" in told(more, tmp_path / "c", columns={"label": "target"})[2]
    for columns in ({"label": "targets"}, {"image": "pictures"}):
        assert "must have the column that it names" in refused(more, tmp_path / "c", columns=columns)
    with pytest.raises(ConfigError, match=r"columns: must be left out unless the source is parquet:PATH"):
        validate(Data, {"source": "digits", "columns": {"label": "target"}})
    assert "columns" not in validate(Data, {"source": one}).model_dump()


def test_folds_are_said(tmp_path: Path) -> None:
    folders("train/cat", "train/dog", "val/cat", "val/dog", count=10)(tmp_path / "data")
    lines = told(f"imagefolder:{tmp_path}/data", tmp_path / "cache", folds=6, fold=1, repeat=2)
    test = "test 4 (15 % of train)"
    assert lines[1] == f"splits: train 30 (the other folds), val 6 (fold 2 of 6 of train and val, repeat 3), {test}"


@pytest.mark.parametrize(
    ("splits", "data", "taken"),
    [
        ((), {}, True),
        (("train", "test"), {}, True),
        (("train", "val"), {}, False),
        ((), {"folds": 2}, False),
        (("train", "val"), {"folds": 2}, False),
    ],
)
def test_the_lines_say_whether_validation_images_are_taken_from_train(
    splits: tuple[str, ...], data: dict[str, int], taken: bool, tmp_path: Path
) -> None:
    places = [f"{split}/{name}" for split in splits or (".",) for name in ("cat", "dog")]
    folders(*places, count=10)(tmp_path / "data")
    assert val_is_taken_from_train(told(f"imagefolder:{tmp_path}/data", tmp_path / "cache", **data)) is taken


def test_images_that_a_table_names_are_read_anew_when_they_change(tmp_path: Path) -> None:
    both(picture_files, table(image=PATHS))(tmp_path / "data")
    data = Data(source=f"parquet:{tmp_path}/data")
    before = prepare(data, tmp_path / "cache")
    picture(77).save(tmp_path / "data" / PATHS[3])
    assert prepare(data, tmp_path / "cache").fingerprint != before.fingerprint
    os.remove(tmp_path / "data" / PATHS[3])
    assert "1 of 24 files are missing" in refused(data.source, tmp_path / "cache")


def test_names_of_classes_cannot_play_with_the_terminal(tmp_path: Path) -> None:
    folders("\x1b[2J", "b\nc")(tmp_path / "data")
    assert r"\x1b[2J (6), b\nc (6)" in told(f"imagefolder:{tmp_path}/data", tmp_path / "cache")[0]
