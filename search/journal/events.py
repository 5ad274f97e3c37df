"""What can happen in a study: the events of its journal, each a frozen record."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, field_validator, model_validator

from search.journal.trial_status import TrialStatus
from trainables.result import ClassReport, Collapse

__all__ = [
    "RECIPE", "TOGETHER", "Action", "Arm", "Cause", "ComparisonEnded", "ComparisonEvent", "ComparisonKind",
    "ComparisonStarted", "CostCounted", "Decided", "EpochReported", "Event", "PriorTrial", "Role", "SessionEnded",
    "SessionEvent", "SessionStarted", "TestOpened", "TestScored", "TrialEnded", "TrialEvent", "TrialResumed",
    "TrialStatus", "TrialSuggested", "WarmStarted", "WorkerLost",
]  # fmt: skip

MAX_ERROR = 4000  # characters
RECIPE = "recipe:"  # an origin's prefix, before the recipe's name

Number = Annotated[int, Field(ge=0, lt=2**31)]
Epoch = Annotated[int, Field(ge=1, lt=2**31)]
Seconds = Annotated[float, Field(ge=0, lt=1e11, allow_inf_nan=False)]
NOT_WRITTEN = Field(exclude_if=lambda value: value is None)  # so that lines stay short
Money = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _writable(text: object) -> object:
    # An error's text may hold half characters (paths) and megabytes; its end says most.
    if not isinstance(text, str):
        return text
    return text[-MAX_ERROR:].encode(errors="backslashreplace").decode()


ErrorText = Annotated[str, BeforeValidator(_writable)]
Cause = Literal["worker_died", "error", "timeout"]
Action = Literal["stop", "continue", "pause", "promote"]
ComparisonKind = Literal["refit", "explain"]
Role = Literal["finalist", "reference", "baseline", "step", "best", "without"]


class _Event(BaseModel):
    """Something that happened at `time`, in seconds since 1970."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ser_json_inf_nan="constants")

    event: str
    time: Seconds


class SessionEvent(_Event):
    """A session begins or ends."""

    session: Annotated[int, Field(ge=1, lt=1_000_000)]


class TrialEvent(_Event):
    """Something that happened to trial number `trial`."""

    trial: Number


class SessionStarted(SessionEvent):
    """A driver started to work on the study.

    `fingerprint` is that of the prepared images, None without images; `images` describes them, three lines for each
    source; `weights` says what was loaded of pretrained weights; `identity` is `state.identity_checksum` of what the
    study is.
    """

    event: Literal["session_started"] = "session_started"
    versions: dict[str, str]
    git: str | None = None
    fingerprint: str | None = None
    images: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    identity: str | None = None


class TrialSuggested(TrialEvent):
    """A new trial was handed to a worker.

    `origin` is `recipe:NAME` or the searcher's kind, and in a comparison `refit:ARM` or `explain:ARM`; `values` are by
    qualified key, None if outside the space. `config` is a whole TrialConfig.
    """

    event: Literal["trial_suggested"] = "trial_suggested"
    origin: str
    values: dict[str, Any] | None
    config: dict[str, Any]


class EpochReported(TrialEvent):
    """The trial finished `epoch` (1 is the first). `checkpoint` is the newest one's path.

    The other keys are as in `trainables.result.EpochResult`; `report` is that of a trial that then was the best, or a
    refit's run.
    """

    event: Literal["epoch_reported"] = "epoch_reported"
    epoch: Epoch
    metrics: dict[str, float]
    last: bool = False
    stop_reason: str | None = None
    checkpoint: str | None = None
    best_epoch: Annotated[Epoch | None, NOT_WRITTEN] = None
    collapsed: Annotated[Collapse | None, NOT_WRITTEN] = None
    report: Annotated[ClassReport | None, NOT_WRITTEN] = None


class TrialResumed(TrialEvent):
    """The trial was handed to another worker, as its leg number `leg` (the first leg is 1).

    `reason` says after what: an interruption, a lost worker or a promotion. `checkpoint` is the newest known.
    """

    event: Literal["trial_resumed"] = "trial_resumed"
    leg: Annotated[int, Field(ge=2, lt=2**31)]
    reason: str
    checkpoint: str | None = None


class WorkerLost(TrialEvent):
    """The trial's worker was lost before the trial ended; the trial waits for another.

    `cause`: `worker_died` (the worker or its node), `error` (raised by the trial) or `timeout` (it reported nothing for
    too long and was killed). `checkpoint` is the newest on disk, None if there is none.
    """

    event: Literal["worker_lost"] = "worker_lost"
    cause: Cause
    error: ErrorText
    checkpoint: str | None = None


