"""Where a study stands: the one fold of its journal, from which every view and the driver itself are derived."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from search.journal.comparisons import Comparison
from search.journal.cost import Spending
from search.journal.events import (
    ComparisonEvent,
    ComparisonStarted,
    EpochReported,
    Event,
    SessionEnded,
    SessionEvent,
    SessionStarted,
    TrialEvent,
    TrialResumed,
    TrialStatus,
    TrialSuggested,
    WarmStarted,
    WorkerLost,
)
from search.journal.provenance import versions
from search.journal.records import TrialRecord, best_of
from search.study.spec import StudySpec
from trainables.config import ConfigError

__all__ = ["SEARCH_SHARE", "SessionRecord", "StudyState", "identity_checksum"]

STARTED_FIRST = "must be started before anything else happens to it: a segment of the journal is missing"
SEARCH_SHARE = 0.8  # of hours and money; the rest is the refit's, if one follows


def identity_checksum(spec: StudySpec) -> str:
    """A checksum of what the study is, but for its execution, which the first machine decides."""
    identity = spec.identity()
    identity["trial"] = {**identity["trial"], "execution": None}
    return f"{zlib.crc32(json.dumps(identity, sort_keys=True, default=str).encode()):08x}"


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One session; times are in seconds since 1970.

    `latest` is when the last of its events was written. `reason` says how it ended, None if no end was written: then
    it is running, or was killed.
    """

    number: int
    started: float
    latest: float
    reason: str | None = None


