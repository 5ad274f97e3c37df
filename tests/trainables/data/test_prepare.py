"""What a store holds: every image once, the right statistics, and no unreadable image without a word."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tests.mutations import check_clear
from tests.trainables.image_files import encode, picture, write_folder, write_parquet
from trainables.config import ConfigError, Data
from trainables.data import image_file
from trainables.data.arrow import EncodedRows, read_labels, read_pixels
from trainables.data.decode import decode
from trainables.data.image_file import UnreadableImage, read_encoded
from trainables.data.sources import open_source
from trainables.data.store import prepare

SPLITS = ("train", "val", "test")


def test_small_alike_images_are_stored_as_pixels_each_once(pets: str, tmp_path: Path) -> None:
    store = prepare(Data(source=pets), tmp_path)
    assert store.directory == tmp_path / store.fingerprint
    assert sorted(path.name for path in store.directory.iterdir()) == [
        "meta.json",
        "test.arrow",
        "train.arrow",
        "val.arrow",
    ]
    assert (store.encoded, store.image_size, store.class_names, store.num_classes) == (
        False,
        (20, 20),
        ("ant", "bee", "cat"),
        3,
    )
    assert store.counts == {"train": 90 - 13 - 8, "val": 8, "test": 13}  # 15 % of a class, then 10 % of its rest
    source = {
        decode(row.image.read_bytes()).tobytes(): row.label
        for row in open_source(pets).contents(tmp_path).rows()
        if isinstance(row.image, Path)
    }
    assert len(source) == 90
    for split in SPLITS:
        path = store.directory / f"{split}.arrow"
        pixels, labels = read_pixels(path), read_labels(path)
        assert pixels is not None
        assert [source.pop(image.tobytes()) for image in pixels] == labels.tolist()
        assert len(labels) == store.counts[split]
    assert not source


def test_statistics_are_those_of_the_training_pixels(pets: str, tmp_path: Path) -> None:
    store = prepare(Data(source=pets), tmp_path)
    pixels = read_pixels(store.directory / "train.arrow")
    assert pixels is not None
    assert store.mean == pytest.approx((pixels / 255).mean(axis=(0, 2, 3)), rel=1e-12)
    assert store.std == pytest.approx((pixels / 255).std(axis=(0, 2, 3)), rel=1e-9)


def test_the_test_split_has_no_part_in_the_statistics(tmp_path: Path) -> None:
    for name, shade in (("a", 10), ("b", 250)):
        folder = write_folder(tmp_path / name, {"train/x": 6, "train/y": 6, "val/x": 2, "val/y": 2})
        for label in "xy":
            (folder / "test" / label).mkdir(parents=True)
            image = picture(9).point(lambda value, shade=shade: shade)
            image.save(folder / "test" / label / "0.png")
    one, other = (prepare(Data(source=f"imagefolder:{tmp_path / name}"), tmp_path / "cache") for name in "ab")
    assert one.fingerprint != other.fingerprint
    assert (one.mean, one.std) == (other.mean, other.std)


def test_constant_channels_have_a_deviation_that_can_be_divided_by(tmp_path: Path) -> None:
    images = [encode(picture(0).point(lambda _: 7))] * 20
    file = write_parquet(tmp_path / "a.parquet", images, [i % 2 for i in range(20)])
    store = prepare(Data(source=f"parquet:{file}"), tmp_path / "cache")
    assert store.mean == pytest.approx((7 / 255,) * 3)
    assert store.std == (1 / 255,) * 3


def test_images_of_several_sizes_stay_the_files_they_were(photos: str, tmp_path: Path) -> None:
    store = prepare(Data(source=photos), tmp_path)
    assert (store.encoded, store.image_size, store.class_names) == (True, None, ("ants", "bees"))
    root = Path(photos.removeprefix("imagefolder:"))
    files = {path.read_bytes(): path.relative_to(root).parts for path in root.rglob("*.jpg")}
    own = {"train": "train", "val": "val", "test": "train"}  # test was set aside from train
    for split in SPLITS:
        path = store.directory / f"{split}.arrow"
        encoded, labels = EncodedRows(path), read_labels(path)
        assert read_pixels(path) is None
        assert len(encoded) == len(labels) == store.counts[split]
        for i, label in enumerate(labels):
            folder, class_name, _ = files[encoded[i]]
            assert (folder, class_name) == (own[split], store.class_names[label])
    assert store.counts == {"train": 208, "val": 153, "test": 37}
    decoded = [decode(path.read_bytes()) / 255 for path in (root / "train").rglob("*.jpg")]
    # of the images reduced, weighted alike: near those of all training pixels, not equal to them
    assert store.mean == pytest.approx(np.mean([image.mean(axis=(1, 2)) for image in decoded], axis=0), abs=0.01)
    assert store.std == pytest.approx(np.concatenate([i.reshape(3, -1) for i in decoded], axis=1).std(axis=1), rel=0.1)


@pytest.mark.parametrize(
    ("sizes", "encoded", "image_size"),
    [
        ([(64, 64), (64, 64)], False, (64, 64)),
        ([(64, 48), (64, 48)], False, (48, 64)),
        ([(65, 64), (65, 64)], True, (64, 65)),
        ([(20, 20), (21, 20)], True, None),
        ([(250, 20), (250, 20)], True, None),
    ],
)
def test_what_is_stored_depends_on_the_sizes(
    tmp_path: Path, sizes: list[tuple[int, int]], encoded: bool, image_size: tuple[int, int] | None
) -> None:
    for number, (width, height) in enumerate(sizes):
        write_folder(tmp_path / "data", {f"class{number}": 6}, width, height)
    store = prepare(Data(source=f"imagefolder:{tmp_path}/data"), tmp_path / "cache")
    assert (store.encoded, store.image_size) == (encoded, image_size)


class TestUnreadableImages:
    @pytest.fixture
    def source(self, tmp_path: Path) -> str:
        folder = write_folder(tmp_path / "data", {"train/cat": 12, "train/dog": 12, "val/cat": 2, "val/dog": 2})
        whole = (folder / "train/cat/0000.png").read_bytes()
        (folder / "train/cat/0003.png").write_bytes(whole[:-40])
        (folder / "train/dog/0004.png").write_bytes(b"")
        (folder / "val/dog/0000.png").write_text("<html>not found</html>")
        os.symlink(tmp_path / "gone.png", folder / "train/dog/link.png")
        return f"imagefolder:{folder}"

    def test_all_are_counted_and_the_first_named(self, source: str, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as caught:
            prepare(Data(source=source), tmp_path / "cache")
        (problem,) = caught.value.problems
        assert problem.path == "data.source"
        for part in (
            "4 of 29",
            "train/cat/0003.png (",
            "train/dog/0004.png (empty)",
            "link.png (No such file",
        ):
            assert part in problem.rule
        assert "val/dog/0000.png (not a JPEG, PNG, BMP, WEBP, TIFF, PPM, GIF image)" in problem.rule
        assert "data.on_corrupt=skip" in problem.rule
        assert list((tmp_path / "cache").glob("tmp-*")) == []

    def test_with_the_switch_they_are_left_out_and_recorded(self, source: str, tmp_path: Path) -> None:
        store = prepare(Data(source=source, on_corrupt="skip"), tmp_path / "cache")
        left_out = ("train/cat/0003.png", "train/dog/0004.png", "train/dog/link.png", "val/dog/0000.png")
        assert store.skipped == left_out
        assert sum(store.counts.values()) == 25
        assert json.loads((store.directory / "meta.json").read_text())["skipped"] == list(left_out)
        with pytest.raises(ConfigError, match="4 of 29"):
            prepare(Data(source=source), tmp_path / "cache")

    def test_many_are_reported_in_a_few_words(self, tmp_path: Path) -> None:
        images = [b"broken" if i < 90 else encode(picture(i)) for i in range(120)]
        file = write_parquet(tmp_path / "a.parquet", images, [i % 2 for i in range(120)])
        with pytest.raises(ConfigError, match=r"90 of 120 are not: a.parquet row 0 \(0.png\).* and 85 more") as caught:
            prepare(Data(source=f"parquet:{file}"), tmp_path / "cache")
        assert len(str(caught.value)) < 700

    def test_a_class_that_skipping_leaves_too_small_is_reported(self, tmp_path: Path) -> None:
        images = [b"broken" if i < 22 and i % 2 else encode(picture(i)) for i in range(24)]
        file = write_parquet(tmp_path / "a.parquet", images, [i % 2 for i in range(24)], ["ant", "bee"])
        with pytest.raises(ConfigError, match=r"at least 3 readable images a class.* bee \(1\)"):
            prepare(Data(source=f"parquet:{file}", on_corrupt="skip"), tmp_path / "cache")

    def test_a_source_of_nothing_else_is_refused(self, tmp_path: Path) -> None:
        file = write_parquet(tmp_path / "a.parquet", [b"broken"] * 24, [i % 2 for i in range(24)])
        with pytest.raises(ConfigError, match=r"at least 3 readable images a class.* 0 \(0\), 1 \(0\)"):
            prepare(Data(source=f"parquet:{file}", on_corrupt="skip"), tmp_path / "cache")


def test_files_that_never_end_are_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "images", {"a": 12, "b": 12})
    odd = tmp_path / "images" / "a"
    os.mkfifo(odd / "pipe.png")  # nobody will ever write to it
    (odd / "zero.png").symlink_to("/dev/zero")
    (odd / "folder.png").mkdir()
    (odd / "circle.png").symlink_to(odd / "circle.png")
    with (odd / "sparse.png").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ConfigError, match="4 of 28 are not") as caught:
        prepare(Data(source=f"imagefolder:{tmp_path / 'images'}"), tmp_path / "cache")
    check_clear(caught.value)
    message = str(caught.value)
    assert "pipe.png (no regular file)" in message
    assert "zero.png (no regular file)" in message
    assert "sparse.png (1,099,511,627,776 bytes, above the limit of 536,870,912)" in message
    monkeypatch.setattr(image_file, "LARGEST_FILE", 3)
    with pytest.raises(UnreadableImage, match="above the limit of 3"):
        read_encoded(next(odd.glob("0*.png")))


def test_names_cannot_play_with_the_terminal(tmp_path: Path) -> None:
    write_folder(tmp_path / "images", {"a": 3, "b": 3})
    (tmp_path / "images" / "a" / "\x1b[2J\nerror: all is well.png").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"\\x1b\[2J\\nerror") as caught:
        prepare(Data(source=f"imagefolder:{tmp_path / 'images'}"), tmp_path / "cache")
    check_clear(caught.value)
