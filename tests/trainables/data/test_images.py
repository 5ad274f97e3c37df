"""What a trial reads: capped, mapped, decoded to a size; and nothing of the test split."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from tests.trainables.image_files import cut_parquet, python, write_folder
from trainables.config import ConfigError, Data
from trainables.data import decoded
from trainables.data.arrow import EncodedRows, read_pixels
from trainables.data.decode import decode_square
from trainables.data.held_out import open_test
from trainables.data.images import Images, Splits, load_splits
from trainables.data.store import prepare

DECODINGS: tuple[Literal["exact", "reduced"], ...] = ("exact", "reduced")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def cifar(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The first 3,000 and 500 images of the real CIFAR-10 Parquet."""
    return f"parquet:{cut_parquet(data_dir / 'cifar10_jpeg', tmp_path_factory.mktemp('cifar'), 3000, 500)}"


@pytest.fixture(scope="session")
def splits(cifar: str, cache: Path) -> Splits:
    return load_splits(Data(source=cifar), cache)


def mapped(images: Images) -> torch.Tensor:
    assert images.pixels is not None
    return images.pixels


def rows(images: Images) -> list[bytes]:
    return [image.numpy().tobytes() for image in images.batch(torch.arange(len(images)))]


def test_real_cifar_images_come_as_pixels_and_labels(splits: Splits) -> None:
    assert (len(splits.train), len(splits.val)) == (2701, 299)  # 10 % of each class, rounded
    assert splits.store.class_names[3] == "cat"
    for images in (splits.train, splits.val):
        assert (images.labels.dtype, images.labels.shape) == (torch.int64, (len(images),))
        assert (mapped(images).dtype, mapped(images).shape) == (torch.uint8, (len(images), 3, 32, 32))
        assert images.size == (32, 32)
    assert splits.train.labels.bincount().tolist() == pytest.approx([270] * 10, abs=40)
    assert splits.store.mean == pytest.approx((0.49, 0.48, 0.45), abs=0.02)


def test_a_batch_is_the_images_asked_for(splits: Splits) -> None:
    indices = torch.tensor([5, 0, 2700, 5])
    batch = splits.train.batch(indices)
    assert (batch.dtype, batch.shape) == (torch.uint8, (4, 3, 32, 32))
    assert torch.equal(batch, torch.stack([mapped(splits.train)[i] for i in indices]))


def test_pixels_are_mapped_and_not_copied(splits: Splits) -> None:
    path = splits.store.directory / "train.arrow"
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(path))]
    address = mapped(splits.train).data_ptr()
    ranges = [[int(end, 16) for end in fields[0].split("-")] for fields in maps]
    assert any(start <= address < stop for start, stop in ranges)


def test_writing_into_pixels_changes_nothing_but_this_mapping(cifar: str, cache: Path) -> None:
    mine = load_splits(Data(source=cifar), cache)
    before = rows(load_splits(Data(source=cifar), cache).val)
    mapped(mine.val).zero_()
    assert rows(load_splits(Data(source=cifar), cache).val) == before


def test_caps_are_stratified_and_nested(cifar: str, splits: Splits, cache: Path) -> None:
    everything = set(rows(splits.train))
    larger: list[bytes] = rows(splits.train)
    for cap in (2000, 777, 100, 10):
        capped = load_splits(Data(source=cifar, train_samples=cap, val_samples=min(cap, 50)), cache)
        assert (len(capped.train), len(capped.val)) == (cap, min(cap, 50))
        assert set(rows(capped.train)) <= set(larger) <= everything
        share = splits.train.labels.bincount() * cap / 2701
        assert (capped.train.labels.bincount(minlength=10) - share).abs().max() <= 2
        larger = rows(capped.train)
    assert Counter(capped.train.labels.tolist()) == dict.fromkeys(range(10), 1)
    assert capped.store.fingerprint == splits.store.fingerprint


def test_a_cap_beyond_what_there_is_means_all(cifar: str, splits: Splits, cache: Path) -> None:
    capped = load_splits(Data(source=cifar, train_samples=10**9, val_samples=300), cache)
    assert rows(capped.train) == rows(splits.train)
    assert len(capped.val) == 299


