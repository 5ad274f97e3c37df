"""Sources: what they yield, and what they refuse with a way out."""

from __future__ import annotations

import hashlib
import os
import pickle
import tarfile
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainables.image_files import contents, labels_per_split, python, write_folder
from trainables.config import ConfigError
from trainables.config.paths import canonical_source
from trainables.data.sources import open_source


def test_reading_the_sources_needs_no_torch() -> None:
    code = "import sys, trainables.data.store; sys.exit(bool({'torch', 'torchvision', 'sklearn'} & {*sys.modules}))"
    assert python(code).wait() == 0


def test_paths_mean_the_same_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "pets", {"cat": 3, "dog": 3})
    os.symlink(tmp_path / "pets", tmp_path / "link")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for source in ("imagefolder:pets", "imagefolder:./pets/../pets", "imagefolder:link", "imagefolder:~/pets"):
        assert canonical_source(source) == f"imagefolder:{tmp_path}/pets"
        assert open_source(source).signature() == open_source(f"imagefolder:{tmp_path}/pets").signature()
    assert canonical_source("digits") == "digits"


class TestBuiltIn:
    def test_digits_cover_the_whole_range_of_pixels_in_three_equal_channels(self) -> None:
        found = contents("digits")
        rows = list(found.rows())
        assert found.count == len(rows) == 1797
        assert found.class_names == tuple("0123456789")
        images = np.stack([row.image for row in rows if isinstance(row.image, np.ndarray)])
        assert images.shape == (1797, 3, 8, 8)
        assert images.dtype == np.uint8
        assert (images.min(), images.max()) == (0, 255)
        assert (images == images[:, :1]).all()
        assert labels_per_split(found).keys() == {"train"}

    def test_synthetic_images_are_the_same_on_every_machine(self) -> None:
        rows = list(contents("synthetic").rows())
        assert Counter(row.label for row in rows) == dict.fromkeys(range(10), 200)
        images = np.stack([row.image for row in rows if isinstance(row.image, np.ndarray)])
        assert images.shape == (2000, 3, 32, 32)
        assert images.dtype == np.uint8
        assert hashlib.sha256(images.tobytes()).hexdigest()[:16] == "5c436e646dff7707"

    @pytest.mark.parametrize("name", ["cifar10", "cifar100"])
    def test_without_a_network_cifar_says_what_to_do(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens on the discard port
        monkeypatch.setattr(urllib.request, "_opener", None)  # it remembers the proxies of its first use
        (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"a broken download")
        with pytest.raises(ConfigError, match=rf"could not be downloaded.*{tmp_path}.*parquet:PATH"):
            contents(name, tmp_path)

    def test_cifar_that_was_downloaded_is_verified_and_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from torchvision.datasets import CIFAR10

        pixels = np.arange(20 * 3072, dtype=np.uint32).astype(np.uint8).reshape(20, 3072)
        inner = tmp_path / "made" / CIFAR10.base_folder
        inner.mkdir(parents=True)

        def write(name: str, content: dict[str, Any]) -> list[str]:
            (inner / name).write_bytes(pickle.dumps(content))
            return [name, hashlib.md5((inner / name).read_bytes()).hexdigest()]  # noqa: S324 (torchvision's check)

        names = [f"thing {i}" for i in range(10)]
        labels = [i % 10 for i in range(20)]
        train = write("data_batch_1", {"data": pixels, "labels": labels})
        test = write("test_batch", {"data": pixels[:10], "labels": labels[:10]})
        meta = write("batches.meta", {"label_names": names})
        archive = tmp_path / CIFAR10.filename
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(inner, CIFAR10.base_folder)
        monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())  # noqa: S324
        monkeypatch.setattr(CIFAR10, "train_list", [train])
        monkeypatch.setattr(CIFAR10, "test_list", [test])
        monkeypatch.setattr(CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})

        found = contents("cifar10", tmp_path)
        rows = list(found.rows())
        assert found.class_names == tuple(names)
        assert [row.split for row in rows] == ["train"] * 20 + ["test"] * 10
        assert [row.label for row in rows] == labels + labels[:10]
        assert isinstance(rows[3].image, np.ndarray)
        assert (rows[3].image == pixels[3].reshape(3, 32, 32)).all()

    @pytest.mark.network
    def test_cifar10_can_be_downloaded(self, tmp_path: Path) -> None:
        found = labels_per_split(contents("cifar10", tmp_path))
        assert found == {"train": dict.fromkeys(range(10), 5000), "test": dict.fromkeys(range(10), 1000)}
