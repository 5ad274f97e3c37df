"""No scheduler at all."""

from __future__ import annotations

from collections.abc import Mapping

from search.algorithms.schedulers.base import Decision, NeverPausing

__all__ = ["NoStopping"]


class NoStopping(NeverPausing):
    """Every trial runs to the end."""

    @property
    def rungs(self) -> Mapping[int, Mapping[int, float]]:
        """None at all."""
        return {}

    def on_result(self, trial: int, epoch: int, value: float) -> Decision:
        """Go on."""
        return Decision()