def test_photographs_are_squares_of_224_pixels_unless_asked_otherwise(photos: str, cache: Path) -> None:
    for resolution, side in ((None, 224), (64, 64)):
        found = load_splits(Data(source=photos, resolution=resolution), cache)
        assert (len(found.train), len(found.val)) == (208, 153)
        assert mapped(found.train).shape == (208, 3, side, side)
        assert found.train.size == (side, side)
        encoded = EncodedRows(found.store.directory / "train.arrow")
        assert np.array_equal(mapped(found.train)[17].numpy(), decode_square(encoded[17], side))


def test_alike_images_keep_their_size_unless_asked_otherwise(tmp_path: Path) -> None:
    source = f"imagefolder:{write_folder(tmp_path / 'data', {'cat': 12, 'dog': 12}, width=100, height=80)}"
    assert mapped(load_splits(Data(source=source), tmp_path / "cache").train).shape[1:] == (3, 80, 100)
    assert mapped(load_splits(Data(source=source, resolution=48), tmp_path / "cache").train).shape[1:] == (3, 48, 48)


def test_small_alike_images_are_left_at_their_size_for_the_device_to_resize(cifar: str, cache: Path) -> None:
    assert mapped(load_splits(Data(source=cifar, resolution=64), cache).train).shape[1:] == (3, 32, 32)


