"""A study's records as MLflow runs: one parent for the search, a nested one for each trial.

Which run belongs to which trial is in the runs' own tags, so that a journal shown twice makes no second run. A trial's
run gets its end status last: one that has it is complete and is not written again, but for its scores on the test
split.
"""

from __future__ import annotations

import getpass
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from search.journal.events import (
    ComparisonEvent,
    CostCounted,
    Event,
    SessionEnded,
    SessionStarted,
    TestScored,
    TrialEvent,
    TrialSuggested,
    WarmStarted,
    WorkerLost,
)
from search.journal.records import TrialRecord, best_of
from search.journal.result import StudyResult
from search.journal.state import StudyState
from search.tracking.class_files import class_files
from search.tracking.client import ENDED, NOTE, RUN_NAME, MLflowExperiment, RunState, Value
from search.tracking.front_page import FrontPage, searched_paths, table_view
from search.tracking.uri import mlflow_settings, reason
from search.tracking.values import OWN, STATUSES, lines_of, made_with, parameters, run_name, source_of, summary, tags_of

if TYPE_CHECKING:
    from search.study.spec import StudySpec

__all__ = ["RunProjection"]

PARENT = "search"  # the parent's tag, in place of a trial's number
TEST_IMAGES = OWN + "test_images"  # written with the scores on the test split, so that they are written once
# What stays wrong however often it is tried; everything else is an outage.
REFUSED = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST")


