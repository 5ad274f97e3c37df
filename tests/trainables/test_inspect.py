"""The verb `inspect`: what it writes, what reads its list again, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import Typed
from tests.trainables.image_files import write_folder
from trainables.config import Data
from trainables.data.store import prepare
from trainables.inspect import inspect


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes and two splits, of which the validation images of one are copies; one file is damaged."""
    root = write_folder(tmp_path / "pets", {"train/cat": 30, "train/dog": 30, "val/cat": 22, "val/dog": 22})
    for i in range(10):
        shutil.copy(root / f"train/cat/{i:04}.png", root / f"val/cat/copy{i}.png")
    (root / "train/dog/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return root


def test_what_was_found_is_printed_and_written_and_the_list_leaves_it_out(
    folder: Path, tmp_path: Path, typed: Typed
) -> None:
    source = f"imagefolder:{folder}"
    done = typed(inspect, source, "--out", "found", "--fix", "lists")
    assert done.returncode == 0, done.stderr
    assert "problem  unreadable: 1 of 115 images can't be read: train/dog/broken.png" in done.stdout
    assert "10 of 54 val images (18.5 %) are in train too, 10 of them byte for byte" in done.stdout
    assert "11 images to leave out (1 unreadable, 10 copies), for --set data.exclude=lists/exclude.txt" in done.stdout

    record = json.loads((tmp_path / "found/inspection.json").read_text())
    assert record["counts"] == {"train": [30, 30], "val": [32, 22]}
    checks = {check["name"]: check for check in record["checks"]}
    assert len(checks["duplicates across splits"]["details"]["pairs"]) == 10
    page = (tmp_path / "found/inspection.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 20
    assert "http" not in page.replace("http-equiv", "")
    assert page.index("duplicates across splits") < page.index("contradictory labels")

    store = prepare(Data(source=source, exclude="lists/exclude.txt"), tmp_path / "cache")
    assert (store.counts["val"], store.skipped) == (54, ())
    again = typed(inspect, source, "--set", "data.exclude=lists/exclude.txt", "--fix", "lists")
    assert "no image of val is in another split" in again.stdout
    assert "11 images to leave out (11 left out already)" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["imagefolder:nowhere"], "data.source"),
        (["pets"], "must be one of"),
        (["digits", "--set", "data.resolution"], "--set: must be PATH=VALUE"),
        (["digits", "--set", "data.resolutoin=8"], "unknown key"),
        (["digits", "--set", "seed=8", "--set", "seed=9"], "--set seed: must be given once"),
        (["digits", "--weights", "nowhere.pt"], "model.pretrained: must be the path of a readable file with weights"),
        (["digits", "--set", "model.kind=synthetic"], "model.kind: must be a network"),
        (["digits", "--with-suspects"], "--with-suspects: must be given with --fix"),
        (["digits", "--out", "a_file"], "--out: must be a folder, and is a file"),
        (["digits", "--set", "data.exclude=nowhere.txt"], "data.exclude: must name a text file"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, typed: Typed, arguments: list[str], words: str) -> None:
    (tmp_path / "a_file").touch()
    done = typed(inspect, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "inspection").exists()
