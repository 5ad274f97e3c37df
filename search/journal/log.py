"""The journal: the one record of a search, from which everything else is rebuilt.

`<study>/journal/` holds a segment a session (`000001.jsonl`, ...). A line is one event as a JSON object, or a list of
events that belong together, so that a crash leaves all of them or none. A line is on disk before what it tells takes
effect, so that a search that was killed at any moment can go on as if it had not been: a line without its newline was
never finished, and is no event. NaN and the infinities are written as Python's `json` writes
them (`NaN`, `Infinity`). No database does this with less: appending and fsyncing a line is all that is needed.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from pydantic import ValidationError

from search.journal.events import EVENTS, TOGETHER, Event
from trainables.config import ConfigError

__all__ = ["Journal", "holder", "lock", "next_session", "read", "read_places", "segments"]

MAX_LINE_BYTES = 1_000_000  # a config and its values take a few thousand
ASKING = 0.1  # seconds, of which `holder` takes a thousandth
SEGMENT = re.compile(r"\d{6}\.jsonl")


class Journal:
    """Appends events to the segment of one session.

    Args:
        directory: `<study>/journal`; made if it is missing.
        session: the session's number, from 1; its segment must not exist yet.

    Raises:
        ConfigError: if the segment exists or cannot be made.
    """

    def __init__(self, directory: Path, session: int) -> None:
        self.path = directory / f"{session:06d}.jsonl"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            rule = "must be a new segment: this session's was already begun"
            raise ConfigError.single(str(self.path), session, rule) from None
        except OSError as error:
            raise ConfigError.single(str(directory), error.strerror, "must be a writable folder") from None
        self._size, self._torn = 0, False
        self._writing = Lock()
        self._sync_folder(directory)

    @staticmethod
    def _sync_folder(directory: Path) -> None:
        # The file's name is in the folder: without this a power cut can lose a segment whose lines were synced.
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def append(self, *events: Event) -> None:
        """Write events, in order; on return they are on disk. However the process ends, all of them are or none is.

        Raises:
            OSError: if the disk is full or gone; then none of them is in the journal.
            ValueError: if they are too long to be read back.
        """
        if not events:
            return
        texts = [event.model_dump_json().encode() for event in events]
        data = (texts[0] if len(texts) == 1 else b"[" + b",".join(texts) + b"]") + b"\n"
        if len(data) > MAX_LINE_BYTES:
            raise ValueError(f"events must take fewer than {MAX_LINE_BYTES:,} bytes as JSON, got {len(data):,}")
        with self._writing:
            if self._torn:
                self._cut()
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(self._file, view) :]
                os.fsync(self._file)
            except OSError:
                self._torn = True
                self._cut()
                raise
            self._size += len(data)

    def _cut(self) -> None:
        # Half a line must not stay: the next event would be glued to it.
        os.ftruncate(self._file, self._size)
        self._torn = False

    def close(self) -> None:
        """Let go of the file; appending again raises OSError."""
        os.close(self._file)


def segments(directory: Path) -> list[Path]:
    """The journal's files in order; none if there is no journal."""
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if SEGMENT.fullmatch(path.name))


def next_session(directory: Path) -> int:
    """The number of the session that would be started now: 1 if there was none."""
    existing = segments(directory)
    return int(existing[-1].stem) + 1 if existing else 1


def read(directory: Path) -> Iterator[Event]:
    """Every event of every session in order; nothing if there is no journal. Safe while a driver is writing.

    The last line of a segment is ignored when its newline is missing: it was never finished.

    Raises:
        ConfigError: naming file and line, for any other line that is no event.
    """
    return (event for _, event in read_places(directory))


def read_places(directory: Path) -> Iterator[tuple[str, Event]]:
    """As `read`, each event with its place: file and line, for `history.checked` to name.

    Raises:
        ConfigError: as `read`.
    """
    for path in segments(directory):
        try:
            if not path.is_file():  # a pipe may never end
                raise IsADirectoryError(0, "a folder, pipe or device")
            with path.open("rb") as file:
                for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), 1):
                    if not line.endswith(b"\n"):
                        if len(line) == MAX_LINE_BYTES:
                            rule = f"must be shorter than {MAX_LINE_BYTES:,} bytes"
                            raise ConfigError.single(f"{path}, line {number}", line[:40], rule)
                        break
                    for event in _parse(line, path, number):
                        yield f"{path}, line {number}", event
        except OSError as error:
            raise ConfigError.single(str(path), error.strerror, "must be a readable journal segment") from None


def _parse(line: bytes, path: Path, number: int) -> list[Event]:
    try:
        return TOGETHER.validate_json(line) if line.startswith(b"[") else [EVENTS.validate_json(line)]
    except ValidationError as invalid:
        error = invalid.errors(include_url=False)[0]
        among, *parts = error["loc"] or ("",)
        field = ".".join(str(part) for part in (parts[1:] if isinstance(among, int) else parts))  # behind the tag
        where = f"{path}, line {number}" + (f", {field}" if field else "")
        rule = f"is no journal event ({error['msg']}); the file was changed or is damaged"
        raise ConfigError.single(where, line[:40], rule) from None


@contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Hold the study: a second driver on the same journal is refused. Ends with the process, however it ends.

    Raises:
        ConfigError: naming process and machine of the driver that holds it.
    """
    path = directory / "lock"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigError.single(str(directory), error.strerror, "must be a writable folder") from None
    try:
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(ASKING)
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            rule = "is held by a running search: wait for it, stop it, or choose another --out"
            raise ConfigError.single(str(directory), _named(handle), rule) from None
        except OSError as error:
            raise ConfigError.single(str(path), error.strerror, "must be on a file system with locks") from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {platform.node()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def holder(directory: Path) -> str | None:
    """Process and machine of the driver that holds the study; None if nobody does.

    Asking takes the lock for a moment: shared, so that several that ask do not see each other, and `lock` waits for
    it.
    """
    try:
        handle = os.open(directory / "lock", os.O_RDONLY)
    except OSError:
        return None  # no driver has been here
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _named(handle)
    except OSError:
        return None  # a file system without locks, on which no driver can run
    finally:
        os.close(handle)
    return None


def _named(handle: int) -> str:
    return os.pread(handle, 200, 0).decode(errors="replace").strip() or "another process"
