"""Where the winner errs: its classes, the confusion matrix, and whether its probabilities can be believed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from search.journal.result import StudyResult
from trainables.result import ClassReport

__all__ = ["ClassRow", "Errors", "MatrixRow", "errors"]

MOST_ROWS = 100  # of the table, the classes with the lowest F1 first
MOST_DRAWN = 30  # classes of a heat map
MOST_PAIRS = 20  # of the list that stands for one
STRONGEST = 0.6  # of a cell's color, which its number must be read on


@dataclass(frozen=True, slots=True)
class ClassRow:
    """A class; `taken_for` names the class that it is most often taken for wrongly, and how often."""

    name: str
    images: int
    precision: float
    recall: float
    f1: float
    taken_for: str


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """A class of the heat map: how many of its images are taken for each class, and how strong each cell is, 0 to 1.

    That is the root of its share: a few errors among many images are seen, too.
    """

    name: str
    cells: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Errors:
    """What the section shows. `matrix` is empty where there are too many classes; then `pairs` stand for it."""

    what: str
    accuracy: float
    calibration: str
    rows: list[ClassRow]
    left_out: int
    matrix: list[MatrixRow]
    pairs: list[tuple[str, str, int]]


def errors(result: StudyResult) -> Errors | None:
    """Where the winner errs on validation images; None if no run has said so."""
    runs, report = result.winning_runs(), result.class_report()
    if report is None:
        return None
    names = report.class_names
    rows = sorted(_rows(report), key=lambda row: (row.f1, row.name))
    return Errors(
        what=_what(result, len(runs), sum(report.images)),
        accuracy=report.accuracy,
        calibration=_calibration(report.calibration_error),
        rows=rows[:MOST_ROWS],
        left_out=max(len(rows) - MOST_ROWS, 0),
        matrix=_matrix(report),
        pairs=[
            (names[actual], names[predicted], images) for actual, predicted, images in report.confusions[:MOST_PAIRS]
        ],
    )


def _what(result: StudyResult, count: int, images: int) -> str:
    run, refit = result.winning_runs()[0], result.deciding_refit
    if run.arm is None or refit is None:
        return f"trial {run.number} on {images:,} validation images"
    return f"{run.arm} over {count} {refit.over}, {images:,} validation images together"


def _calibration(error: float) -> str:
    can = "can be believed: they are" if error < 0.02 else "are"
    return f"its probabilities {can} {100 * error:.1f} points from its accuracy on average"


def _rows(report: ClassReport) -> list[ClassRow]:
    taken_for: dict[int, str] = {}
    for actual, predicted, images in report.confusions:  # the most frequent first
        taken_for.setdefault(actual, f"{report.class_names[predicted]} ({images})")
    each = zip(report.class_names, report.images, report.precision, report.recall, report.f1, strict=True)
    return [ClassRow(*row, taken_for.get(number, "")) for number, row in enumerate(each)]


def _matrix(report: ClassReport) -> list[MatrixRow]:
    counts = report.matrix()
    if counts is None or len(counts) > MOST_DRAWN:
        return []
    return [
        MatrixRow(name, tuple((count, STRONGEST * math.sqrt(count / max(sum(row), 1))) for count in row))
        for name, row in zip(report.class_names, counts, strict=True)
    ]