class Decided(TrialEvent):
    """What the scheduler decided about the trial at a rung; `cutoff` is the value the trial was compared with.

    A paused trial releases its worker; `promote` is decided later, about a paused one.
    """

    event: Literal["decided"] = "decided"
    epoch: Epoch
    action: Action
    rung: Number | None = None
    cutoff: float | None = None


class TrialEnded(TrialEvent):
    """Nothing more will come from the trial; FAILED says in `error` why."""

    event: Literal["trial_ended"] = "trial_ended"
    status: TrialStatus
    stop_reason: str | None = None
    error: ErrorText | None = None

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


class SessionEnded(SessionEvent):
    """The driver closed the study properly: `reason` is what interrupted it, or "finished".

    After a comparison by itself that is "refit finished" or "explain finished", which says nothing of the search.
    """

    event: Literal["session_ended"] = "session_ended"
    reason: str


class CostCounted(_Event):
    """The study had cost `total` by then, all sessions together, and costs `rate` an hour from then on.

    `nodes` says for how many nodes of which type. Amounts are in the currency of the study's prices at that time.
    """

    event: Literal["cost_counted"] = "cost_counted"
    total: Money
    rate: Money
    nodes: dict[str, Annotated[int, Field(ge=1, lt=2**31)]]


class PriorTrial(BaseModel):
    """Trial number `trial` of an earlier study, as the searcher is told of it: `history` is the metric by epoch."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ser_json_inf_nan="constants")

    study: str
    trial: Number
    values: dict[str, Any]
    config: dict[str, Any]
    status: TrialStatus
    history: dict[Epoch, float]


class WarmStarted(_Event):
    """What a study took of earlier ones, before its first trial: `trials` that the searcher was told of, and those that
    are tried `first`, behind the recipes. `lines` say it in words.
    """

    event: Literal["warm_started"] = "warm_started"
    metric: str
    studies: tuple[str, ...]
    trials: tuple[PriorTrial, ...]
    lines: tuple[str, ...]
    first: tuple[PriorTrial, ...] = ()


class Arm(BaseModel):
    """One config of a comparison, trained once for each of its seeds.

    `role`: a `finalist` or `reference` of a refit; of an explanation the `baseline`, a `step` of the path from there to
    the `best`, and `without`, the best with one change taken back. `config` is a whole TrialConfig, whose seed is not
    used. `trial` is the trial of the search that it comes from. `change` says what a `step` or `without` is about, and
    where the settings of a `finalist` come from that were found with a proxy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    role: Role
    config: dict[str, Any]
    trial: Number | None = None
    change: str | None = None


class ComparisonEvent(_Event):
    """Something that happened to comparison number `comparison`, counted from 1."""

    comparison: Annotated[int, Field(ge=1, lt=1_000_000)]


class ComparisonStarted(ComparisonEvent):
    """Configs are about to be compared over fresh seeds, the same ones for all.

    Run `i` of an arm, from 0 to `most_runs` - 1, has the seed `first_seed` + i; with `folds` it validates on fold i
    modulo `folds`, of a partition that each round of folds draws anew. `reference` names an arm.
    """

    event: Literal["comparison_started"] = "comparison_started"
    kind: ComparisonKind
    arms: Annotated[tuple[Arm, ...], Field(min_length=1)]
    reference: str | None = None
    first_seed: Number
    most_runs: Annotated[int, Field(ge=1, lt=100_000)]
    folds: Annotated[int, Field(ge=2, lt=100_000)] | None = None


class ComparisonEnded(ComparisonEvent):
    """No run will follow. `winner` names an arm of a refit, None if there is none; `reason` says why it ended."""

    event: Literal["comparison_ended"] = "comparison_ended"
    reason: str
    winner: str | None = None


class TestOpened(ComparisonEvent):
    """The test split is about to be opened, to score the networks of these trials."""

    __test__ = False  # for pytest

    event: Literal["test_opened"] = "test_opened"
    trials: tuple[Number, ...]


class TestScored(ComparisonEvent):
    """What the networks of these trials score on the test split of `images` images: metrics by trial."""

    __test__ = False

    event: Literal["test_scored"] = "test_scored"
    images: Annotated[int, Field(ge=1)]
    scores: dict[Number, dict[str, float]]


Event = (
    SessionStarted | TrialSuggested | TrialResumed | EpochReported | Decided | WorkerLost | TrialEnded | SessionEnded
    | CostCounted | WarmStarted | ComparisonStarted | ComparisonEnded | TestOpened | TestScored
)  # fmt: skip
_Tagged = Annotated[Event, Field(discriminator="event")]
TOGETHER: TypeAdapter[list[Event]] = TypeAdapter(Annotated[list[_Tagged], Field(min_length=1)])
