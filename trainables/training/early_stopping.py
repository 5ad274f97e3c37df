"""When a run ends, and which epoch's weights it leaves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from torch import nn

from trainables.result import ClassReport

__all__ = ["EarlyStopping"]


class EarlyStopping:
    """Ends a run after its epochs; with patience earlier, and then the weights of its best epoch are what is left.

    Without patience the run leaves its last weights. Early stopping that keeps the best epoch's is Prechelt's (1998);
    the best is the first epoch with the lowest val_loss.

    Args:
        epochs: of the run.
        patience: epochs without a better val_loss after which it ends; None for all epochs.

    Attributes:
        val_history: the val_loss of each finished epoch.
    """

    def __init__(self, epochs: int, patience: int | None) -> None:
        self._epochs, self._patience = epochs, patience
        self.val_history: list[float] = []
        self._best: dict[str, Any] | None = None  # weights and report of the best epoch, unless it is the last

    @property
    def best_epoch(self) -> int:
        """The epoch with the lowest val_loss so far (1 is the first); with patience None, the last."""
        history = self.val_history
        return len(history) if self._patience is None else history.index(min(history)) + 1

    def stop_reason(self, train_loss: float) -> str | None:
        """Why the run has ended, if it has: "diverged", "epochs" or "patience"."""
        epoch = len(self.val_history)
        if not (math.isfinite(train_loss) and math.isfinite(self.val_history[-1])):
            return "diverged"
        if epoch >= self._epochs:
            return "epochs"
        return "patience" if self._patience is not None and epoch - self.best_epoch >= self._patience else None

    def end_epoch(self, reason: str | None, model: nn.Module, report: Callable[[], ClassReport]) -> ClassReport | None:
        """Keep the weights if the epoch that has just ended is the best so far, and give them back when the run ends.

        Args:
            reason: of the run's end, as `stop_reason` says it.
            model: with the weights of this epoch; at the run's end it gets those of the best one.
            report: what these weights do class by class.

        Returns:
            The report on the weights that the run leaves, if it has ended and has not diverged.
        """
        if reason == "diverged":
            return None
        is_best = self.best_epoch == len(self.val_history)
        if reason is None:
            if is_best and self._patience is not None:
                weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
                self._best = {"weights": weights, "report": asdict(report())}
            return None
        best, self._best = self._best, None
        if is_best or best is None:
            return report()
        model.load_state_dict(best["weights"])
        return ClassReport(**best["report"])

    def state_dict(self) -> dict[str, Any]:
        """The losses, and the best epoch's weights while the run lasts."""
        return {"val_history": list(self.val_history), "best": self._best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`.

        Raises:
            LookupError: if it lacks what is needed, as that of a run with patience does which kept no weights.
        """
        self.val_history = list(state["val_history"])
        self._best = None if self._patience is None else state["best"]
