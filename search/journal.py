"""The journal: the one record of a search, from which everything else is rebuilt.

`<study>/journal/` holds a segment a session (`000001.jsonl`, ...), one JSON object a line. A line is on disk before
what it tells takes effect, so that a search that was killed at any moment can go on as if it had not been: a line
without its newline was never finished, and is no event. NaN and the infinities are written as Python's `json` writes
them (`NaN`, `Infinity`). No database does this with less: appending and fsyncing a line is all that is needed.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from trainables.config import ConfigError

__all__ = [
    "EVENTS", "Decided", "EpochReported", "Event", "Journal", "SessionEnded", "SessionStarted", "TrialEnded",
    "TrialStatus", "TrialSuggested", "lock", "next_session", "read", "segments",
]  # fmt: skip

MAX_LINE_BYTES = 1_000_000  # a config and its values take a few thousand
MAX_ERROR = 20_000  # characters
SEGMENT = re.compile(r"\d{6}\.jsonl")

Number = Annotated[int, Field(ge=0, lt=2**31)]
Epoch = Annotated[int, Field(ge=1, lt=2**31)]
Seconds = Annotated[float, Field(ge=0, lt=1e11, allow_inf_nan=False)]


def _writable(text: object) -> object:
    # An error's text may hold half characters (paths) and megabytes; its end says most.
    if not isinstance(text, str):
        return text
    return text[-MAX_ERROR:].encode(errors="backslashreplace").decode()


ErrorText = Annotated[str, BeforeValidator(_writable)]


class TrialStatus(StrEnum):
    """Where a trial stands.

    PENDING waits for a worker, as does an interrupted one. PAUSED waits for a promotion. COMPLETED trained all its
    epochs or until its patience was used up; STOPPED was ended by the scheduler or the end of the budget; DIVERGED
    had a loss or objective that was not finite; FAILED raised an error.
    """

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    STOPPED = "STOPPED"
    DIVERGED = "DIVERGED"
    FAILED = "FAILED"

    @property
    def ended(self) -> bool:
        """Whether nothing more will come from the trial."""
        return self in (self.COMPLETED, self.STOPPED, self.DIVERGED, self.FAILED)


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ser_json_inf_nan="constants")


class SessionStarted(_Event):
    """A driver took the study over. `time` is in seconds since 1970; `fingerprint` is that of the prepared images."""

    event: Literal["session"] = "session"
    session: Annotated[int, Field(ge=1, lt=1_000_000)]
    time: Seconds
    versions: dict[str, str]
    git: str | None = None
    fingerprint: str | None = None


class TrialSuggested(_Event):
    """Trial `trial` was made: `values` by qualified key (None outside the space), `config` a whole TrialConfig."""

    event: Literal["suggest"] = "suggest"
    trial: Number
    origin: str  # "recipe:NAME" or the searcher's kind
    values: dict[str, Any] | None
    config: dict[str, Any]
    time: Seconds


class EpochReported(_Event):
    """The trial finished `epoch` (1 is the first). `checkpoint` is the newest one's path."""

    event: Literal["result"] = "result"
    trial: Number
    epoch: Epoch
    metrics: dict[str, float]
    last: bool = False
    stop_reason: str | None = None
    checkpoint: str | None = None
    time: Seconds


class Decided(_Event):
    """What the scheduler decided at a rung; `cutoff` is the value the trial was compared with."""

    event: Literal["decision"] = "decision"
    trial: Number
    epoch: Epoch
    action: Literal["stop", "continue"]
    rung: Number | None = None
    cutoff: float | None = None
    reason: str


class TrialEnded(_Event):
    """Nothing more will come from the trial; FAILED says in `error` why."""

    event: Literal["end"] = "end"
    trial: Number
    status: TrialStatus
    stop_reason: str | None = None
    error: ErrorText | None = None
    time: Seconds

    @field_validator("status")
    @classmethod
    def _ended(cls, status: TrialStatus) -> TrialStatus:
        if not status.ended:
            raise ValueError("must be COMPLETED, STOPPED, DIVERGED or FAILED: the trial has ended")
        return status

    @model_validator(mode="after")
    def _failed_says_why(self) -> TrialEnded:
        if self.status is TrialStatus.FAILED and not self.error:
            raise ValueError("`error` must say why the trial failed")
        return self


class SessionEnded(_Event):
    """The driver let go of the study in good order: `reason` is "finished" or what interrupted it."""

    event: Literal["close"] = "close"
    session: Annotated[int, Field(ge=1, lt=1_000_000)]
    reason: str
    time: Seconds


Event = SessionStarted | TrialSuggested | EpochReported | Decided | TrialEnded | SessionEnded

EVENTS: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


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
        """Write events, in order; on return they are on disk. Several at once cost one sync.

        Raises:
            OSError: if the disk is full or gone; then none of them is in the journal.
            ValueError: if one is too long to be read back.
        """
        lines = [event.model_dump_json().encode() + b"\n" for event in events]
        if max(map(len, lines), default=0) > MAX_LINE_BYTES:
            raise ValueError(
                f"an event must be shorter than {MAX_LINE_BYTES:,} bytes as JSON, got {max(map(len, lines)):,}"
            )
        data = b"".join(lines)
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
    for path in segments(directory):
        try:
            with path.open("rb") as file:
                for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), 1):
                    if not line.endswith(b"\n"):
                        if len(line) == MAX_LINE_BYTES:
                            rule = f"must be shorter than {MAX_LINE_BYTES:,} bytes"
                            raise ConfigError.single(f"{path}, line {number}", line[:40], rule)
                        break
                    yield _parse(line, path, number)
        except OSError as error:
            raise ConfigError.single(str(path), error.strerror, "must be a readable journal segment") from None


def _parse(line: bytes, path: Path, number: int) -> Event:
    try:
        return EVENTS.validate_json(line)
    except ValidationError as invalid:
        error = invalid.errors(include_url=False)[0]
        field = ".".join(str(part) for part in error["loc"][1:])
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
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another process"
            rule = "is held by a running search: wait for it, stop it, or choose another --out"
            raise ConfigError.single(str(directory), holder, rule) from None
        except OSError as error:
            raise ConfigError.single(str(path), error.strerror, "must be on a file system with locks") from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {platform.node()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