@dataclass
class StudyState:
    """A study after some of its events: the same events in the same order always give the same state.

    Attributes:
        records: every trial by number, in the order of their suggestion, runs of comparisons among them.
        sessions: every session in order.
        spending: what the study has cost.
        started: the beginning of the last session: versions, git commit and fingerprint; None before the first.
        warm_start: what the study took of earlier ones; None without any.
        last_heartbeat: when each trial was last handed to a worker or reported an epoch, in seconds since 1970.
        worker_losses: the workers that each trial has lost; trials that lost none are left out.
        comparisons: every comparison in order, with its runs as they stand.
    """

    records: dict[int, TrialRecord] = field(default_factory=dict)
    sessions: list[SessionRecord] = field(default_factory=list)
    spending: Spending = field(default_factory=Spending)
    started: SessionStarted | None = None
    warm_start: WarmStarted | None = None
    last_heartbeat: dict[int, float] = field(default_factory=dict)
    worker_losses: dict[int, list[WorkerLost]] = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)
    _compared_in: dict[int, int] = field(default_factory=dict)  # the place of its comparison, by a run's number

    @classmethod
    def of(cls, events: Iterable[Event]) -> StudyState:
        """The state after all of these events.

        Raises:
            ConfigError: as `apply`, and as `journal.read` does.
        """
        state = cls()
        for event in events:
            state.apply(event)
        return state

    def apply(self, event: Event) -> None:
        """Apply the next event.

        A trial that was running when a session begins or ends is PENDING: its worker is gone.

        Raises:
            ConfigError: for a trial that the journal has not introduced.
        """
        self.spending = self.spending.after(event)
        if isinstance(event, SessionStarted):
            self.started = event
            self.sessions.append(SessionRecord(event.session, event.time, event.time))
        elif self.sessions:
            last = self.sessions[-1]
            reason = event.reason if isinstance(event, SessionEnded) else last.reason
            self.sessions[-1] = replace(last, latest=max(last.latest, event.time), reason=reason)
        if isinstance(event, SessionEvent):
            for record in [record for record in self.records.values() if record.status is TrialStatus.RUNNING]:
                self._put(replace(record, status=TrialStatus.PENDING))
        elif isinstance(event, TrialEvent):
            self._apply_to_trial(event)
        elif isinstance(event, WarmStarted):
            self.warm_start = event
        elif isinstance(event, ComparisonStarted):
            self.comparisons.append(Comparison(event))
        elif isinstance(event, ComparisonEvent):
            self._apply_to_comparison(event)

    def _apply_to_comparison(self, event: ComparisonEvent) -> None:
        if not 0 < event.comparison <= len(self.comparisons):
            raise ConfigError.single("journal", f"comparison {event.comparison}", STARTED_FIRST)
        self.comparisons[event.comparison - 1] = self.comparisons[event.comparison - 1].after(event)

    def _apply_to_trial(self, event: TrialEvent) -> None:
        record = self.records.get(event.trial)
        if record is not None:
            self._put(record.after(event))
        elif isinstance(event, TrialSuggested):
            made = TrialRecord(
                event.trial, event.origin, event.values, event.config, TrialStatus.RUNNING, started=event.time
            )
            if made.arm is not None:
                kind = event.origin.partition(":")[0]  # one of another kind may have been made meanwhile
                places = [place for place, found in enumerate(self.comparisons) if found.kind == kind]
                if not places:
                    raise ConfigError.single("journal", f"the {kind} of trial {event.trial}", STARTED_FIRST)
                self._compared_in[event.trial] = places[-1]
            self._put(made)
        else:
            raise ConfigError.single("journal", f"trial {event.trial}", STARTED_FIRST)
        if isinstance(event, TrialSuggested | TrialResumed | EpochReported):
            self.last_heartbeat[event.trial] = event.time
        elif isinstance(event, WorkerLost):
            self.worker_losses.setdefault(event.trial, []).append(event)

    def _put(self, record: TrialRecord) -> None:
        self.records[record.number] = record
        if (place := self._compared_in.get(record.number)) is not None:
            runs = {run.number: run for run in self.comparisons[place].runs} | {record.number: record}
            self.comparisons[place] = replace(self.comparisons[place], runs=tuple(runs.values()))

    @property
    def trials(self) -> list[TrialRecord]:
        """Every trial of the search by number."""
        return [self.records[number] for number in sorted(self.records) if self.records[number].arm is None]

    @property
    def open_session(self) -> SessionRecord | None:
        """The last session if it is running or was killed: its end is not written."""
        return self.sessions[-1] if self.sessions and self.sessions[-1].reason is None else None

    @property
    def seconds_used(self) -> float:
        """How long the study's sessions have run; a killed one ran until the last thing that it wrote."""
        return sum(session.latest - session.started for session in self.sessions)

    def is_over(self, spec: StudySpec) -> bool:
        """Whether nothing is left to do: the budget is used up, all trials have ended, and the refit is over."""
        budget, trials = spec.budget, self.trials
        if not trials or not all(record.status.ended for record in trials):
            return False
        hours = math.inf if budget.hours is None else budget.hours
        money = math.inf if budget.max_cost is None else budget.max_cost
        used = max(self.seconds_used / 3600 / hours, self.spending.spent / money)
        searched = len(trials) >= budget.trials or used >= (SEARCH_SHARE if spec.refit else 1)
        return searched and (used >= 1 or not self.refit_is_due(spec))

    def refit_is_due(self, spec: StudySpec) -> bool:
        """Whether the study's refit is still to be made, or finished, once its search is over."""
        objective = spec.objective
        if spec.refit is None or best_of(self.trials, objective.metric, objective.mode) is None:
            return False
        refit = self.refit_of_search
        return refit is None or not refit.is_over

    def trained_since(self, comparison: Comparison) -> bool:
        """Whether the search has trained since a comparison began, whose contenders may be others now."""
        begun = comparison.started.time
        return any((r.started or 0.0) > begun or (r.history and r.history[-1].time > begun) for r in self.trials)

    @property
    def refit_of_search(self) -> Comparison | None:
        """The first refit of the search as it stands; None if trials have run since the last one, or run now."""
        trials = self.trials
        return next((c for c in self.comparisons if c.kind == "refit" and c.follows(trials)), None)

    def check_identity(self, spec: StudySpec) -> None:
        """Refuse a study whose study.yaml was edited after its first trials: they would not fit the rest.

        Another version of the package may have other defaults, and so other checksums: it is not judged.

        Raises:
            ConfigError: if it was.
        """
        started, package = self.started, "resnet-search"
        if started is None or started.identity is None or versions().get(package) != started.versions.get(package):
            return
        if started.identity != identity_checksum(spec):
            rule = (
                "was edited after its search started, and its trials would not fit together: undo that, or start "
                "another study with --fresh"
            )
            raise ConfigError.single(f"{spec.study}/study.yaml", "another study", rule)

    def missing_end(self, spec: StudySpec) -> SessionEnded | None:
        """The end of the last session that its driver could not write, because it was killed; None if there is one.

        For views of a journal that no driver writes anymore: its trials would look as if they were running forever.
        """
        last = self.open_session
        if last is None:
            return None
        return SessionEnded(
            session=last.number, reason="finished" if self.is_over(spec) else "killed", time=last.latest
        )
