"""A search in simulated time: an event queue instead of workers, curves instead of training.

Both sides are driven through their own interfaces, in the order of simulated events: `OurSearch` calls searcher and
scheduler as the driver of a study does; `RaySearch` calls Ray's classes as its controller does.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from benchmarks.curves import Curve, Family
from search.algorithms.schedulers.asha import Asha
from search.algorithms.schedulers.asha_promote import AshaPromote
from search.algorithms.schedulers.base import Scheduler
from search.algorithms.schedulers.hyperband import Hyperband
from search.algorithms.schedulers.none import NoStopping
from search.algorithms.searchers.base import Searcher
from search.algorithms.searchers.optuna_tpe import OptunaSearcher
from search.algorithms.searchers.random import RandomSearcher
from search.journal.records import Epoch, TrialRecord, TrialStatus
from spaces import Scalar

__all__ = ["GRACE", "METRIC", "REDUCTION", "START_SECONDS", "Leg", "OurSearch", "Outcome", "System", "simulate"]

GRACE, REDUCTION = 1, 3  # of every scheduler
METRIC = "val_accuracy"
# What it takes until a trial trains, a new one or one that was paused, measured with Ray's actors reused: about 0.5 s.
START_SECONDS = 0.5


@dataclass(frozen=True)
class Leg:
    """What a worker is to train: a trial, from after `epoch` on."""

    trial: int
    values: Mapping[str, Scalar]
    epoch: int = 0


class System(Protocol):
    """Decides for one search."""

    def next_leg(self, final: bool) -> Leg | None:
        """What a free worker trains; None if there is nothing. `final`: no other worker is busy."""
        ...

    def on_result(self, trial: int, epoch: int, value: float, diverged: bool) -> bool:
        """Take one result; whether the worker trains on."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What a search found and used.

    `found` holds, by time, the final accuracy without noise of the trial that then had the best reported one among all
    that were trained to the end; `ahead` the same among those that were trained furthest, until one was trained to the
    end. `seconds` is when the last worker stopped.
    """

    found: tuple[tuple[float, float], ...]
    ahead: tuple[tuple[float, float], ...]
    epochs: int
    trials: int
    finished: int
    seconds: float

    def time_to(self, target: float) -> float:
        """When the found trial's final accuracy first reached `target`; infinite if never."""
        return next((time for time, final in self.found if final >= target), math.inf)

    @property
    def best(self) -> float:
        """The final accuracy of the trial found in the end; 0 if none was trained to the end."""
        return self.found[-1][1] if self.found else 0.0

    def best_at(self, seconds: float) -> float:
        """The final accuracy of the trial that a search which ended then would have chosen, trained to the end or not.

        0 if there was none.
        """
        return next((final for time, final in reversed((*self.ahead, *self.found)) if time <= seconds), 0.0)


@dataclass
class _Worker:
    leg: Leg
    curve: Curve
    epoch: int


def simulate(
    family: Family, system: System, *, seed: int, workers: int, seconds: float, averaged_at: Container[int] = ()
) -> Outcome:
    """Run a search until nothing is left to train, or no more result comes within `seconds`.

    Events at the same time are taken in the order in which their epochs were begun. After the epochs `averaged_at` a
    trial reports what its averaged weights score, in place of the weights themselves.
    """
    queue: list[tuple[float, int, int]] = []  # time, order, worker
    busy: dict[int, _Worker] = {}
    found: list[tuple[float, float]] = []
    ahead: list[tuple[float, float]] = []
    trials: set[int] = set()
    best = (0, -math.inf)  # epoch and value of the trial ahead
    epochs = finished = order = 0
    now = 0.0

    def train(worker: int, start: float = 0.0) -> None:
        nonlocal order
        order += 1
        curve = busy[worker].curve
        scoring = curve.scoring if busy[worker].epoch + 1 in averaged_at else 0.0
        heapq.heappush(queue, (now + start + curve.seconds + scoring, order, worker))

    def fill() -> None:
        for worker in range(workers):
            if worker in busy:
                continue
            leg = system.next_leg(final=not busy)
            if leg is None:
                return
            trials.add(leg.trial)
            busy[worker] = _Worker(leg, family.curve(leg.values, seed), leg.epoch)
            train(worker, START_SECONDS)

    fill()
    while queue and queue[0][0] <= seconds:
        now, _, worker = heapq.heappop(queue)
        running = busy[worker]
        running.epoch += 1
        epochs += 1
        curve = running.curve
        value = (curve.averaged if running.epoch in averaged_at else curve.reported)[running.epoch - 1]
        diverged = curve.diverged is not None and running.epoch >= curve.diverged
        continues = system.on_result(running.leg.trial, running.epoch, value, diverged)
        finished += running.epoch == family.epochs and not diverged
        if (running.epoch, value) > best and not diverged:
            best = (running.epoch, value)
            (found if running.epoch == family.epochs else ahead).append((now, curve.final))
        if continues and running.epoch < family.epochs:
            train(worker)
        else:
            del busy[worker]
            fill()
    return Outcome(tuple(found), tuple(ahead), epochs, len(trials), finished, now)