class RunProjection:
    """Folds events at once and writes what they changed when asked to. Not thread-safe.

    Args:
        uri: MLflow's.
        spec: the study. What may change under its name, such as its budget, is in its study.yaml only.
        artifact_root: folder for artifacts where `uri` is a database.
        warn: shows in one line what MLflow refuses for good.

    Attributes:
        run_ids: MLflow's run id by trial.
        written: the trials that this projection has written; the others were complete before.
        refused: how often MLflow refused each trial that it did refuse; after two refusals one is not tried again.
        experiment_id: that of the study, None before the first `write`.
    """

    def __init__(self, uri: str, spec: StudySpec, artifact_root: Path, warn: Callable[[str], None]) -> None:
        self._uri, self._spec, self._artifact_root, self._warn = uri, spec, artifact_root, warn
        self._metric, self._mode = spec.objective.metric, spec.objective.mode
        self._paths = searched_paths(spec)
        self._files = {"study.yaml": spec.dump()}
        self._state = StudyState()
        self._records = self._state.records
        self._search = ""  # when it began, to the microsecond: another folder may hold a study of the same name
        self._session: SessionStarted | None = None
        self._begun_in: dict[int, SessionStarted | None] = {}  # a trial's tags are the same whenever it is written
        self._parent_tags: dict[str, str] = {}
        self._closed: SessionEnded | None = None
        self._ended = 0
        self._bests: list[tuple[int, TrialRecord]] = []  # each trial that was the best, and how many had ended by then
        self._costs: list[Value] = []  # when a trial or session ended: a value a minute would be more than one can read
        self._scored: dict[int, TestScored] = {}
        self._lost: defaultdict[int, dict[int, WorkerLost]] = defaultdict(dict)  # by leg, so that one counts once
        self._store: MLflowExperiment | None = None
        self._changed: set[int] = set()
        self._parent_changed = False
        self.run_ids: dict[int, str] = {}
        self.written: set[int] = set()
        self.refused: Counter[int] = Counter()
        self.experiment_id: str | None = None

    @property
    def missing(self) -> int:
        """How many trials MLflow does not hold as they stand."""
        return len(self._changed)

    def take(self, event: Event) -> None:
        """Learn of an event; nothing is written yet."""
        before = self._records.get(event.trial) if isinstance(event, TrialEvent) else None
        self._state.apply(event)
        if isinstance(event, CostCounted | WarmStarted):
            return
        if isinstance(event, ComparisonEvent):
            if isinstance(event, TestScored):
                self._scored |= dict.fromkeys(event.scores, event)
                self._changed |= event.scores.keys() & self._records.keys()
            self._parent_changed = True
            return
        if isinstance(event, SessionStarted | SessionEnded):
            self._parent_changed = True
            self._changed |= {n for n, record in self._records.items() if not record.status.ended}
            if isinstance(event, SessionStarted):
                self._search = self._search or repr(event.time)
                self._session, self._closed = event, None
                self._parent_tags = {
                    **source_of(event),
                    **self._parent_tags,
                    **made_with(event),
                    **lines_of(event),
                }
            else:
                self._closed = event
                self._note_cost(event.time)
            return
        if isinstance(event, WorkerLost) and before is not None and not before.status.ended:
            self._lost[event.trial][before.leg] = event
        if isinstance(event, TrialSuggested):
            self._begun_in.setdefault(event.trial, self._session)
        record = self._records[event.trial]
        if record is before:
            return
        self._changed.add(event.trial)
        if record.status.ended:
            self._parent_changed = True
            self._ended += 1
            self._note_cost(record.ended or 0.0)
            incumbent = [self._bests[-1][1]] if self._bests else []
            if record.arm is None and best_of([*incumbent, record], self._metric, self._mode) is record:
                self._bests.append((self._ended, record))

    def _note_cost(self, when: float) -> None:
        if self._state.spending.counted:
            self._costs.append(("cost", self._state.spending.spent, when, self._ended))

    def attach(self, name: str, text: str) -> None:
        """Keep a text as an artifact of the search's run."""
        self._files[name] = text

    def forget(self) -> None:
        """After an error: what the last call did is unknown, so look everything up again. Writing twice is harmless."""
        self._store, self._changed, self._parent_changed = None, set(self._records), True

    def write(self) -> None:
        """Bring MLflow up to date with the events taken so far.

        Raises:
            Exception: whatever the store raises; `forget`, wait, and write again.
        """
        if self._session is None:
            return
        with mlflow_settings:
            store = self._connected()
            parent = self._write_search(store, self._session)
            self.experiment_id = store.id
            for number in sorted(self._changed):
                self._try_trial(store, parent, self._records[number])
                self._changed.discard(number)
            if self._parent_changed:
                self._write_outcome(store, parent)
                self._parent_changed = False

    def _connected(self) -> MLflowExperiment:
        if self._store is None:
            spec = self._spec
            self._store = MLflowExperiment(
                self._uri, spec.study, self._search, self._artifact_root, spec.description, table_view(spec),
                self._warn,
            )  # fmt: skip
            self.run_ids |= {int(trial): run.run_id for trial, run in self._store.runs.items() if trial.isdigit()}
        return self._store

    def _write_search(self, store: MLflowExperiment, session: SessionStarted) -> RunState:
        """What is known before any trial: the parent run with its tags and files."""
        parent = store.runs.get(PARENT)
        if parent is None:
            parent = store.create(PARENT, self._spec.study, float(self._search), self._own_tags() | self._parent_tags)
        store.log(parent, tags=self._parent_tags)
        if self._closed is None:
            store.set_status(parent, "RUNNING", None)
        for name, text in sorted(self._files.items()):
            store.keep(parent, name, text)
        return parent

    def _write_outcome(self, store: MLflowExperiment, parent: RunState) -> None:
        """What follows from the trials: the best one so far, what comparisons said, and how the search ended."""
        comparisons = self._state.comparisons
        page = FrontPage(self._spec, self._state.trials, store.id, self.run_ids, comparisons)
        tags = {NOTE: page.description()}
        values: list[Value] = []
        if self._bests:
            number, best = self._bests[-1][1].number, f"best_{self._metric}"
            values = [(best, record.value(self._metric), record.ended or 0.0, n) for n, record in self._bests]
            tags |= {OWN + "best_trial": str(number), OWN + "best_run_id": self.run_ids.get(number, "")}
        for comparison in comparisons:
            if comparison.kind == "refit" and comparison.ended is not None:
                tags[OWN + "refit_winner"] = comparison.ended.winner or "none"
        if self._bests:
            store.describe(page.headline(parent.run_id))
        store.log(parent, values + self._costs[parent.written :], tags=tags)
        parent.written = len(self._costs)
        if self._closed is not None:
            store.keep(parent, "leaderboard.md", page.leaderboard())
            report = StudyResult.of(self._spec, self._state).class_report()
            for file, text in ({} if report is None else class_files(report)).items():
                store.keep(parent, file, text)
            status = "FINISHED" if self._closed.reason.endswith("finished") else "KILLED"
            store.set_status(parent, status, self._closed.time)

    def _try_trial(self, store: MLflowExperiment, parent: RunState, record: TrialRecord) -> None:
        """Write a trial, or give it up where MLflow has refused it twice."""
        try:
            self._write_trial(store, parent, record)
        except Exception as error:
            if getattr(error, "error_code", None) not in REFUSED:
                raise
            self.refused[record.number] += 1
            if self.refused[record.number] == 1:  # the store may have been emptied: look again before giving up
                raise
            if self.refused[record.number] == 2:
                self._warn(f"MLflow refuses trial {record.number}: {reason(error)}")

    def _write_trial(self, store: MLflowExperiment, parent: RunState, record: TrialRecord) -> None:
        run = store.runs.get(str(record.number))
        if run is None or run.status not in ENDED:
            run = self._write_training(store, parent, run, record)
        scored = self._scored.get(record.number)
        if scored is not None and TEST_IMAGES not in run.tags:  # the test split is opened after the run has ended
            test: list[Value] = [
                (f"test_{name}", value, scored.time, record.final_epoch)
                for name, value in scored.scores[record.number].items()
            ]
            store.log(run, test, tags={TEST_IMAGES: str(scored.images)})

    def _write_training(
        self, store: MLflowExperiment, parent: RunState, run: RunState | None, record: TrialRecord
    ) -> RunState:
        self.written.add(record.number)
        tags = tags_of(record, self._lost[record.number])
        name = run_name(record)
        if run is None:
            session = self._begun_in[record.number]
            own = self._own_tags() | {"mlflow.parentRunId": parent.run_id}
            own |= {} if session is None else source_of(session) | made_with(session)
            run = store.create(str(record.number), name, record.started or 0.0, own | tags)
            self.run_ids[record.number] = run.run_id
        values: list[Value] = [
            (metric, value, epoch.time, epoch.epoch)
            for epoch in record.history[run.written :]
            for metric, value in epoch.metrics.items()
        ]
        if record.status.ended and record.history:
            # Later than the last epoch's: of two points at once MLflow's table shows the larger value.
            last, when = record.history[-1], max(record.ended or 0.0, record.history[-1].time + 0.001)
            values += [(metric, value, when, last.epoch) for metric, value in summary(record).items()]
        params = {} if run.described else parameters(record.config, self._paths)
        store.log(run, values, params, tags | {RUN_NAME: name})
        if not run.described:
            store.keep(run, "config.yaml", _as_yaml(record.config))
        if record.report is not None and record.status.ended:
            for file, text in class_files(record.report).items():
                store.keep(run, file, text)
        run.written, run.described = len(record.history), True
        store.set_status(run, STATUSES[record.status], record.ended)
        return run

    def _own_tags(self) -> dict[str, str]:
        return {
            OWN + "study": self._spec.study,
            "mlflow.user": _user(),
            "mlflow.source.name": "search.run",
        }


def _as_yaml(tree: Mapping[str, Any]) -> str:
    # By libyaml where it was built in, ten times as fast: a config is written for every trial.
    return str(yaml.dump(dict(tree), Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"
