"""The states of a trial."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["TrialStatus"]


class TrialStatus(StrEnum):
    """Where a trial stands.

    PENDING waits for a worker, as does an interrupted one. PAUSED waits for a promotion. COMPLETED trained all its
    epochs or until its patience was used up; STOPPED was ended by the scheduler or the end of the budget; DIVERGED
    had a loss or objective that was not finite; FAILED raised an error.
    """

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    STOPPED = "STOPPED"
    DIVERGED = "DIVERGED"
    FAILED = "FAILED"

    @property
    def ended(self) -> bool:
        """Whether nothing more will come from the trial."""
        return self in (self.COMPLETED, self.STOPPED, self.DIVERGED, self.FAILED)
