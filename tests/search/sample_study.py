"""A small study and the events of a search of it, as a driver would write them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from search.events import (
    Decided,
    EpochReported,
    Event,
    SessionEnded,
    SessionStarted,
    TrialEnded,
    TrialStatus,
    TrialSuggested,
)
from search.study import StudySpec, parse_study
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
        yield Decided(trial=trial, epoch=2, action="stop", rung=2, cutoff=0.7, reason="rung 2")
    if status.ended:
        error = "RuntimeError: boom" if status is TrialStatus.FAILED else None
        yield TrialEnded(
            trial=trial, status=status, stop_reason=reasons.get(status), error=error, time=START + trial + 1
        )


ENDINGS = (
    TrialStatus.COMPLETED, TrialStatus.STOPPED, TrialStatus.DIVERGED, TrialStatus.FAILED, TrialStatus.COMPLETED,
    TrialStatus.STOPPED,
)  # fmt: skip


def sample_events(spec: StudySpec, endings: Sequence[TrialStatus] = ENDINGS, session: int = 1) -> list[Event]:
    versions = {"python": "3.11.0", "platform": "Linux", "torch": "2.14.1"}
    events: list[Event] = [
        SessionStarted(session=session, time=START, versions=versions, git="abc123", fingerprint="f00d")
    ]
    for trial, status in enumerate(endings):
        events += trial_events(spec, trial, status)
    reason = "finished" if all(status.ended for status in endings) else "interrupted"
    return [*events, SessionEnded(session=session, reason=reason, time=START + 100)]
