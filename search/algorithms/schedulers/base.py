"""Schedulers: which trials stop early, or wait. Pure functions of the results they are told; no Ray.

Ray's own ASHA loses its rungs when a search is restored, enters a resumed trial into lower rungs with its late value
and lets NaN run to the end. These count fidelity in absolute epochs, hold no clock and no randomness, and so decide
the same again when the same results are replayed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = ["Decision", "NeverPausing", "Promotion", "Scheduler"]


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

        Changes nothing: asked again it answers the same, until a result is entered or a trial is `leave`d.

        Args:
            final: no new trial will come and none runs, so whoever is not promoted now never will be.
        """
        ...

    def leave(self, trial: int, rung: int) -> None:
        """Learn that `trial` does not wait at `rung` any more: it was promoted, or it ended there.

        Told again it changes nothing.

        Raises:
            ValueError: if the trial never came there.
        """
        ...


class NeverPausing:
    """The part of a scheduler that pauses no trial."""

    pauses = False

    def promotion(self, final: bool = False) -> Promotion | None:
        """None: no trial waits."""
        return None

    def leave(self, trial: int, rung: int) -> None:
        """Refuse: no trial waits."""
        raise ValueError(f"trial {trial} is not paused at epoch {rung}: {type(self).__name__} pauses none")
