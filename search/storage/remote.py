"""A folder somewhere: on a disk, in S3, in Google's storage; through pyarrow's file systems.

fsspec would do it too, with a package per store beside the boto3 that a cluster needs; pyarrow is here anyway.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

import pyarrow as pa
from pyarrow import fs

from search.journal.error_text import first_line, required
from trainables.config import ConfigError
from trainables.files import replacing

__all__ = [
    "VARIABLE", "FileInfo", "RemoteFolder", "local_storage", "open_storage", "usable_storage", "with_retries",
]  # fmt: skip

VARIABLE = "RESNET_SEARCH_STORAGE"
OPTION = "--storage"
PATIENCE = 1800.0  # seconds; what a worker waits costs less than a trial that fails
GCS_PATIENCE = "retry_limit_seconds=10"  # by itself Google's client tries for a quarter of an hour
LONGEST_PAUSE = 30.0
FORGOTTEN = 86400.0  # seconds after which a scratch folder is a killed process's
SECRET = re.compile(r"://[^@]*:[^@]*@")

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file of a storage: its name below the folder that was listed, bytes, and seconds since 1970."""

    name: str
    nbytes: int
    written: float


@dataclass(frozen=True)
class RemoteFolder:
    """A folder of a file system. Names are relative to it, with slashes; folders need not be made.

    Every method raises OSError where the file system does: away, full, or no permission. At any moment a file is
    absent, the old one or the new one, whole.

    Attributes:
        path: the folder in its file system.
        location: the same for people and records: a path, or a URI without its options.
        options: what follows the `?` of a URI, with it.
    """

    filesystem: fs.FileSystem
    path: str
    location: str
    options: str = ""

    @property
    def uri(self) -> str:
        """What opens it again, on any machine."""
        return f"{self.location}{self.options}"

    def child(self, name: str) -> RemoteFolder:
        """A folder below this one."""
        return replace(self, path=f"{self.path}/{name}", location=self.where(name))

    @property
    def parent(self) -> RemoteFolder:
        """The folder that this one is in."""
        return replace(self, path=self.path.rpartition("/")[0], location=self.location.rpartition("/")[0])

    def where(self, name: str) -> str:
        """The location of a file, as it is recorded."""
        return f"{self.location}/{name}"

    def name_of(self, location: str) -> str:
        """The reverse of `where`; what is elsewhere comes back as it is."""
        return location.removeprefix(f"{self.location}/")

    def local(self, name: str = "") -> Path | None:
        """The file's path if this is a folder of this machine."""
        return Path(self.path, name) if isinstance(self.filesystem, fs.LocalFileSystem) else None

    def list(self, folder: str = "") -> list[FileInfo]:
        """Every file below a folder, at any depth, by name; none if there is no such folder."""
        selector = fs.FileSelector(self._path(folder), allow_not_found=True, recursive=True)
        start = len(self._path(folder).rstrip("/")) + 1
        for attempt in (1, 2, 3):
            try:
                found = self.filesystem.get_file_info(selector)
                break
            except FileNotFoundError:  # a folder was removed while it was read
                if attempt == 3:
                    raise
        files = [
            FileInfo(info.path[start:], info.size, info.mtime.timestamp() if info.mtime else 0.0)
            for info in found
            if info.type == fs.FileType.File
        ]
        return sorted(files, key=lambda file: file.name)

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return bool(self.filesystem.get_file_info(self._path(name)).type == fs.FileType.File)

    def read(self, name: str) -> bytes | None:
        """A file's content; None if there is none."""
        try:
            with self.filesystem.open_input_stream(self._path(name)) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write a small file."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "content")
            source.write_bytes(content)
            self.put(source, name)

    def put(self, source: Path, name: str) -> None:
        """Copy a file of this machine here."""
        target = self.local(name)
        if target is None:
            self._copy(str(source), self._path(name), fs.LocalFileSystem(), self.filesystem)
            return
        with replacing(target) as partial:
            shutil.copyfile(source, partial)

    def get(self, name: str, target: Path) -> None:
        """Copy a file from here to this machine.

        Raises:
            FileNotFoundError: if there is none.
        """
        with replacing(target) as partial:
            self._copy(self._path(name), str(partial), self.filesystem, fs.LocalFileSystem())

    @contextmanager
    def writing(self, name: str, cache: Path) -> Iterator[Path]:
        """A path of this machine to write a file to, which is here after a clean exit; `cache` has room for it."""
        if target := self.local(name):
            yield target
            return
        with _scratch(cache) as folder:
            yield folder / Path(name).name
            self.put(folder / Path(name).name, name)

    @contextmanager
    def reading(self, name: str, cache: Path) -> Iterator[Path]:
        """A path of this machine with a file's content, as long as the context lasts; `cache` has room for it.

        Raises:
            FileNotFoundError: if there is none.
        """
        if source := self.local(name):
            yield source
            return
        with _scratch(cache) as folder:
            self.get(name, folder / Path(name).name)
            yield folder / Path(name).name

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(self._path(name))

    def delete_folder(self, name: str) -> None:
        """Remove everything below a folder, if it exists. On this machine, what cannot be removed right now stays."""
        if folder := self.local(name):
            shutil.rmtree(folder, ignore_errors=True)  # somebody may be writing there
            return
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_dir(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self.path}/{name}" if name else self.path

    @staticmethod
    def _copy(source: str, target: str, source_system: fs.FileSystem, target_system: fs.FileSystem) -> None:
        fs.copy_files(
            source, target, source_filesystem=source_system, destination_filesystem=target_system, use_threads=False
        )


