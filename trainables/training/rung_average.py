"""What averaged weights score at the rungs of a search, where trials are compared long before their end.

A network whose learning rate is still high jumps about its valley, and where an epoch happens to leave it says little
about where it will come down. The average of its weights over about an epoch lies near there already (Izmailov et al.
2018, arXiv:1803.05407; Hägele et al. 2024, arXiv:2405.18392). docs/search_quality.md has what that is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from trainables.config import ConfigError
from trainables.models.ema import WeightAverage
from trainables.result import SCORED
from trainables.training.evaluation import Scores

__all__ = ["RungAverage"]


class RungAverage:
    """The average of the weights of about the last epoch, kept until the last rung; the training knows nothing of it.

    Args:
        model: the network that is trained.
        rungs: the epochs after which it is scored; none: nothing is averaged.
        steps_per_epoch: its window.

    Raises:
        ConfigError: if the network cannot be copied, as one with torch's old weight norm.
    """

    def __init__(self, model: nn.Module, rungs: Iterable[int], steps_per_epoch: int) -> None:
        self._rungs = frozenset(rungs)
        try:
            self._average = WeightAverage(model, 1 - 1 / steps_per_epoch) if self._rungs else None
        except (RuntimeError, TypeError) as error:
            if isinstance(error, RuntimeError) and "deepcopy" not in str(error):  # as when memory is short
                raise
            rule = f"must be current with a model that cannot be copied ({str(error).splitlines()[0]})"
            raise ConfigError.single("objective.rung_weights", "averaged", rule) from error

    def update(self) -> None:
        """Take in the weights as a step has left them."""
        if self._average is not None:
            self._average.update()

    def metrics(self, epoch: int, evaluate: Callable[[nn.Module], Scores]) -> dict[str, float]:
        """What the average scores after `epoch`, by the metric's name; empty unless that is a rung."""
        if self._average is None or epoch not in self._rungs:
            return {}
        scores = evaluate(self._average.module)
        if epoch == max(self._rungs):
            self._average = None
        return {f"val_{name}": getattr(scores, name) for name in SCORED}

    def state_dict(self) -> dict[str, Any] | None:
        """To continue from; None if no rung is left."""
        if self._average is None:
            return None
        return {"weights": self._average.module.state_dict(), "steps": self._average.steps}

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Continue from a `state_dict`; from None, which a trial without rungs has, with an average of what follows."""
        if self._average is not None and state is not None:
            self._average.load(state["weights"], state["steps"])
