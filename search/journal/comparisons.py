"""Comparisons as the journal tells them: configs of a study, trained over fresh seeds that are the same for all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from search.journal.events import (
    Arm,
    ComparisonEnded,
    ComparisonEvent,
    ComparisonKind,
    ComparisonStarted,
    TestOpened,
    TestScored,
)
from search.journal.records import TrialRecord, TrialStatus
from trainables.config import parse_config
from trainables.config.plugins import as_recorded

__all__ = ["Comparison", "has_test", "newest"]


def has_test(arm: Arm) -> bool:
    """Whether there is a test split for the arm: a synthetic curve has none."""
    with as_recorded():
        return parse_config(arm.config).model.is_network


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison so far.

    Attributes:
        started: what is compared.
        runs: its trials by number.
        ended: how it ended; None while it is under way.
        opened, scored: the opening of the test split for it, and what that gave.
    """

    started: ComparisonStarted
    runs: tuple[TrialRecord, ...] = ()
    ended: ComparisonEnded | None = None
    opened: TestOpened | None = None
    scored: TestScored | None = None

    @property
    def number(self) -> int:
        """Which comparison of the study it is, counted from 1."""
        return self.started.comparison

    @property
    def over(self) -> str:
        """What the runs of a config differ in."""
        return "folds" if self.started.folds else "fresh seeds"

    @property
    def kind(self) -> ComparisonKind:
        """`refit` or `explain`."""
        return self.started.kind

    @property
    def winner(self) -> Arm | None:
        """The arm that won."""
        name = self.ended and self.ended.winner
        return next((arm for arm in self.started.arms if arm.name == name), None)

    @property
    def reference(self) -> Arm | None:
        """The arm that the others are measured against."""
        return next((arm for arm in self.started.arms if arm.name == self.started.reference), None)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do: the winner of a refit has been scored on the test split, too."""
        winner = self.winner
        return self.ended is not None and (winner is None or self.scored is not None or not has_test(winner))

    def follows(self, trials: Iterable[TrialRecord]) -> bool:
        """Whether all these trials of the search had ended when the comparison began."""
        return all((record.ended or math.inf) <= self.started.time for record in trials)

    def config(self, arm: Arm, index: int) -> dict[str, Any]:
        """The TrialConfig, as plain data, of an arm's run number `index`, counted from 0."""
        config, folds = {**arm.config, "seed": self.started.first_seed + index}, self.started.folds
        if folds is not None:
            config["data"] = {**config["data"], "folds": folds, "fold": index % folds, "repeat": index // folds}
        return config

    def index(self, run: TrialRecord) -> int:
        """Which of its arm's runs a trial is, counted from 0."""
        return int(run.config["seed"]) - self.started.first_seed

    def values(self, metric: str) -> dict[str, dict[int, float]]:
        """`metric` at the end of the runs that have ended, by arm and by index; NaN for one that failed or diverged.

        Runs that the end of the budget cut off are left out.
        """
        found: dict[str, dict[int, float]] = {arm.name: {} for arm in self.started.arms}
        for run in self.runs:
            if run.status in (TrialStatus.COMPLETED, TrialStatus.DIVERGED, TrialStatus.FAILED) and run.arm is not None:
                whole = run.status is TrialStatus.COMPLETED
                found[run.arm][self.index(run)] = run.value(metric) if whole else math.nan
        return found

    def test_values(self, metric: str) -> dict[str, dict[int, float]]:
        """`metric` (one of `trainables.training.evaluation.Scores`) on the test split, by arm and by index."""
        scores: Mapping[int, Mapping[str, float]] = self.scored.scores if self.scored else {}
        found: dict[str, dict[int, float]] = {}
        for run in self.runs:
            if run.number in scores and run.arm is not None:
                found.setdefault(run.arm, {})[self.index(run)] = scores[run.number][metric]
        return found

    def after(self, event: ComparisonEvent) -> Comparison:
        """The comparison with one more event of it applied; a repeated one changes nothing."""
        match event:
            case ComparisonEnded() if self.ended is None:
                return replace(self, ended=event)
            case TestOpened() if self.opened is None:
                return replace(self, opened=event)
            case TestScored() if self.scored is None:
                return replace(self, scored=event)
        return self

    def of_arm(self, arm: str) -> Iterator[TrialRecord]:
        """The runs of an arm, by number."""
        return (run for run in self.runs if run.arm == arm)


def newest(comparisons: Sequence[Comparison], kind: ComparisonKind, *, ended: bool = False) -> Comparison | None:
    """The last comparison of a kind, also one that is under way unless it must have `ended`; None without one."""
    of_kind = (found for found in reversed(comparisons) if found.kind == kind)
    return next((found for found in of_kind if found.ended is not None or not ended), None)
