"""Schedulers: which trials stop early, or wait. Pure functions of the results they are told; no Ray.

Ray's own ASHA loses its rungs when a search is restored, enters a resumed trial into lower rungs with its late value
and lets NaN run to the end. These count fidelity in absolute epochs, hold no clock and no randomness, and so decide
the same again when the same results are replayed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from trainables.config import ConfigError, Problem

if TYPE_CHECKING:
    from search import sections
    from search.study import StudySpec

__all__ = [
    "Asha", "Decision", "Halving", "NoStopping", "Promotion", "Rung", "SCHEDULERS", "Scheduler", "SchedulerInfo",
    "build_scheduler", "rung_levels",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a trial after one result: it goes on, ends, or waits until it is promoted.

    `rung` is the epoch of the rung at which the decision was made, None between rungs. `cutoff` is the value, in the
    objective's own unit, that a trial had to reach there; None where nothing was compared.
    """

    action: Literal["continue", "stop", "pause"] = "continue"
    rung: int | None = None
    cutoff: float | None = None

    @property
    def stop(self) -> bool:
        """Whether the trial ends here."""
        return self.action == "stop"


@dataclass(frozen=True, slots=True)
class Promotion:
    """A paused trial to train on now, from the rung at epoch `rung`; `cutoff` as in `Decision`."""

    trial: int
    rung: int
    cutoff: float | None = None


class Scheduler(Protocol):
    """Decides after every epoch of every trial whether the trial goes on, and which paused one goes on instead."""

    @property
    def rungs(self) -> Mapping[int, Mapping[int, float]]:
        """Every rung, by its epoch, lowest first: the value that each trial had there."""
        ...

    @property
    def pauses(self) -> bool:
        """Whether a trial may be paused at a rung, so that it needs a checkpoint there."""
        ...

    def on_result(self, trial: int, epoch: int, value: float) -> Decision:
        """Enter the objective's value of `trial` after `epoch` epochs (1 is the first) and decide.

        Asked again about the same trial and rung it enters nothing and repeats its decision.
        """
        ...

    def promotion(self, final: bool = False) -> Promotion | None:
        """The paused trial that a free worker should train on before any new one; None if there is none.

        Changes nothing: asked again it answers the same, until a result is entered or a trial is `promoted`.

        Args:
            final: no new trial will come and none runs, so whoever is not promoted now never will be.
        """
        ...

    def promoted(self, trial: int, rung: int) -> None:
        """Learn that `trial` does not wait at `rung` any more: it was promoted, or it ended there.

        Told again it changes nothing.

        Raises:
            ValueError: if the trial never came there.
        """
        ...


class _NeverPausing:
    """The part of a scheduler that pauses no trial."""

    pauses = False

    def promotion(self, final: bool = False) -> Promotion | None:
        """None: no trial waits."""
        return None

    def promoted(self, trial: int, rung: int) -> None:
        """Refuse: no trial waits."""
        raise ValueError(f"trial {trial} is not paused at epoch {rung}: {type(self).__name__} pauses none")


class NoStopping(_NeverPausing):
    """Every trial runs to the end."""

    @property
    def rungs(self) -> Mapping[int, Mapping[int, float]]:
        """None at all."""
        return {}

    def on_result(self, trial: int, epoch: int, value: float) -> Decision:
        """Go on."""
        return Decision()


def rung_levels(grace_period: int, reduction_factor: float, epochs: int) -> tuple[int, ...]:
    """The epochs of the rungs: grace_period * reduction_factor^k, rounded up, below `epochs`."""
    levels: list[int] = []
    exact = float(grace_period)
    while (level := math.ceil(exact - 1e-9)) < epochs:
        if level not in levels:
            levels.append(level)
        exact *= reduction_factor
    return tuple(levels)


def _problems(grace_period: int, reduction_factor: float, mode: str) -> list[Problem]:
    """What is wrong with the settings of successive halving."""
    problems = []
    if grace_period < 1:
        problems.append(Problem("scheduler.grace_period", grace_period, "must be at least 1 epoch"))
    if not reduction_factor > 1 or not math.isfinite(reduction_factor):
        problems.append(Problem("scheduler.reduction_factor", reduction_factor, "must be above 1"))
    if mode not in ("max", "min"):
        problems.append(Problem("objective.mode", mode, "must be 'max' or 'min'"))
    return problems


Place = tuple[float, int]  # (loss, trial): sorts the better first, and of equals the lower number


@dataclass(slots=True)
class Rung:
    """Who came to a rung: by trial and in the order of their coming, ranked, and those that are paused there."""

    values: dict[int, float] = field(default_factory=dict)
    ranked: list[Place] = field(default_factory=list)
    waiting: list[Place] = field(default_factory=list)


