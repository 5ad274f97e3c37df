"""When a trial is given up: it has lost its worker too often, or is of no use as it stands."""

from __future__ import annotations

from search.journal.events import EpochReported, TrialEnded, WorkerLost
from search.journal.records import TrialRecord, TrialStatus
from search.study.settings import Guards

__all__ = ["MAX_WORKER_LOSSES", "given_up", "stops_collapsed"]

MAX_WORKER_LOSSES = 3  # in a row without a newer checkpoint: a trial that kills its worker will do so again


def given_up(after: TrialRecord, lost: WorkerLost, max_failures: int) -> TrialEnded | None:
    """The end of a trial that has lost its worker too often; None if it gets another one.

    Args:
        after: the trial's record after the loss.
        lost: the last loss.
        max_failures: errors of its own that a trial may raise.
    """
    if after.failures > max_failures:
        reason, text = "error", lost.error
    elif after.worker_losses >= MAX_WORKER_LOSSES:
        count = f"{MAX_WORKER_LOSSES} times in a row without a newer checkpoint"
        reason, text = lost.cause, f"lost its worker {count}, the last time: {lost.error}"
    else:
        return None
    return TrialEnded(trial=lost.trial, status=TrialStatus.FAILED, stop_reason=reason, error=text, time=lost.time)


def stops_collapsed(guards: Guards, record: TrialRecord, reported: EpochReported) -> bool:
    """Whether a trial is stopped for having collapsed: after two epochs in a row, since some recover from one.

    Runs of a comparison never are: a collapse is what their config is worth, and it must count.

    Args:
        guards: the study's.
        record: of the trial, before this epoch.
        reported: the epoch.
    """
    before = record.history[-1].collapsed if record.history else None
    twice = reported.collapsed is not None and before is not None
    return guards.collapsed == "stop" and record.arm is None and twice
