"""Schedulers: which trials stop early, or pause. Pure functions of the results so far; no Ray.

Ray's own ASHA loses its rungs when a search is restored, enters a resumed trial into lower rungs with its late value
and lets NaN run to the end. These count fidelity in absolute epochs, hold no clock and no randomness, and so decide
the same again when the same results are replayed.

A scheduler of your own is any class with the members of `Scheduler` (inherit `NeverPausing` if it pauses no trial). A
study names it as a plug-in, by an entry point of the group `resnet_search.schedulers` or as `kind: my_pkg:MyScheduler`,
and it is built as `MyScheduler(study, settings)`: the StudySpec (`study.budget.epochs`, `study.objective.mode`; the
first `len(study.recipes)` trials are recipes), and an object of its class attribute `Settings`, a pydantic model that
has checked the study's `scheduler.settings`; None if it has no such attribute. Or pass an object in Python,
`run_study(..., scheduler=MyScheduler(...))`. `search.testing` has the tests that it should pass.

Successive halving, Hyperband's brackets (each trial has rungs of its own) and rules that compare curves fit. Of
population based training (Jaderberg et al. 2017) pausing and promoting fit, but not exploit and explore: a trial keeps
its config and its own checkpoints from leg to leg. A promotion with another config would have to be recorded in the
journal's TrialResumed, and a checkpoint, which is refused by a trial of another config, be loaded into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = ["Decision", "NeverPausing", "Promotion", "Scheduler"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a trial after one result: it continues, stops, or pauses until it is promoted.

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
    """A paused trial to train now, from the rung at epoch `rung`; `cutoff` as in `Decision`."""

    trial: int
    rung: int
    cutoff: float | None = None


class Scheduler(Protocol):
    """Decides after every epoch of every trial whether it continues, and which paused trial is trained next."""

    @property
    def pauses(self) -> bool:
        """Whether a trial may be paused at a rung, so that it needs a checkpoint there."""
        ...

    def rungs(self, trial: int) -> tuple[int, ...]:
        """The epochs at which `trial` may be stopped or paused, ascending; always the same."""
        ...

    def on_result(self, trial: int, epoch: int, value: float) -> Decision:
        """Enter the objective's value of `trial` after `epoch` epochs (1 is the first) and decide.

        Called again for the same trial and rung it enters nothing and repeats its decision.
        """
        ...

    def promotion(self, final: bool = False) -> Promotion | None:
        """The paused trial that a free worker should train before any new one; None if there is none.

        Changes nothing: called again it answers the same, until a result is entered or a trial is passed to `leave`.

        Args:
            final: no new trial will come and none runs, so whoever is not promoted now never will be.
        """
        ...

    def leave(self, trial: int, rung: int) -> None:
        """Take `trial` from those paused at `rung`, if it is one of them: it was promoted, or it ended there."""
        ...


class NeverPausing:
    """The part of a scheduler that pauses no trial."""

    pauses = False

    def promotion(self, final: bool = False) -> Promotion | None:
        """None: no trial is paused."""
        return None

    def leave(self, trial: int, rung: int) -> None:
        """Nothing: no trial is paused."""
