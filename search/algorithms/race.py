"""Finalists of a search raced against each other and against a reference, over seeds that are the same for all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from search.algorithms.intervals import MISSED, quantile, same_mean, standard_error
from trainables.result import Mode

__all__ = ["Decision", "Race", "Standing", "standing"]

Decision = Literal["open", "decided", "tie", "none"]
Values = Mapping[str, Mapping[int, float]]

FIRST_LOOK = 3  # rounds; a t-test on two differences has no power


@dataclass(frozen=True, slots=True)
class Race:
    """What is raced.

    Attributes:
        arms: their names, in the search's order, which settles equal means without the reference's.
        reference: the arm that the winner is measured against. It runs as long as the race, even if it is behind, and
            leads where no mean is better.
        mode: whether the largest or the smallest values are the best.
        most_runs: how many runs an arm has at most.
        material: the difference, in the unit of the values, below which two arms count as equal. At least the metric's
            own step (one image): spreads smaller than that are not believed.
        test_share: with cross-validation, how many images are validated on for one that is trained on; 0 for seeds.
    """

    arms: tuple[str, ...]
    reference: str | None
    mode: Mode
    most_runs: int
    material: float
    test_share: float = 0.0

    @property
    def looks(self) -> tuple[int, ...]:
        """After how many rounds the values are looked at: 3, then half as many again, and at the end."""
        rounds, found = FIRST_LOOK, []
        while rounds < self.most_runs:
            found.append(rounds)
            rounds = math.ceil(1.5 * rounds)
        return (*found, self.most_runs)

    @property
    def level(self) -> float:
        """The error probability of a single one-sided test: 5 % over all looks and all rivals of an arm.

        For a false winner, an arm that is truly the best has to lose a test to one of its rivals at one of the looks;
        tests between other arms do not matter (Hsu 1984, Constrained simultaneous confidence intervals for multiple
        comparisons with the best). Bonferroni's inequality adds these up, however they depend on each other.
        """
        return MISSED / (max(len(self.arms) - 1, 1) * len(self.looks))


@dataclass(frozen=True, slots=True)
class Standing:
    """How a race stands.

    Attributes:
        leader: the arm with the best mean over the complete rounds among those that are neither dropped nor beaten.
        dropped: why, by arm; they get no more runs.
        decision: `decided`: the leader has beaten every other arm. `tie`: those in `tied` are equal to it within
            `material`, or no more runs may tell. `none`: every arm diverged or failed.
        tied: the arms that are tied with the leader.
        rounds: how many rounds are complete, that is, ended for each arm that is still in the race.
        runs: (arm, index) wanted now, in the order in which to start them; those under way are among them.
    """

    leader: str | None
    dropped: Mapping[str, str]
    decision: Decision
    tied: tuple[str, ...]
    rounds: int
    runs: tuple[tuple[str, int], ...]


def standing(race: Race, values: Values) -> Standing:
    """How a race stands, after the runs that have ended.

    All looks are replayed, each on complete rounds alone, so that neither the order in which runs end nor an
    interruption changes what is decided. At a look, an arm that is clearly worse than the leader is beaten, by a paired
    t-test at `Race.level`; the race ends when all others are beaten or shown to be within `material`, by the same
    limits. An arm with a run that diverged or failed is out, and so is what it decided: arms that only it had beaten
    race on.

    Args:
        race: what is raced.
        values: the objective by arm and index, from 0 to `most_runs` - 1, of runs that have ended; NaN for one that
            diverged or failed.
    """
    return _replay(race, values, frozenset())


def _replay(race: Race, values: Values, out: frozenset[str]) -> Standing:
    """The standing as if the arms in `out`, which diverged or failed, had never been in the race."""
    beaten: dict[str, str] = {}
    rounds = 0
    for rounds in race.looks:
        running = [arm for arm in race.arms if arm not in out and (arm not in beaten or arm == race.reference)]
        failed = {arm for arm in running if any(math.isnan(values.get(arm, {}).get(n, 0.0)) for n in range(rounds))}
        sound = [arm for arm in running if arm not in failed]
        runs = tuple((arm, n) for n in range(rounds) for arm in sound if n not in values.get(arm, {}))
        if runs:
            return _standing(race, values, beaten, out | failed, runs[0][1], runs)
        if failed:  # not earlier: which runs follow must not depend on which of a round ends first
            return _replay(race, values, out | failed)
        newly_beaten, unclear = _look(race, values, [arm for arm in sound if arm not in beaten], rounds)
        beaten |= newly_beaten
        if not unclear:
            break
    return _standing(race, values, beaten, out, rounds)


def _standing(
    race: Race,
    values: Values,
    beaten: Mapping[str, str],
    out: frozenset[str],
    rounds: int,
    runs: tuple[tuple[str, int], ...] = (),
) -> Standing:
    rivals = [arm for arm in race.arms if arm not in beaten and arm not in out]
    dropped = {arm: why for arm, why in beaten.items() if arm != race.reference}
    for arm in (arm for arm in race.arms if arm in out):
        ended = list(values[arm].values())
        dropped[arm] = f"diverged or failed in {sum(map(math.isnan, ended))} of {len(ended)} runs"
    leader = _leader(race, values, rivals, rounds) if rivals and rounds else None
    if runs:
        return Standing(leader, dropped, "open", (), rounds, runs)
    tied = tuple(arm for arm in rivals if arm != leader)
    return Standing(leader, dropped, "tie" if tied else "decided" if leader else "none", tied, rounds, ())


def _look(race: Race, values: Values, rivals: list[str], rounds: int) -> tuple[dict[str, str], bool]:
    """Why arms are beaten now, and whether any may still turn out better or worse than the leader."""
    beaten: dict[str, str] = {}
    if len(rivals) < 2 or rounds < 2:
        return beaten, len(rivals) > 1
    leader, unclear = _leader(race, values, rivals, rounds), False
    factor = quantile(race.level, rounds - 1)
    # Three differences on a grid as coarse as the metric are equal too often to believe that they have no spread.
    least = race.material * math.sqrt(1 / rounds + race.test_share)
    for arm in (arm for arm in rivals if arm != leader):
        leads = _array(values, leader, rounds) - _array(values, arm, rounds)
        lead, error = abs(float(leads.mean())), standard_error(leads, race.test_share)
        margin = factor * max(error, least)
        if lead > margin:
            beaten[arm] = f"behind {leader} by {lead:.4f} (at least {lead - margin:.4f}) over {rounds} runs"
        elif lead + factor * error > race.material:
            unclear = True
    return beaten, unclear


def _leader(race: Race, values: Values, rivals: list[str], rounds: int) -> str:
    """The arm with the best mean over the complete rounds; of equal means the reference's, else the first."""
    means = {arm: float(_array(values, arm, rounds).mean()) for arm in rivals}
    best = max(means.values()) if race.mode == "max" else min(means.values())
    equal = [arm for arm in rivals if same_mean(means[arm], best)]
    return race.reference if race.reference in equal else equal[0]


def _array(values: Values, arm: str, rounds: int) -> np.ndarray:
    return np.array([values[arm][index] for index in range(rounds)])
