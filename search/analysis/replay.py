"""The recorded curves under other stopping rules: what each would have trained, and whether the winner had survived."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.algorithms.schedulers.base import Scheduler
from search.algorithms.schedulers.registry import SCHEDULERS
from search.journal.records import TrialRecord, TrialStatus
from search.journal.result import StudyResult
from search.study.settings import ASHASettings, HalvingSettings

__all__ = ["Replay", "replay", "replays", "rung_settings"]


@dataclass(frozen=True, slots=True)
class Replay:
    """A study under another stopping rule.

    `epochs` were trained, `finished` names the trials that reached their end. `open` counts the trials that the rule
    would have trained further than their curve goes: then `epochs` is the least that it would have taken.
    """

    epochs: int
    finished: frozenset[int]
    open: int


def replay(scheduler: Scheduler, curves: Mapping[int, Sequence[tuple[int, float]]], whole: frozenset[int]) -> Replay:
    """Train the curves one after another, promotions before new trials.

    Args:
        scheduler: a fresh one.
        curves: epoch and value of each trial. A curve ends where the trial did or at a value that is not finite.
        whole: the trials whose curve is all there would have been; the others were cut off.
    """
    new, trained = deque(sorted(curves)), 0
    finished: set[int] = set()
    cut: set[int] = set()
    while (promotion := scheduler.promotion(final=not new)) is not None or new:
        trial, start = (promotion.trial, promotion.rung) if promotion is not None else (new.popleft(), 0)
        if promotion is not None:
            scheduler.leave(trial, start)
        left = [(epoch, value) for epoch, value in curves[trial] if epoch > start]
        for epoch, value in left:
            trained += 1
            last = trial in whole and epoch == left[-1][0]
            # The driver asks at the last epoch too, and goes its own way; a divergence never reaches the scheduler.
            if math.isfinite(value) and scheduler.on_result(trial, epoch, value).action != "continue" and not last:
                break
            if last:
                scheduler.leave(trial, epoch)
        else:
            (finished if trial in whole else cut).add(trial)
    return Replay(trained, frozenset(finished), len(cut))


def rung_settings(result: StudyResult) -> HalvingSettings:
    """Grace period and reduction factor of the study; the defaults where its scheduler has none."""
    given = result.spec.scheduler
    return given if isinstance(given, HalvingSettings) else ASHASettings()


def replays(result: StudyResult) -> dict[str, Replay]:
    """The study's curves under each of our schedulers, by its kind, with the study's own rungs; its own as it was."""
    spec, settings = result.spec, rung_settings(result)
    ended = [record for record in result.trials if record.history]
    whole = frozenset(record.number for record in ended if _whole(record))
    curves = {record.number: [*record.seen(spec.objective.metric).items()] for record in ended}
    found = {}
    for kind, build in SCHEDULERS.items():
        if kind == spec.scheduler.kind:
            found[kind] = Replay(sum(len(record.history) for record in ended), whole, 0)
        elif kind == "none":  # nothing is stopped: every trial would have had all its epochs
            lengths = (record.last_epoch if record.number in whole else spec.budget.epochs for record in ended)
            found[kind] = Replay(sum(lengths), whole, 0)
        else:
            found[kind] = replay(build(spec, settings), curves, whole)
    return found


def _whole(record: TrialRecord) -> bool:
    return record.status in (TrialStatus.COMPLETED, TrialStatus.DIVERGED, TrialStatus.FAILED)
