"""A storage behaves like a folder wherever it is: on this disk, and in S3."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from search.storage.remote import RemoteFolder, local_storage, open_storage, usable_storage
from tests.search.s3_server import BUCKET, s3_server
from trainables.config import ConfigError


@pytest.fixture(params=["path", pytest.param("s3", marks=pytest.mark.slow)])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteFolder]:
    if request.param == "path":
        yield open_storage(str(tmp_path / "storage"))
    else:
        with s3_server(monkeypatch):
            yield open_storage(f"s3://{BUCKET}/some/folder/")


def test_files_come_back_as_they_were_put(storage: RemoteFolder, tmp_path: Path) -> None:
    assert usable_storage(storage.uri) == storage
    assert storage.list() == []
    assert storage.read("a/b.bin") is None
    content = os.urandom(100_000)
    source = tmp_path / "source"
    source.write_bytes(content)
    storage.put(source, "a/b.bin")
    storage.write("a/c/d.txt", b"small")
    assert storage.read("a/b.bin") == content
    assert sorted((file.name, file.nbytes) for file in storage.list()) == [("a/b.bin", 100_000), ("a/c/d.txt", 5)]
    assert [file.name for file in storage.list("a/c")] == ["d.txt"]
    assert storage.list("a")[0].written > 1.7e9
    assert storage.exists("a/b.bin")
    assert not storage.exists("a")
    storage.get("a/b.bin", tmp_path / "deep" / "target")
    assert (tmp_path / "deep" / "target").read_bytes() == content
    assert os.listdir(tmp_path / "deep") == ["target"]
    storage.put(source, "a/c/d.txt")
    assert storage.read("a/c/d.txt") == content


def test_a_child_is_the_same_place_by_another_name(storage: RemoteFolder) -> None:
    child = storage.child("study")
    child.write("journal/1", b"x")
    assert storage.read("study/journal/1") == b"x"
    assert child.where("journal/1") == f"{storage.location}/study/journal/1"
    assert child.name_of(child.where("journal/1")) == "journal/1"
    assert child.parent == storage
    again = open_storage(child.uri)
    assert (again.location, again.read("journal/1")) == (child.location, b"x")


def test_what_is_removed_is_gone_and_may_be_removed_again(storage: RemoteFolder) -> None:
    for name in ("a/1", "a/2", "b/1"):
        storage.write(name, b"x")
    for _ in range(2):
        storage.delete("a/1")
    assert [file.name for file in storage.list()] == ["a/2", "b/1"]
    for _ in range(2):
        storage.delete_folder("a")
    assert [file.name for file in storage.list()] == ["b/1"]


def test_a_file_is_written_and_read_through_a_path_of_this_machine(storage: RemoteFolder, tmp_path: Path) -> None:
    with storage.writing("x/y.pt", tmp_path / "cache") as path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"weights")
    with storage.reading("x/y.pt", tmp_path / "cache") as path:
        assert path.read_bytes() == b"weights"
    with pytest.raises(RuntimeError, match="disk"), storage.writing("x/z.pt", tmp_path / "cache"):
        raise RuntimeError("disk")
    assert [file.name for file in storage.list()] == ["x/y.pt"]
    assert not any((tmp_path / "cache").glob("*"))
    with pytest.raises(FileNotFoundError), storage.reading("x/none", tmp_path / "cache") as path:
        path.read_bytes()
    with pytest.raises(FileNotFoundError):
        storage.get("x/none", tmp_path / "none")


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("nonsense://bucket/x", "must be a path, or a URI such as s3://"),
        ("s3://", "must name a bucket"),
        ("s3://name:pass-word@bucket/x", "must not hold a secret"),
        ("s3://name:half/pass-word@bucket/x", "must not hold a secret"),
        ("s3://bucket/x?no_such_option=1", "must be a path, or a URI"),
    ],
)
def test_a_uri_that_names_no_folder_is_refused(uri: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        open_storage(uri)
    assert "pass-word" not in str(error.value)


@pytest.mark.slow
def test_a_bucket_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server(monkeypatch), pytest.raises(ConfigError, match="does not exist"):
        usable_storage("s3://another-bucket/x")


def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="must be a place where files can be written"):
        usable_storage(str(tmp_path / "file" / "below"))


def test_paths_mean_the_same_in_every_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_storage("x/../y") == local_storage(tmp_path / "y")
    assert open_storage(f"file://{tmp_path}/y/") == local_storage(tmp_path / "y")
    odd = local_storage(tmp_path / "what?")
    assert open_storage(odd.child("b").uri).location == f"{tmp_path}/what?/b"
