"""What can happen in a search: the events of its journal, each a frozen record."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, field_validator, model_validator

__all__ = [
    "EVENTS", "MOST_MONEY", "TOGETHER", "CostCounted", "Decided", "EpochReported", "Event", "SessionEnded",
    "SessionStarted", "TrialEnded", "WorkerLost", "TrialResumed", "TrialStatus", "TrialSuggested",
]  # fmt: skip

MAX_ERROR = 20_000  # characters
MOST_MONEY = 1e15  # in any currency; a journal whose times were changed must not lead to infinity

Number = Annotated[int, Field(ge=0, lt=2**31)]
Epoch = Annotated[int, Field(ge=1, lt=2**31)]
Seconds = Annotated[float, Field(ge=0, lt=1e11, allow_inf_nan=False)]
Money = Annotated[float, Field(ge=0, le=MOST_MONEY)]


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


class TrialResumed(_Event):
    """The trial was handed to a worker once more, as its leg number `leg`, the first being 1.

    `reason` says after what: an interruption, a loss or a promotion. `checkpoint` is the newest that was known.
    """

    event: Literal["resume"] = "resume"
    trial: Number
    leg: Annotated[int, Field(ge=2, lt=2**31)]
    reason: str
    checkpoint: str | None = None
    time: Seconds


class WorkerLost(_Event):
    """The trial's worker is gone before the trial ended; the trial waits for another.

    `cause`: the worker or its node was `worker_died` (or killed), the trial raised an `error`, or it was `silent` for
    too long and was killed. `checkpoint` is the newest on disk, None if there is none.
    """

    event: Literal["worker_lost"] = "worker_lost"
    trial: Number
    cause: Literal["worker_died", "error", "timeout"]
    error: ErrorText
    checkpoint: str | None = None
    time: Seconds


class Decided(_Event):
    """What the scheduler decided about the trial at a rung; `cutoff` is the value the trial was compared with.

    A trial that is paused lets go of its worker; `promote` is decided later, about a paused one.
    """

    event: Literal["decision"] = "decision"
    trial: Number
    epoch: Epoch
    action: Literal["stop", "continue", "pause", "promote"]
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


class CostCounted(_Event):
    """The study had cost `total` by then, all sessions together, and costs `rate` an hour from then on.

    `nodes` says for how many nodes of which type. Amounts are in the currency of the study's prices at that time.
    """

    event: Literal["cost"] = "cost"
    total: Money
    rate: Money
    nodes: dict[str, Annotated[int, Field(ge=1, lt=2**31)]]
    time: Seconds


Event = (
    SessionStarted
    | TrialSuggested
    | TrialResumed
    | EpochReported
    | Decided
    | WorkerLost
    | TrialEnded
    | SessionEnded
    | CostCounted
)
_Tagged = Annotated[Event, Field(discriminator="event")]

EVENTS: TypeAdapter[Event] = TypeAdapter(_Tagged)
TOGETHER: TypeAdapter[list[Event]] = TypeAdapter(Annotated[list[_Tagged], Field(min_length=1)])
