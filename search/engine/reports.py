"""What of a trial's result goes into the journal beside its metrics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypedDict

from search.journal.events import EpochReported
from search.journal.records import TrialRecord, TrialStatus, best_of
from search.study.settings import Objective
from trainables.result import ClassReport, Collapse, EpochResult

__all__ = ["Details", "details", "worth_recording"]


class Details(TypedDict, total=False):
    """What most results do not have, as `EpochResult` has it."""

    best_epoch: int | None
    collapsed: Collapse | None
    report: ClassReport | None


def details(result: EpochResult) -> Details:
    """The details of a result; a last epoch that is the best is not worth a word."""
    best = None if result.best_epoch == result.epoch else result.best_epoch
    return {"best_epoch": best, "collapsed": result.collapsed, "report": result.report}


def worth_recording(
    reported: EpochReported, record: TrialRecord, trials: Iterable[TrialRecord], objective: Objective
) -> EpochReported:
    """The result without its class report, unless its trial is the best so far or a run of a refit.

    So a journal of a thousand trials holds some ten reports. Which trial is the best never changes to one that was
    passed over.
    """
    if reported.report is None or record.origin.startswith("refit:"):
        return reported
    if record.arm is None:
        ended = replace(record.after(reported), status=TrialStatus.COMPLETED)
        best = best_of(trials, objective.metric, objective.mode)
        if best_of([ended] if best is None else [best, ended], objective.metric, objective.mode) is ended:
            return reported
    return reported.model_copy(update={"report": None})
