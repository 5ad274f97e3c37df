"""No scheduler at all."""

from __future__ import annotations

from search.algorithms.schedulers.base import Decision, NeverPausing

__all__ = ["NoStopping"]


class NoStopping(NeverPausing):
    """Every trial runs to the end."""

    def rungs(self, trial: int) -> tuple[int, ...]:
        """None at all."""
        return ()

    def on_result(self, trial: int, epoch: int, value: float) -> Decision:
        """Continue."""
        return Decision()