class Halving(ABC):
    """What both variants of ASHA share: settings, rungs, and that a decision, once made, stays.

    A value that is not finite enters no rung. Only a result of exactly a rung's epoch enters it: a trial that was
    resumed past a rung is not entered with its later, better value.

    Args:
        epochs: the longest a trial runs; rungs lie below it.
        grace_period: epochs before the first decision.
        reduction_factor: eta, the factor between rungs; 1/eta of many trials pass each.
        mode: whether the objective is to be `max`imized or `min`imized.
        exempt: trials that enter the rungs but are never stopped or paused, such as recipes.

    Raises:
        ConfigError: if a number is out of range.
    """

    def __init__(
        self,
        *,
        epochs: int,
        grace_period: int,
        reduction_factor: float,
        mode: Literal["max", "min"],
        exempt: Container[int] = (),
    ) -> None:
        if problems := _problems(grace_period, reduction_factor, mode):
            raise ConfigError(problems)
        self._eta = reduction_factor
        self._sign = -1.0 if mode == "max" else 1.0
        self._exempt = exempt
        self._rungs = {epoch: Rung() for epoch in rung_levels(grace_period, reduction_factor, epochs)}
        self._decisions: dict[tuple[int, int], Decision] = {}

    @property
    def rungs(self) -> Mapping[int, Mapping[int, float]]:
        """Every rung, by its epoch, lowest first: the value that each trial had there."""
        return {epoch: rung.values for epoch, rung in self._rungs.items()}

    def on_result(self, trial: int, epoch: int, value: float) -> Decision:
        """Enter a result and decide; see the class for the rule."""
        if epoch not in self._rungs:
            return Decision()
        if (trial, epoch) not in self._decisions:
            rung = self._rungs[epoch]
            if math.isfinite(value):
                rung.values[trial] = value
                insort(rung.ranked, self._place(trial, value))
            self._decisions[trial, epoch] = self._judge(trial, epoch, value)
        return self._decisions[trial, epoch]

    @abstractmethod
    def _judge(self, trial: int, epoch: int, value: float) -> Decision:
        """Decide about a trial that has just come to the rung of `epoch`."""

    def _place(self, trial: int, value: float) -> Place:
        return self._sign * value, trial

    def _cutoff(self, rung: Rung, kept: int) -> float | None:
        """The worst value among the best `kept`; None if they are none."""
        return self._sign * rung.ranked[kept - 1][0] if rung.ranked and kept else None


class Asha(_NeverPausing, Halving):
    """Asynchronous successive halving, stopping variant (Li et al. 2020, "A System for Massively Parallel
    Hyperparameter Tuning"): a trial is judged the moment it reaches a rung and is never revived.

    At a rung that n trials have reached so far, the judged one among them, a trial is stopped when it is not among the
    best 1/eta by more than one standard error: when at least n p + sqrt(n p (1 - p)) of them are strictly better, with
    p = 1/eta. So many of n draws lie in the best 1/eta, give or take what chance moves: a rung with few trials, which
    says little about where the best 1/eta begin, stops few, and one with many stops the rest as in the paper. Only the
    order of values counts; the best so far always goes on, and so does one that equals it. Without the standard error,
    a search of some hundred trials finds less in the same time, unless the order at the first rung is already that of
    the end (docs/search_quality.md). Ray judges by an interpolated percentile of the other values.

    A value that is not finite stops the trial at its rung. Settings: see `Halving`.
    """

    def _judge(self, trial: int, epoch: int, value: float) -> Decision:
        rung = self._rungs[epoch]
        best = len(rung.ranked) / self._eta
        kept = min(math.ceil(best + math.sqrt(best * (1 - 1 / self._eta)) - 1e-9), len(rung.ranked))
        better = bisect_left(rung.ranked, self._place(-1, value))  # than every trial with this value
        passes = math.isfinite(value) and better < kept
        goes_on = passes or trial in self._exempt
        return Decision("continue" if goes_on else "stop", rung=epoch, cutoff=self._cutoff(rung, kept))


@dataclass(frozen=True, slots=True)
class SchedulerInfo:
    """A row of `SCHEDULERS`: the `kind` a study names, what it does, and how it is built from the study."""

    kind: str
    summary: str
    build: Callable[[StudySpec, Any], Scheduler]  # from the study and its scheduler's settings


def _none(spec: StudySpec, settings: sections.NoScheduler) -> Scheduler:
    return NoStopping()


def _asha(spec: StudySpec, settings: sections.ASHA) -> Scheduler:
    return Asha(**_halving(spec, settings))


def _asha_promote(spec: StudySpec, settings: sections.ASHAPromote) -> Scheduler:
    from search.promotion import AshaPromote  # which imports this module

    return AshaPromote(**_halving(spec, settings))


def _halving(spec: StudySpec, settings: sections.SuccessiveHalving) -> dict[str, Any]:
    return {
        "epochs": spec.budget.epochs,
        "grace_period": settings.grace_period,
        "reduction_factor": settings.reduction_factor,
        "mode": spec.objective.mode,
        "exempt": range(len(spec.recipes)),  # recipes are a study's first trials
    }


SCHEDULERS: dict[str, SchedulerInfo] = {
    info.kind: info
    for info in (
        SchedulerInfo("none", "every trial runs to the end", _none),
        SchedulerInfo("asha", "asynchronous successive halving, stopping at the rungs", _asha),
        SchedulerInfo("asha_promote", "asynchronous successive halving, pausing at the rungs", _asha_promote),
    )
}


def build_scheduler(spec: StudySpec) -> Scheduler:
    """The scheduler that a study names."""
    return SCHEDULERS[spec.scheduler.kind].build(spec, spec.scheduler)