def test_decoding_batch_by_batch_gives_the_same_pixels(
    snaps: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Data(source=snaps, resolution=64)
    kept = load_splits(data, cache)
    monkeypatch.setattr(decoded, "LARGEST_BYTES", 1000)
    found = load_splits(data, tmp_path)
    assert found.train.pixels is None
    assert found.train.size == (64, 64)
    indices = torch.randperm(184, generator=torch.Generator().manual_seed(0))[:40]
    assert torch.equal(found.train.batch(indices), kept.train.batch(indices))
    assert found.train.batch(torch.tensor([], dtype=torch.int64)).shape == (0, 3, 64, 64)
    assert sorted(path.name for path in found.store.directory.glob("train*")) == ["train.arrow"]
    for bad in (-1, 184):
        with pytest.raises(IndexError, match="of 184 images"):
            found.train.batch(torch.tensor([0, bad]))


def test_crops_come_from_the_files_whether_or_not_decoded_images_are_stored(
    snaps: str, splits: Splits, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Data(source=snaps, resolution=64)
    kept = load_splits(data, cache).train
    indices = torch.tensor([183, 0, 7])
    windows = torch.tensor([[0.5, 0.9, 1.0], [0.6, 0.7, 1.0], [0.0, 1.0, 0.5], [1.0, 0.5, 0.5]])
    found = kept.crops(indices, windows)
    assert (found.dtype, found.shape) == (torch.uint8, (3, 3, 64, 64))
    (whole,) = kept.batch(indices[2:])  # the central square is what is evaluated
    assert (found[2].float() - whole.float()).abs().mean() < 2
    monkeypatch.setattr(decoded, "LARGEST_BYTES", 1000)
    anew = load_splits(data, tmp_path).train
    assert anew.pixels is None
    assert torch.equal(anew.crops(indices, windows), found)
    assert not splits.train.has_originals
    with pytest.raises(ValueError, match="of their own size"):
        splits.train.crops(indices, windows)


def test_images_decoded_exactly_and_reduced_are_kept_apart(photos: str, cache: Path) -> None:
    exact, reduced = (load_splits(Data(source=photos, resolution=32, decoding=how), cache) for how in DECODINGS)
    assert not torch.equal(mapped(exact.val), mapped(reduced.val))
    assert (mapped(exact.val).float() - mapped(reduced.val).float()).abs().mean() < 4
    assert exact.store.fingerprint == reduced.store.fingerprint


def test_a_cap_decodes_no_more_than_it_needs(snaps: str, tmp_path: Path) -> None:
    few = load_splits(Data(source=snaps, resolution=32, train_samples=20, val_samples=10), tmp_path)
    names = {path.name for path in few.store.directory.glob("*-32x32-*")}
    assert names == {"train-32x32-v2-20.arrow", "val-32x32-v2-10.arrow"}
    everything = load_splits(Data(source=snaps, resolution=32), tmp_path)
    assert rows(everything.train)[:20] == rows(few.train)
    middle = load_splits(Data(source=snaps, resolution=32, train_samples=50), tmp_path)  # served by what is there
    assert rows(middle.train) == rows(everything.train)[:50]
    assert len(list(few.store.directory.glob("train-32x32-*"))) == 2


def test_processes_that_need_decoded_images_at_once_decode_them_once(snaps: str, tmp_path: Path) -> None:
    store = prepare(Data(source=snaps), tmp_path)
    (store.directory / "tmp-train-96x96-v2-dead").write_bytes(b"of a process that died")
    code = (
        "import sys, zlib\nfrom pathlib import Path\nfrom trainables.data.decode import Square\n"
        "from trainables.data.decoded import materialize\n"
        "print(zlib.crc32(materialize(Path(sys.argv[1]), 184, Square(96))), flush=True)"
    )
    processes = [python(code, store.directory / "train.arrow") for _ in range(3)]
    results = [process.communicate() for process in processes]
    assert len({out for out, _ in results}) == 1, results
    assert [path.name for path in store.directory.glob("*96*")] == ["train-96x96-v2-184.arrow"]


def test_when_decoded_images_cannot_be_stored_they_are_decoded_anew(
    snaps: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    prepare(Data(source=snaps), tmp_path)
    monkeypatch.setattr(decoded, "_SPARE_BYTES", 2**60)  # no disk has that much free
    with caplog.at_level(logging.WARNING):
        found = load_splits(Data(source=snaps, resolution=32), tmp_path)
    assert found.train.pixels is None
    assert "too little disk" in caplog.text
    assert found.train.batch(torch.tensor([3])).shape == (1, 3, 32, 32)


class TestTestSplit:
    def test_it_holds_the_images_that_no_other_split_has(self, cifar: str, splits: Splits, cache: Path) -> None:
        test = open_test(Data(source=cifar, train_samples=5, val_samples=5), cache)
        assert len(test) == splits.store.counts["test"] == 500
        assert not set(rows(test)) & (set(rows(splits.train)) | set(rows(splits.val)))

    def test_without_one_it_is_set_aside_from_train(self, photos: str, cache: Path) -> None:
        test = open_test(Data(source=photos, resolution=64), cache)
        found = load_splits(Data(source=photos, resolution=64), cache)
        assert len(test) == 37
        assert not set(rows(test)) & (set(rows(found.train)) | set(rows(found.val)))

    def test_loading_the_splits_never_reads_it(self, snaps: str, tmp_path: Path) -> None:
        before = load_splits(Data(source=snaps), tmp_path)
        path = before.store.directory / "test.arrow"
        path.write_bytes(bytes(path.stat().st_size))  # whoever read it would fail
        with pytest.raises(Exception, match="Not an Arrow file"):
            read_pixels(path)
        after = load_splits(Data(source=snaps), tmp_path)
        assert rows(after.train) == rows(before.train)
        assert rows(after.val) == rows(before.val)
        open_files = [
            os.readlink(f"/proc/self/fd/{fd}")
            for fd in os.listdir("/proc/self/fd")
            if Path(f"/proc/self/fd/{fd}").exists()
        ]
        assert str(path) not in open_files
        assert {name for name in vars(after) if not name.startswith("_")} == {"train", "val", "store"}

    def test_no_other_module_names_its_file(self) -> None:
        package = Path(decoded.__file__).parents[1]
        naming = {path.name for path in package.rglob("*.py") if "test.arrow" in path.read_text()}
        assert naming == {"held_out.py", "prepare.py"}  # prepare.py only says what it writes


def test_bad_data_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must name an existing folder"):
        load_splits(Data(source="imagefolder:/no/such/folder"), tmp_path)


@pytest.mark.slow
def test_the_whole_real_parquet(data_dir: Path, tmp_path: Path) -> None:
    found = load_splits(Data(source=f"parquet:{data_dir}/cifar10_jpeg"), tmp_path)
    # 22 more to train on than 9 of 10: images with a twin in the test split stay in train.
    assert found.store.counts == {"train": 45_022, "val": 4_978, "test": 10_000}
    train, val = found.train.labels.bincount(), found.val.labels.bincount()
    assert (train + val).tolist() == [5000] * 10
    assert int(val.min()) >= 490
    # of the original pixels: 0.4914, 0.4822, 0.4465 and 0.2470, 0.2435, 0.2616
    assert found.store.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=0.001)
    assert found.store.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=0.003)
