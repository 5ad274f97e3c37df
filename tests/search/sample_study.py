"""A small study and the events of a search of it, as a driver would write them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from search.journal.comparisons import Comparison
from search.journal.events import (
    Arm,
    ComparisonEnded,
    ComparisonStarted,
    CostCounted,
    Decided,
    EpochReported,
    Event,
    SessionEnded,
    SessionStarted,
    TestOpened,
    TestScored,
    TrialEnded,
    TrialResumed,
    TrialStatus,
    TrialSuggested,
    WorkerLost,
)
from search.journal.log import Journal
from search.study.parse import parse_study
from search.study.spec import StudySpec
from trainables.files import write_text
from trainables.result import METRICS

EPOCHS = 4
START = 1_700_000_000.25
LR = "optimizer.lr"


def sample_spec(name: str = "sample", trials: int = 8) -> StudySpec:
    return parse_study(
        {
            "study": name,
            "description": "a sample",
            "trial": {"model": {"kind": "synthetic"}, "data": {"source": "synthetic"}},
            "space": {"optimizer": {"lr": {"float": [1e-4, 1.0], "log": True}}},
            "recipes": {"naive": {"description": "d", "source": "s", "config": {"optimizer": {"lr": 0.01}}}},
            "budget": {"trials": trials, "epochs": EPOCHS},
            "searcher": {"kind": "random"},
        }
    )


def metrics(trial: int, epoch: int) -> dict[str, float]:
    accuracy = 0.5 + 0.01 * trial + 0.1 * epoch / EPOCHS + 1e-17 * trial
    shown: dict[str, float] = {"train_accuracy": accuracy + 0.1, "val_accuracy": accuracy, "val_loss": 1 / accuracy}
    return {name: shown.get(name, 1 / (3 + trial + epoch)) for name in METRICS}


def suggested(spec: StudySpec, trial: int, **tree: Any) -> TrialSuggested:
    lr = 0.001 * (trial + 1)
    config = spec.trial_config({"optimizer": {"lr": lr, **tree}}).model_dump(mode="json")
    origin = "recipe:naive" if trial == 0 else "random"
    return TrialSuggested(trial=trial, origin=origin, values={LR: lr}, config=config, time=START + trial)


def trial_events(spec: StudySpec, trial: int, status: TrialStatus) -> Iterator[Event]:
    """COMPLETED trains all epochs, STOPPED two, DIVERGED one, FAILED none; RUNNING two, without an end."""
    yield suggested(spec, trial)
    epochs = {TrialStatus.COMPLETED: EPOCHS, TrialStatus.STOPPED: 2, TrialStatus.DIVERGED: 1, TrialStatus.RUNNING: 2}
    reasons = {TrialStatus.COMPLETED: "epochs", TrialStatus.STOPPED: "rung 2", TrialStatus.DIVERGED: "diverged"}
    for epoch in range(1, epochs.get(status, 0) + 1):
        values = metrics(trial, epoch)
        if status is TrialStatus.DIVERGED:
            values |= {"train_loss": math.nan, "val_loss": math.inf}
        now = START + trial + epoch / 10
        yield EpochReported(trial=trial, epoch=epoch, metrics=values, last=epoch == EPOCHS, time=now)
    if status is TrialStatus.STOPPED:
        yield Decided(trial=trial, epoch=2, action="stop", rung=2, cutoff=0.7, time=START + trial + 0.2)
    if status.ended:
        error = "RuntimeError: boom" if status is TrialStatus.FAILED else None
        yield TrialEnded(
            trial=trial, status=status, stop_reason=reasons.get(status), error=error, time=START + trial + 1
        )


ENDINGS = (
    TrialStatus.COMPLETED, TrialStatus.STOPPED, TrialStatus.DIVERGED, TrialStatus.FAILED, TrialStatus.COMPLETED,
    TrialStatus.STOPPED,
)  # fmt: skip


IMAGES = ("digits: 10 classes", "splits: train 1,375 (the rest)", "images: 8 x 8 pixels")


def sample_events(spec: StudySpec, endings: Sequence[TrialStatus] = ENDINGS, session: int = 1) -> list[Event]:
    versions = {"python": "3.11.0", "platform": "Linux", "torch": "2.14.1"}
    events: list[Event] = [
        SessionStarted(
            session=session,
            time=START,
            versions=versions,
            git="abc123",
            fingerprint="f00d",
            images=IMAGES,
            weights=("weights: 44 of 44",),
        )
    ]
    for trial, status in enumerate(endings):
        events += trial_events(spec, trial, status)
    reason = "finished" if all(status.ended for status in endings) else "interrupted"
    return [*events, SessionEnded(session=session, reason=reason, time=START + 100)]


def troubled_events(spec: StudySpec) -> list[Event]:
    """Two sessions of a search that pauses, promotes and loses workers.

    Trial 0 completes; 1 is paused, promoted, interrupted by the end of session 1, and completes in session 2; 2 loses
    its worker twice, is paused, and stopped at the end; 3 raises an error twice and fails; 4 begins in session 2.
    """
    clock = iter(range(1, 1000))

    def now() -> float:
        return START + next(clock)

    def reported(trial: int, *epochs: int) -> Iterator[Event]:
        for epoch in epochs:
            yield EpochReported(
                trial=trial, epoch=epoch, metrics=metrics(trial, epoch), last=epoch == EPOCHS,
                checkpoint=f"trial-{trial}/epoch-{epoch}.pt", time=now(),
            )  # fmt: skip

    def decided(trial: int, action: Literal["pause", "promote"]) -> Event:
        return Decided(trial=trial, epoch=2, action=action, rung=2, cutoff=0.5, time=now())

    def resumed(trial: int, leg: int, reason: str) -> Event:
        return TrialResumed(trial=trial, leg=leg, reason=reason, time=now())

    def lost(trial: int, cause: Literal["worker_died", "error", "timeout"], error: str) -> Event:
        return WorkerLost(trial=trial, cause=cause, error=error, checkpoint=None, time=now())

    def ended(trial: int, status: TrialStatus, reason: str, error: str | None = None) -> Event:
        return TrialEnded(trial=trial, status=status, stop_reason=reason, error=error, time=now())

    boom = "Traceback (most recent call last):\n  ...\n\x1b[31mValueError: boom [1]\x1b[0m\n"
    return [
        SessionStarted(session=1, time=START, versions={"torch": "2.14.1", "old": "1"}, git="abc123"),
        suggested(spec, 0), *reported(0, 1, 2, 3, 4), ended(0, TrialStatus.COMPLETED, "epochs"),
        suggested(spec, 1), *reported(1, 1, 2), decided(1, "pause"),
        suggested(spec, 2), *reported(2, 1), lost(2, "worker_died", "The node is gone"), resumed(2, 2, "worker lost"),
        lost(2, "timeout", "no epoch for 60 min"), resumed(2, 3, "worker lost"), *reported(2, 2), decided(2, "pause"),
        suggested(spec, 3), lost(3, "error", boom), resumed(3, 2, "worker lost: error"), lost(3, "error", boom),
        ended(3, TrialStatus.FAILED, "error", boom),
        decided(1, "promote"), resumed(1, 2, "promoted at rung 2"), *reported(1, 3),
        SessionEnded(session=1, reason="interrupted", time=now()),
        SessionStarted(session=2, time=now(), versions={"torch": "2.15.0", "new": "2"}, git="def456"),
        resumed(1, 3, "interrupted"), *reported(1, 4), ended(1, TrialStatus.COMPLETED, "epochs"),
        suggested(spec, 4), *reported(4, 1, 2), ended(4, TrialStatus.STOPPED, "rung 2"),
        ended(2, TrialStatus.STOPPED, "rung 2"),
        SessionEnded(session=2, reason="finished", time=now()),
    ]  # fmt: skip


def priced_events(spec: StudySpec) -> list[Event]:
    """The troubled events on a head for 0.36 an hour, with a GPU node for 3.24 more in the second session."""
    told: list[Event] = []
    spent = 0.0
    for event in troubled_events(spec):
        if isinstance(event, SessionStarted):
            nodes = {"head": 1} if event.session == 1 else {"head": 1, "gpu": 1}
            counted = CostCounted(total=spent, rate=0.36 if event.session == 1 else 3.6, nodes=nodes, time=event.time)
            told += [event, counted]
        elif isinstance(event, SessionEnded):
            spent += counted.rate * (event.time - counted.time) / 3600
            told += [counted.model_copy(update={"total": spent, "time": event.time}), event]
        else:
            told.append(event)
    return told


def refit_events(spec: StudySpec) -> list[Event]:
    """The sample's events, and a session that compares trial 4 with the recipe over one seed, and tests both."""
    began = START + 200
    arms = tuple(
        Arm(
            name=name,
            role=role,
            config=spec.trial_config({"optimizer": {"lr": lr}}).model_dump(mode="json"),
            trial=trial,
        )
        for name, role, lr, trial in (("trial-4", "finalist", 0.005, 4), ("naive", "reference", 0.01, None))
    )
    started = ComparisonStarted(
        comparison=1, kind="refit", arms=arms, reference="naive", first_seed=1000, most_runs=1, time=began
    )
    runs: list[Event] = []
    for trial, arm in enumerate(arms, len(ENDINGS)):
        config = Comparison(started).config(arm, 0)
        runs += [
            TrialSuggested(trial=trial, origin=f"refit:{arm.name}", values=None, config=config, time=began + trial),
            *list(trial_events(spec, trial, TrialStatus.COMPLETED))[1:],
        ]
    numbers = tuple(range(len(ENDINGS), len(ENDINGS) + len(arms)))
    scores = {trial: {"loss": 0.5, "accuracy": 0.1 * trial} for trial in numbers}
    return [
        *sample_events(spec), SessionStarted(session=2, time=began, versions={}), started, *runs,
        ComparisonEnded(comparison=1, reason="decided", winner="trial-4", time=began + 50),
        TestOpened(comparison=1, trials=numbers, time=began + 51),
        TestScored(comparison=1, images=269, scores=scores, time=began + 52),
        SessionEnded(session=2, reason="finished", time=began + 60),
    ]  # fmt: skip


def first_session(events: Sequence[Event]) -> list[Event]:
    """The events of the first session, its end included."""
    end = next(i for i, event in enumerate(events) if isinstance(event, SessionEnded))
    return list(events[: end + 1])


def write_study(folder: Path, spec: StudySpec, events: Sequence[Event]) -> Path:
    """The folder of a study, as its drivers would have left it after these events."""
    write_text(folder / "study.yaml", spec.dump())
    (folder / "journal").mkdir()
    for event in events:
        if isinstance(event, SessionStarted):
            journal = Journal(folder / "journal", event.session)
        journal.append(event)
    return folder
