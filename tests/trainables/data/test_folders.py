"""Folders of images: which files are found, under which split and class, and what is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.trainables.image_files import (
    contents,
    encode,
    labels_per_split,
    picture,
    refused,
    write_folder,
)
from trainables.data.sources import open_source


def test_class_folders_alone_are_training_images(tmp_path: Path) -> None:
    write_folder(tmp_path, {"dog": 4, "cat/young": 2, "cat": 1})
    found = contents(f"imagefolder:{tmp_path}")
    assert found.class_names == ("cat", "dog")
    assert labels_per_split(found) == {"train": {0: 3, 1: 4}}
    assert [row.name for row in found.rows()][:3] == ["cat/0000.png", "cat/young/0000.png", "cat/young/0001.png"]


def test_split_folders_are_recognized(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train/cat": 3, "train/dog": 2, "valid/cat": 1, "valid/dog": 1, "test/dog": 2, "docs": 0})
    found = labels_per_split(contents(f"imagefolder:{tmp_path}"))
    assert found == {"train": {0: 3, 1: 2}, "val": {0: 1, 1: 1}, "test": {1: 2}}


def test_hidden_files_and_other_files_are_no_images(tmp_path: Path) -> None:
    write_folder(tmp_path, {"cat": 2, "dog": 2, ".cache/x": 1, "__MACOSX/dog": 1})
    for name in ("cat/._0000.png", "cat/Thumbs.db", "cat/notes.txt", "dog/.hidden.jpg"):
        (tmp_path / name).write_bytes(b"no image")
    assert labels_per_split(contents(f"imagefolder:{tmp_path}")) == {"train": {0: 2, 1: 2}}


def test_extensions_in_capitals_and_images_of_other_kinds_are_listed(tmp_path: Path) -> None:
    write_folder(tmp_path, {"cat": 1, "dog": 1})
    (tmp_path / "cat/A.JPEG").write_bytes(encode(picture(1), "JPEG"))
    (tmp_path / "cat/b.avif").write_bytes(b"")  # reported as unreadable when it is decoded
    assert labels_per_split(contents(f"imagefolder:{tmp_path}")) == {"train": {0: 3, 1: 1}}


def test_links_are_followed_and_their_circles_ended(tmp_path: Path) -> None:
    write_folder(tmp_path / "elsewhere", {"more": 3})
    write_folder(tmp_path / "data", {"cat": 2, "dog": 2})
    os.symlink(tmp_path / "elsewhere/more", tmp_path / "data/cat/more")
    os.symlink(tmp_path / "data/cat", tmp_path / "data/cat/more/again")
    os.symlink(tmp_path / "gone.png", tmp_path / "data/dog/broken.png")
    found = contents(f"imagefolder:{tmp_path}/data")
    assert labels_per_split(found) == {"train": {0: 5, 1: 3}}


def test_the_signature_changes_with_the_files(tmp_path: Path) -> None:
    write_folder(tmp_path, {"cat": 2, "dog": 2})
    source = f"imagefolder:{tmp_path}"
    before = open_source(source).signature()
    assert open_source(source).signature() == before
    picture(77).save(tmp_path / "cat/0001.png")
    changed = open_source(source).signature()
    assert changed != before
    (tmp_path / "cat/0001.png").unlink()
    assert open_source(source).signature() not in (before, changed)


@pytest.mark.parametrize(
    ("counts", "match"),
    [
        ({}, "one folder of images per class"),
        ({"train": 0}, "one folder of images per class"),
        ({"train": 3}, "one folder of images per class .* images lie directly in it"),
        ({"cat": 0, "dog": 0}, "must hold images .jpg.*, and has none in its class folders cat, dog"),
        ({"cat": 3}, "at least 2 classes, and has only 'cat'"),
        ({"cat": 3, "dog": 0, "ant": 0}, "class folders without images: ant, dog"),
        ({"train/cat": 3, "train/dog": 3, "val/cat": 1, "val/cow": 1}, "every class in its val split.*none of cow"),
        ({"train/cat": 3, "train/dog": 3, "test/cow": 1, "test/hen": 1}, "test split.*none of cow, hen"),
        ({"val/cat": 3, "test/dog": 3}, "must have a folder `train`"),
    ],
)
def test_unusable_folders_are_refused(tmp_path: Path, counts: dict[str, int], match: str) -> None:
    write_folder(tmp_path, counts)
    refused(f"imagefolder:{tmp_path}", match.replace(" .jpg", r" \(\.jpg").replace(" .* images", r".* \(images"))


def test_a_missing_folder_and_a_file_are_refused(tmp_path: Path) -> None:
    refused(f"imagefolder:{tmp_path}/gone", "must name an existing folder")
    picture(1).save(tmp_path / "a.png")
    refused(f"imagefolder:{tmp_path}/a.png", "with a folder of images a class, not an image")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_utf8_are_read(tmp_path: Path) -> None:
    write_folder(tmp_path, {"cat": 2, "dog": 2})
    os.rename(os.fsencode(tmp_path / "cat"), os.fsencode(tmp_path) + b"/c\xe4t")
    assert contents(f"imagefolder:{tmp_path}").class_names == ("c\ufffdt", "dog")
