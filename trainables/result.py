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
    gradient before clipping. `images_per_second` counts training images over training time, `seconds` the whole epoch;
    for an epoch that was interrupted, both take the time of its parts together.
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

    def steps(self) -> Iterator[EpochResult | None]:
        """Train on from where the state stands, up to the epoch whose result's `last` is true.

        Yields None after every optimizer step and an `EpochResult` after each epoch. At both a `state_dict` may be
        taken, and the iterator may be abandoned; a later one goes on from there. Yielding None does not wait for the
        device, and what the caller does in between (with torch's global generators, too) changes no number.
        """
        ...

    def epochs(self) -> Iterator[EpochResult]:
        """`steps` with the results alone: one an epoch."""
        return (result for result in self.steps() if result is not None)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly as if never stopped; readable with `torch.load(weights_only=True)`.

        Among it `config`; `epoch`, how many are finished; and `step`, how many steps of the next one are (0 at an
        epoch's end).
        """
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict` of a run with the same config."""
        ...