@dataclass
class OurSearch:
    """Our searcher and scheduler, called as the driver of a study calls them.

    `trials` is the study's budget; None for no end. `recipes` are the points of its first trials, and `first` of those
    behind them, which the scheduler may stop.
    """

    searcher: Searcher
    scheduler: Scheduler
    epochs: int
    trials: int | None = None
    recipes: Sequence[Mapping[str, Scalar]] = ()
    first: Sequence[Mapping[str, Scalar]] = ()
    records: dict[int, TrialRecord] = field(default_factory=dict)

    @classmethod
    def build(
        cls, family: Family, searcher: str, scheduler: str, seed: int, trials: int | None = None,
        recipes: Sequence[Mapping[str, Scalar]] = (), first: Sequence[Mapping[str, Scalar]] = (),
    ) -> OurSearch:  # fmt: skip
        """By the kinds that a study would name."""
        halving: dict[str, Any] = {
            "epochs": family.epochs, "grace_period": GRACE, "reduction_factor": REDUCTION, "mode": "max",
            "protected": range(len(recipes)),
        }  # fmt: skip
        searchers: dict[str, Searcher] = {
            "random": RandomSearcher(family.space, seed),
            "tpe": OptunaSearcher(family.space, metric=METRIC, mode="max", seed=seed),
        }
        schedulers: dict[str, type] = {"asha": Asha, "asha_promote": AshaPromote, "hyperband": Hyperband}
        decider = NoStopping() if scheduler == "none" else schedulers[scheduler](**halving)
        return cls(searchers[searcher], decider, family.epochs, trials, recipes, first)

    def next_leg(self, final: bool) -> Leg | None:
        """A promotion, or else a new trial."""
        number = len(self.records)
        exhausted = number == self.trials
        promotion = self.scheduler.promotion(final and exhausted)
        if promotion is not None:
            self.scheduler.leave(promotion.trial, promotion.rung)
            record = self.records[promotion.trial]
            self.records[promotion.trial] = replace(record, status=TrialStatus.RUNNING)
            return Leg(promotion.trial, record.values or {}, promotion.rung)
        if exhausted:
            return None
        if number < len(known := (*self.recipes, *self.first)):
            values = known[number]
        else:
            point = self.searcher.suggest(number)
            if point is None:
                return None
            values = point.values
        record = TrialRecord(number, "search", dict(values), {}, TrialStatus.RUNNING)
        self.records[number] = record
        self.searcher.tell(record)
        return Leg(number, values)

    def on_result(self, trial: int, epoch: int, value: float, diverged: bool) -> bool:
        """Enter a result; a trial that diverged ends before the scheduler sees it."""
        record = self.records[trial]
        record = replace(record, history=(*record.history, Epoch(epoch, {METRIC: value})))
        self.records[trial] = record
        if diverged:
            return self._end(record, TrialStatus.DIVERGED)
        decision = self.scheduler.on_result(trial, epoch, value)
        if epoch == self.epochs:
            return self._end(record, TrialStatus.COMPLETED)
        if decision.action == "continue":
            return True
        return self._end(record, TrialStatus.STOPPED if decision.stop else TrialStatus.PAUSED)

    def _end(self, record: TrialRecord, status: TrialStatus) -> bool:
        self.records[record.number] = replace(record, status=status)
        self.searcher.tell(self.records[record.number])
        return False
