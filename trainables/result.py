"""What a trial reports, and the contract that every trainable obeys. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol

__all__ = [
    "AVERAGED", "DIRECTIONS", "METRICS", "SCORED", "ClassReport", "Collapse", "EpochResult", "Mode", "Trainable",
    "final_result",
]  # fmt: skip

MOST_CONFUSIONS = 2500  # pairs of classes that a report names

Mode = Literal["max", "min"]
Collapse = Literal["one class", "rising loss"]

AVERAGED = "averaged_"  # begins the names of metrics of averaged weights

# A field with one of these is a metric: which side of it is better, if either.
LOWER: Mapping[str, Mode | None] = {"better": "min"}
HIGHER: Mapping[str, Mode | None] = {"better": "max"}
NEITHER: Mapping[str, Mode | None] = {"better": None}


@dataclass(frozen=True, slots=True)
class ClassReport:
    """Which classes a network gets right, in counts of images: plain data, which a journal or a checkpoint can hold.

    Attributes:
        class_names: of all classes; the others are in their order.
        images: how many there are of each class.
        predicted: how many are taken for each.
        right: how many of each class are taken for it.
        confusions: how many images of one class are taken for another, as (class, taken for, images) with classes by
            number: the most frequent first, and all of them unless there are more than `MOST_CONFUSIONS`.
        calibration_error: the expected calibration error, 0 (confidence is accuracy) to 1, in 15 bins.
    """

    class_names: tuple[str, ...]
    images: tuple[int, ...]
    predicted: tuple[int, ...]
    right: tuple[int, ...]
    confusions: tuple[tuple[int, int, int], ...]
    calibration_error: float

    @classmethod
    def of(cls, class_names: Sequence[str], counts: Sequence[Sequence[int]], calibration_error: float) -> ClassReport:
        """From a confusion matrix: how many images of each class (row) are taken for each (column)."""
        wrong = [
            (actual, predicted, images)
            for actual, row in enumerate(counts)
            for predicted, images in enumerate(row)
            if images and actual != predicted
        ]
        return cls(
            class_names=tuple(class_names),
            images=tuple(sum(row) for row in counts),
            predicted=tuple(sum(column) for column in zip(*counts, strict=True)),
            right=tuple(row[actual] for actual, row in enumerate(counts)),
            confusions=tuple(sorted(wrong, key=lambda confusion: -confusion[2])[:MOST_CONFUSIONS]),
            calibration_error=calibration_error,
        )

    @classmethod
    def together(cls, reports: Sequence[ClassReport]) -> ClassReport:
        """One report on several networks and all their images; its calibration error is the mean over images.

        Raises:
            ValueError: if they are not of the same classes.
        """
        if len({report.class_names for report in reports}) != 1:
            raise ValueError("reports on the same classes can be added up, and these are not")
        total: Counter[tuple[int, int]] = Counter()
        for report in reports:
            for actual, predicted, images in report.confusions:
                total[actual, predicted] += images
        shares = [sum(report.images) / sum(map(sum, (r.images for r in reports))) for report in reports]
        return cls(
            class_names=reports[0].class_names,
            images=tuple(map(sum, zip(*(report.images for report in reports), strict=True))),
            predicted=tuple(map(sum, zip(*(report.predicted for report in reports), strict=True))),
            right=tuple(map(sum, zip(*(report.right for report in reports), strict=True))),
            confusions=tuple((*pair, images) for pair, images in total.most_common(MOST_CONFUSIONS)),
            calibration_error=sum(
                share * report.calibration_error for share, report in zip(shares, reports, strict=True)
            ),
        )

    def matrix(self) -> list[list[int]] | None:
        """How many images of each class (row) are taken for each (column); None if not all confusions are named."""
        if sum(self.right) + sum(images for _, _, images in self.confusions) < sum(self.images):
            return None
        rows = [[0] * len(self.class_names) for _ in self.class_names]
        for number, right in enumerate(self.right):
            rows[number][number] = right
        for actual, predicted, images in self.confusions:
            rows[actual][predicted] = images
        return rows

    @property
    def accuracy(self) -> float:
        """The fraction of images that are taken for what they are."""
        return sum(self.right) / sum(self.images)

    @property
    def precision(self) -> tuple[float, ...]:
        """Of the images taken for each class, the fraction that is of it; 0 where there are none."""
        return tuple(right / max(total, 1) for right, total in zip(self.right, self.predicted, strict=True))

    @property
    def recall(self) -> tuple[float, ...]:
        """Of the images of each class, the fraction that is taken for it; 0 where there are none."""
        return tuple(right / max(total, 1) for right, total in zip(self.right, self.images, strict=True))

    @property
    def f1(self) -> tuple[float, ...]:
        """The harmonic mean of precision and recall; 0 where there are no images."""
        each = zip(self.right, self.images, self.predicted, strict=True)
        return tuple(2 * right / max(images + predicted, 1) for right, images, predicted in each)

    @property
    def predicted_share(self) -> float:
        """The fraction of images taken for the class that is predicted most."""
        return max(self.predicted) / sum(self.images)


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

    The last result names the `best_epoch`, whose weights the trial leaves and whose metrics are the trial's: with
    `patience` that of the lowest val_loss, else its own. `report` says how these weights do class by class, if there
    are images. Neither is there if the trial has diverged.

    `averaged` holds, after an epoch at which a search compares trials, what the average of the weights of about the
    last epoch scores, by the name of the metric. It tells sooner how a trial will end than weights that still move.

    `collapsed` says that the network is of no use as it stands: it predicts one class, or `train_loss` is over twice
    what it was at the first step.
    """

    epoch: int
    train_loss: float = field(metadata=LOWER)
    train_accuracy: float = field(metadata=HIGHER)
    val_loss: float = field(metadata=LOWER)
    val_accuracy: float = field(metadata=HIGHER)
    val_precision: float = field(metadata=HIGHER)
    val_recall: float = field(metadata=HIGHER)
    val_f1: float = field(metadata=HIGHER)
    lr: float = field(metadata=NEITHER)
    grad_norm: float = field(metadata=NEITHER)
    images_per_second: float = field(metadata=HIGHER)
    seconds: float = field(metadata=LOWER)
    last: bool = False
    stop_reason: str | None = None  # why it is the last: "epochs", "patience" or "diverged"
    best_epoch: int | None = None
    collapsed: Collapse | None = None
    report: ClassReport | None = None
    averaged: Mapping[str, float] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """The numbers alone, by name, in the order of the fields; those of `averaged` last, as `averaged_val_loss`."""
        numbers = {name: float(getattr(self, name)) for name in METRICS}
        return numbers | {f"{AVERAGED}{name}": value for name, value in self.averaged.items()}


