"""The journal: the one record of a search, from which everything else is rebuilt.

`<study>/journal/` holds a segment per session (`000001.jsonl`, ...). A line is a JSON object with the events that
belong together, so that a crash leaves all of them or none:

    {"chain":"00c0ffee","format":1}                               the first line of a segment
    {"chain":"8badf00d","events":[{"event":"trial_suggested", ...}]}

`chain` is a running CRC-32 over everything that follows it in its line, continued from the line before and from one
segment to the next: a line that was changed, removed, doubled or moved, and a missing segment, are refused by name.
A line is on disk before what it says takes effect, so that a search that was killed at any moment can resume as if
it had not been; a last line without its newline was never finished, and is ignored. NaN and the infinities are written
as Python's `json` writes them (`NaN`, `Infinity`). No database does this with less: appending and fsyncing a line is
all that is needed.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from search.journal.events import TOGETHER, Event
from trainables.config import ConfigError

__all__ = ["FORMAT", "Journal", "next_session", "read", "segments"]

FORMAT = 1  # of the lines; to be counted up when an older version would misread them
SEGMENT = re.compile(r"\d{6}\.jsonl")
LINE = re.compile(rb'\{"chain":"([0-9a-f]{8})",(.*)\n', re.DOTALL)
HEADER = re.compile(rb'"format":(\d+)\}')
EVENTS_START, EVENTS_END = b'"events":[', b"]}"


class Journal:
    """Appends events to the segment of one session.

    Args:
        directory: `<study>/journal`; made if it is missing.
        session: the session's number, from 1, after those of all earlier ones; its segment must not exist yet.

    Raises:
        ConfigError: if the segment exists or cannot be made.
    """

    def __init__(self, directory: Path, session: int) -> None:
        self.path = directory / f"{session:06d}.jsonl"
        self._size, self._torn = 0, False
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._chain = _end_of_chain(directory)
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)
            self._append(b'"format":%d}' % FORMAT)
        except FileExistsError:
            rule = "must be a new segment: this session has started before"
            raise ConfigError.single(str(self.path), session, rule) from None
        except OSError as error:
            raise ConfigError.single(str(directory), error.strerror, "must be a writable folder") from None
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
        """
        if events:
            self._append(EVENTS_START + b",".join(event.model_dump_json().encode() for event in events) + EVENTS_END)

    def _append(self, body: bytes) -> None:
        if self._torn:
            self._cut()
        chain = zlib.crc32(body, self._chain)
        line = b'{"chain":"%08x",%s\n' % (chain, body)
        try:
            view = memoryview(line)
            while view:
                view = view[os.write(self._file, view) :]
            os.fsync(self._file)
        except OSError:
            self._torn = True
            self._cut()
            raise
        self._size += len(line)
        self._chain = chain

    def _cut(self) -> None:
        # Half a line must not stay: the next one would be glued to it.
        os.ftruncate(self._file, self._size)
        self._torn = False

    def close(self) -> None:
        """Close the file; appending again raises OSError."""
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

    Raises:
        ConfigError: naming file and line, if the journal is damaged or of another format.
    """
    chain = 0
    for path in segments(directory):
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    if not line.endswith(b"\n"):
                        break
                    place = f"{path}, line {number}"
                    if number == 1:
                        _check_format(line, place)
                    chain, body = _check_chain(line, chain, place)
                    if number > 1:
                        yield from _parse(body, place)
        except OSError as error:
            raise ConfigError.single(str(path), error.strerror, "must be a readable journal segment") from None


def _check_format(line: bytes, place: str) -> None:
    parts = LINE.fullmatch(line)
    header = parts and HEADER.fullmatch(parts[2])
    if not header:
        raise ConfigError.single(place, line[:40], "must name the journal's format; the file was changed or is damaged")
    if int(header[1]) != FORMAT:
        rule = f"must be {FORMAT}, the format that this version of resnet-search reads: use the version that wrote it"
        raise ConfigError.single(f"{place}, format", int(header[1]), rule)


def _check_chain(line: bytes, chain: int, place: str) -> tuple[int, bytes]:
    """The chain's value after the line, and what the line holds."""
    parts = LINE.fullmatch(line)
    if parts is None or int(parts[1], 16) != (after := zlib.crc32(parts[2], chain)):
        rule = (
            "does not continue the line before (its checksum is another): a line or a segment was changed, removed, "
            "doubled or moved"
        )
        raise ConfigError.single(place, line[:40], rule)
    return after, parts[2]


def _parse(body: bytes, place: str) -> list[Event]:
    try:
        return TOGETHER.validate_json(body.removeprefix(b'"events":').removesuffix(b"}"))
    except ValidationError as invalid:  # its checksum is right, so that it was written like this
        error = invalid.errors(include_url=False)[0]
        field = ".".join(str(part) for part in error["loc"])
        rule = f"is no event that this version of resnet-search knows ({field}: {error['msg']})"
        raise ConfigError.single(place, body[:40], rule) from None


def _end_of_chain(directory: Path) -> int:
    """The chain's value after the last whole line."""
    for path in reversed(segments(directory)):
        whole = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        if whole and (parts := LINE.fullmatch(whole[-1])):
            return int(parts[1], 16)
    return 0
