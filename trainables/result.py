"""What a trial reports, and the contract that every trainable obeys. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

__all__ = ["METRICS", "EpochResult", "Trainable"]


@dataclass(frozen=True, slots=True)
class EpochResult:
    """The state of a trial after `epoch` epochs (1 is the first).

    Losses are mean cross-entropies in nats; `val_loss` is plain (no smoothing, no class weights), `train_loss` is the
    loss that was minimized. Accuracies, precision, recall and F1 are fractions; the last three are macro averages over
    classes on the validation split. `train_accuracy` is measured in eval mode on a fixed unaugmented subset of the
    training split, so that mixup or dropout does not blur the generalization gap. With EMA on, all but `train_loss` are
    the averaged weights'. `lr` is the learning rate of the epoch's last step, `grad_norm` the mean L2 norm of the
    gradient before clipping. `images_per_second` counts training images over training time, `seconds` the whole epoch.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    val_precision: float
    val_recall: float
    val_f1: float
    lr: float
    grad_norm: float
    images_per_second: float
    seconds: float
    last: bool = False
    stop_reason: str | None = None  # why it is the last: "epochs", "patience" or "diverged"

    def metrics(self) -> dict[str, float]:
        """The numbers alone, by name, in the order of the fields."""
        fields = asdict(self)
        return {name: float(fields[name]) for name in METRICS}


METRICS: tuple[str, ...] = (
    "train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_precision", "val_recall", "val_f1",
    "lr", "grad_norm", "images_per_second", "seconds",
)  # fmt: skip


class Trainable(Protocol):
    """A trial in progress: `trainables.loop.Run` on images, `trainables.synthetic.SyntheticRun` without."""

    def epochs(self) -> Iterator[EpochResult]:
        """Train on from where the state stands: one result an epoch, up to the one whose `last` is true."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly as if never stopped; readable with `torch.load(weights_only=True)`."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict` of a run with the same config."""
        ...