SCORED = ("loss", "accuracy", "precision", "recall", "f1")  # by what images are scored; of validation ones as val_loss
# By name, in the order of the fields: the metrics, and for those that have a better side, which it is.
METRICS: tuple[str, ...] = tuple(each.name for each in fields(EpochResult) if "better" in each.metadata)
DIRECTIONS: dict[str, Mode] = {
    each.name: each.metadata["better"] for each in fields(EpochResult) if each.metadata.get("better") is not None
}


def final_result(results: Sequence[EpochResult]) -> EpochResult:
    """Of the results of a trial's first epochs, in order, the one whose metrics are the trial's."""
    best = results[-1].best_epoch
    return results[-1] if best is None else results[best - 1]


class Trainable(Protocol):
    """A trial in progress: `trainables.training.loop.Run` on images, `trainables.synthetic.SyntheticRun` without."""

    def steps(self) -> Iterator[EpochResult | None]:
        """Continue training from the current state, up to the epoch whose result's `last` is true.

        Yields None after every optimizer step and an `EpochResult` after each epoch. At both a `state_dict` may be
        taken, and the iterator may be abandoned; a later one continues from there. Yielding None does not wait for the
        device, and what the caller does in between (with torch's global generators, too) changes no number.
        """
        ...

    def epochs(self) -> Iterator[EpochResult]:
        """`steps` with the results alone: one an epoch."""
        return (result for result in self.steps() if result is not None)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue exactly as if never stopped; readable with `torch.load(weights_only=True)`.

        Among it `config`; `epoch`, how many are finished; and `step`, how many steps of the next one are (0 at an
        epoch's end).
        """
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict` of a run with the same config."""
        ...
