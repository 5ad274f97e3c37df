"""A study's records as MLflow runs: one parent for the search, a nested one for each trial.

Which run belongs to which trial is in the runs' own tags, so that a journal shown twice makes no second run. A trial's
run gets its end status last: one that has it is complete and is not written again.
"""

from __future__ import annotations

import getpass
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from search.journal.cost import Spending
from search.journal.events import CostCounted, Event, SessionEnded, SessionStarted, TrialSuggested, WorkerLost
from search.journal.records import TrialRecord, best_of, fold
from search.tracking.client import ENDED, SEARCH, TRIAL, MLflowExperiment, RunState, Value
from search.tracking.uri import reason
from search.tracking.values import STATUSES, parameters, summary, tags_of
from trainables.result import Mode

__all__ = ["RunProjection", "TrackedStudy"]

PARENT = "search"  # the parent's tag, in place of a trial's number
# What stays wrong however often it is tried; everything else is an outage.
REFUSED = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST")


@dataclass(frozen=True)
class TrackedStudy:
    """What MLflow is told about a study: experiment name and note, objective, and the search's parameters and files."""

    study: str
    description: str
    metric: str
    mode: Mode
    params: Mapping[str, str]
    files: Mapping[str, str]


class RunProjection:
    """Folds events at once and writes what they changed when asked to. Not thread-safe.

    Args:
        uri: MLflow's.
        study: the study.
        artifact_root: folder for artifacts where `uri` is a database.
        warn: told in one line what MLflow refuses for good.

    Attributes:
        run_ids: MLflow's run id by trial.
        written: the trials that this projection has written; the others were complete before.
    """

    def __init__(self, uri: str, study: TrackedStudy, artifact_root: Path, warn: Callable[[str], None]) -> None:
        self._uri, self._study, self._artifact_root, self._warn = uri, study, artifact_root, warn
        self._records: dict[int, TrialRecord] = {}
        self._search = ""  # when it began, to the microsecond: another folder may hold a study of the same name
        self._session: SessionStarted | None = None
        self._begun_in: dict[int, SessionStarted | None] = {}  # a trial's tags are the same whenever it is written
        self._parent_tags: dict[str, str] = {}
        self._closed: SessionEnded | None = None
        self._ended = 0
        self._bests: list[tuple[int, TrialRecord]] = []  # each trial that was the best, and how many had ended by then
        self._spending = Spending()
        self._costs: list[Value] = []  # when a trial or session ended: a value a minute would be more than one can read
        self._told_costs = 0
        self._files = dict(study.files)
        self._store: MLflowExperiment | None = None
        self._looked_up = False
        self._parent: RunState | None = None
        self._runs: dict[int, RunState] = {}
        self._changed: set[int] = set()
        self._parent_changed, self._told_session = False, 0
        self._unkept: set[str] = set(self._files)
        self._refusals: Counter[int] = Counter()
        self._lost: defaultdict[int, dict[int, WorkerLost]] = defaultdict(dict)  # by leg, so that one counts once
        self.run_ids: dict[int, str] = {}
        self.written: set[int] = set()

    @property
    def refused(self) -> Counter[int]:
        """How often MLflow refused each trial that it did refuse; after two refusals a trial is not tried again."""
        return self._refusals

    @property
    def missing(self) -> int:
        """How many trials MLflow does not hold as they stand."""
        return len(self._changed)

    def take(self, event: Event) -> None:
        """Learn of an event; nothing is written yet."""
        self._spending = self._spending.after(event)
        if isinstance(event, CostCounted):
            return
        if isinstance(event, SessionStarted | SessionEnded):
            fold(self._records, event)
            self._parent_changed = True
            self._changed |= {n for n, record in self._records.items() if not record.status.ended}
            if isinstance(event, SessionStarted):
                self._search = self._search or repr(event.time)
                self._session, self._closed = event, None
                self._parent_tags = {**_source_of(event), **self._parent_tags, **_made_with(event)}
            else:
                self._closed = event
                self._note_cost(event.time)
            return
        before = self._records.get(event.trial)
        if isinstance(event, WorkerLost) and before is not None and not before.status.ended:
            self._lost[event.trial][before.leg] = event
        if isinstance(event, TrialSuggested):
            self._begun_in.setdefault(event.trial, self._session)
        fold(self._records, event)
        record = self._records[event.trial]
        if record is before:
            return
        self._changed.add(event.trial)
        if record.status.ended:
            self._parent_changed = True
            self._ended += 1
            self._note_cost(record.ended or 0.0)
            incumbent = [self._bests[-1][1]] if self._bests else []
            if best_of([*incumbent, record], self._study.metric, self._study.mode) is record:
                self._bests.append((self._ended, record))

    def _note_cost(self, when: float) -> None:
        if self._spending.counted:
            self._costs.append(("cost", self._spending.spent, when, self._ended))

    def attach(self, name: str, text: str) -> None:
        """Keep a text as an artifact of the search's run."""
        self._files[name] = text
        self._unkept.add(name)
        self._parent_changed = True

    def forget(self) -> None:
        """After an error: what the last call did is unknown, so look everything up again. Writing twice is harmless."""
        self._store, self._parent, self._runs, self._looked_up = None, None, {}, False
        self._parent_changed, self._told_session, self._told_costs = True, 0, 0
        self._unkept = set(self._files)
        self._changed = set(self._records)

    def prepare(self) -> MLflowExperiment:
        """Connect and make the experiment, which can be done before the first event.

        Raises:
            Exception: whatever the store raises.
        """
        if self._store is None:
            self._store = MLflowExperiment(self._uri, self._study.study, self._artifact_root, self._study.description)
        return self._store

    def write(self) -> None:
        """Bring MLflow up to date with the events taken so far.

        Raises:
            Exception: whatever the store raises; `forget`, wait, and write again.
        """
        store = self.prepare()
        if self._session is None:
            return
        if not self._looked_up:
            found = store.find(self._search)
            self._parent = found.pop(PARENT, None)
            self._runs = {int(trial): run for trial, run in found.items() if trial.isdigit()}
            self.run_ids |= {trial: run.run_id for trial, run in self._runs.items()}
            self._looked_up = True
        parent = self._write_search(store, self._session)
        for number in sorted(self._changed):
            try:
                self._write_trial(store, parent, self._records[number])
            except Exception as error:
                if getattr(error, "error_code", None) not in REFUSED:
                    raise
                self._refusals[number] += 1
                if self._refusals[number] == 1:  # the store may have been emptied: look again before giving up
                    raise
                if self._refusals[number] == 2:
                    self._warn(f"MLflow refuses trial {number}: {reason(error)}")
            self._changed.discard(number)
        self._write_outcome(store, parent)

    def _write_search(self, store: MLflowExperiment, session: SessionStarted) -> RunState:
        """What is known before any trial: the parent run with its tags, parameters and files."""
        if self._parent is None:
            tags = self._own_tags(PARENT) | self._parent_tags
            self._parent = store.create(self._study.study, float(self._search), tags)
        if self._told_session != session.session:
            store.log(self._parent, params=self._study.params, tags=self._parent_tags)
            self._told_session = session.session
        if self._closed is None:
            store.set_status(self._parent, "RUNNING", None)
        for name in sorted(self._unkept):
            store.keep(self._parent, name, self._files[name])
            self._unkept.discard(name)
        return self._parent

    def _write_outcome(self, store: MLflowExperiment, parent: RunState) -> None:
        """What follows from the trials: the best one so far, and how the search ended."""
        if not self._parent_changed:
            return
        if self._bests:
            metric, number = self._study.metric, self._bests[-1][1].number
            values = [("best_objective", best.value(metric), best.ended or 0.0, n) for n, best in self._bests]
            store.log(parent, values, tags={"best_trial": str(number), "best_run_id": self.run_ids.get(number, "")})
        store.log(parent, self._costs[self._told_costs :])
        self._told_costs = len(self._costs)
        if self._closed is not None:
            status = "FINISHED" if self._closed.reason == "finished" else "KILLED"
            store.set_status(parent, status, self._closed.time)
        self._parent_changed = False

    def _write_trial(self, store: MLflowExperiment, parent: RunState, record: TrialRecord) -> None:
        run = self._runs.get(record.number)
        if run is not None and run.status in ENDED:
            return
        self.written.add(record.number)
        status, tags = STATUSES[record.status], tags_of(record, self._lost[record.number])
        if run is None:
            session = self._begun_in[record.number]
            own = self._own_tags(str(record.number)) | {"mlflow.parentRunId": parent.run_id}
            own |= {} if session is None else _source_of(session) | _made_with(session)
            run = store.create(f"{record.number:04d} {record.origin}", record.started or 0.0, own | tags)
            self._runs[record.number], self.run_ids[record.number] = run, run.run_id
        values: list[Value] = [
            (name, value, epoch.time, epoch.epoch)
            for epoch in record.history[run.epochs :]
            for name, value in epoch.metrics.items()
        ]
        if record.status.ended and record.history:
            row, last = summary(record, self._study.metric, self._study.mode), record.history[-1].epoch
            values += [(name, value, record.ended or 0.0, last) for name, value in row.items()]
        params = {} if run.described else parameters(record.config)
        store.log(run, values, params, tags)
        if not run.described:
            store.keep(run, "config.yaml", _as_yaml(record.config))
        run.epochs, run.described = len(record.history), True
        store.set_status(run, status, record.ended)

    def _own_tags(self, trial: str) -> dict[str, str]:
        return {
            SEARCH: self._search,
            TRIAL: trial,
            "resnet_search.study": self._study.study,
            "mlflow.user": _user(),
            "mlflow.source.name": "search.run",
        }


def _source_of(session: SessionStarted) -> dict[str, str]:
    return {"mlflow.source.git.commit": session.git} if session.git else {}


def _made_with(session: SessionStarted) -> dict[str, str]:
    """What tells whether two runs can be compared: images, code and packages."""
    return {
        "resnet_search.session": str(session.session),
        "resnet_search.fingerprint": session.fingerprint or "",
        "resnet_search.git": session.git or "",
        **{f"version.{name}": version for name, version in session.versions.items()},
    }


def _as_yaml(tree: Mapping[str, Any]) -> str:
    # By libyaml where it was built in, ten times as fast: a config is written for every trial.
    return str(yaml.dump(dict(tree), Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"
