"""Optuna's own sampler and pruners, by ask and tell: what its `optimize` does, with several workers."""

from __future__ import annotations

import optuna

from benchmarks.curves import Family
from benchmarks.simulation import Leg
from spaces import Choice, Domain, Int, Scalar, Space, walk

__all__ = ["OptunaSearch", "drawn_by"]


def drawn_by(trial: optuna.Trial, space: Space) -> dict[str, Scalar]:
    """The point of the space that the trial's `suggest` methods draw, by qualified keys."""

    def draw(key: str, domain: Domain) -> Scalar:
        if isinstance(domain, Choice):
            return trial.suggest_categorical(key, domain.options)
        if isinstance(domain, Int):
            return trial.suggest_int(key, domain.low, domain.high, log=domain.log, step=domain.step)
        return trial.suggest_float(key, domain.low, domain.high, log=domain.log, step=domain.step)

    return walk(space, draw).values


class OptunaSearch:
    """A study with Optuna's default sampler.

    Args:
        family: what is searched.
        seed: of the sampler.
        pruner: which trials end early.
    """

    def __init__(self, family: Family, seed: int, pruner: optuna.pruners.BasePruner) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._family = family
        # Hyperband draws a trial's bracket from the study's name.
        self._study = optuna.create_study(
            study_name=f"seed {seed}", direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed),
            pruner=pruner,
        )  # fmt: skip
        self._trials: dict[int, optuna.Trial] = {}

    def next_leg(self, final: bool) -> Leg:
        """A new trial."""
        trial = self._study.ask()
        self._trials[trial.number] = trial
        return Leg(trial.number, drawn_by(trial, self._family.space))

    def on_result(self, trial: int, epoch: int, value: float, diverged: bool) -> bool:
        """Report a result, and end the trial where the pruner says so or its training ends."""
        running = self._trials[trial]
        running.report(value, epoch)
        if epoch == self._family.epochs:
            self._study.tell(running, value)
            return False
        if running.should_prune():
            self._study.tell(running, state=optuna.trial.TrialState.PRUNED)
            return False
        return True