@contextmanager
def _scratch(cache: Path) -> Iterator[Path]:
    cache.mkdir(parents=True, exist_ok=True)
    for old in cache.glob("scratch-*"):
        with contextlib.suppress(FileNotFoundError):  # another process removes it, too
            if time.time() - old.stat().st_mtime > FORGOTTEN:
                shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="scratch-") as folder:
        yield Path(folder)


def local_storage(folder: Path) -> RemoteFolder:
    """A folder of this machine, absolute."""
    return RemoteFolder(fs.LocalFileSystem(), str(folder), str(folder))


def open_storage(uri: str) -> RemoteFolder:
    """The folder that a URI (`s3://bucket/folder`, `gs://...`) or a path names; S3 is asked for the bucket's region.

    What follows a `?` are options of pyarrow's file system: `endpoint_override`, `scheme`, `region`.

    Raises:
        ConfigError: if it names no file system, or holds a password.
        OSError: if the storage cannot be reached.
    """
    if "://" not in uri:
        return local_storage(Path(os.path.abspath(Path(uri).expanduser())))  # `..` goes, links stay
    if SECRET.search(uri):
        rule = "must not hold a secret: S3 takes AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or `aws configure`"
        raise ConfigError.single(OPTION, SECRET.sub("://", uri), rule)
    if uri.startswith(("gs:", "gcs:")) and "retry_limit_seconds" not in uri:
        uri += ("&" if "?" in uri else "?") + GCS_PATIENCE
    try:
        parts = urlsplit(uri)
        filesystem, path = fs.FileSystem.from_uri(uri)
    except OSError:
        raise
    except (ValueError, pa.ArrowException) as error:
        rule = f"must be a path, or a URI such as s3://BUCKET/FOLDER or gs://BUCKET/FOLDER ({first_line(error)})"
        raise ConfigError.single(OPTION, uri, rule) from None
    path = path.rstrip("/")
    if isinstance(filesystem, fs.LocalFileSystem):
        return local_storage(Path(path))
    if not path:
        raise ConfigError.single(OPTION, uri, "must name a bucket: s3://BUCKET/FOLDER")
    location = urlunsplit(parts._replace(path=parts.path.rstrip("/"), query="", fragment=""))
    return RemoteFolder(filesystem, path, location, f"?{parts.query}" if parts.query else "")


def usable_storage(uri: str) -> RemoteFolder:
    """As `open_storage`, after making sure that files can be written there, read and removed.

    Raises:
        ConfigError: if it names no file system, holds a password, or is no such place.
    """
    probe = f".probe-{uuid.uuid4().hex}"
    with required(OPTION, uri, "must be a place where files can be written: check that it exists and is yours"):
        storage = open_storage(uri)
        storage.write(probe, b"probe")
        storage.list("journal")
        storage.delete(probe)
        return storage


def with_retries(ask: Callable[[], Answer]) -> Answer:
    """What `ask` returns; it is called again for half an hour while the storage is away.

    Raises:
        FileNotFoundError: at once; every other OSError when the time is up.
    """
    deadline = time.monotonic() + PATIENCE
    pause = 1.0
    while True:
        try:
            return ask()
        except FileNotFoundError:
            raise
        except OSError:
            if time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
