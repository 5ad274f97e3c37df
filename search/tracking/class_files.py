"""What a network gets right class by class, as files that MLflow's page shows: tables, and a picture."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from html import escape

from trainables.result import ClassReport

__all__ = ["class_files"]

MOST_DRAWN = 50  # classes of a picture
CELL, LABEL = 34, 120  # pixels
RIGHT, WRONG = "#0b5cad", "#c21f2e"


def class_files(report: ClassReport) -> dict[str, str]:
    """By name: `classes.csv`, a row for each class; the confusion matrix as a table and, if it is small, a picture.

    Where a report does not name all confusions, `confusions.csv` has those that it names, the most frequent first.
    """
    names, each = report.class_names, zip(report.precision, report.recall, report.f1, strict=True)
    rows = [
        [name, images, predicted, *(f"{value:.4f}" for value in values)]
        for name, images, predicted, values in zip(names, report.images, report.predicted, each, strict=True)
    ]
    files = {"classes.csv": _csv(["class", "images", "predicted", "precision", "recall", "f1"], rows)}
    matrix = report.matrix()
    if matrix is None:
        pairs = [[names[actual], names[predicted], images] for actual, predicted, images in report.confusions]
        return files | {"confusions.csv": _csv(["class", "taken for", "images"], pairs)}
    table = [[name, *row] for name, row in zip(names, matrix, strict=True)]
    files["confusion_matrix.csv"] = _csv(["class / taken for", *names], table)
    if len(names) <= MOST_DRAWN:
        files["confusion_matrix.svg"] = _picture(names, matrix)
    return files


def _csv(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([heads, *rows])
    return text.getvalue()


def _picture(names: Sequence[str], matrix: Sequence[Sequence[int]]) -> str:
    """A heat map as SVG: a row for each class, each cell as strong as the root of its share of the row."""
    side = LABEL + CELL * len(names)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" width="{side}" height="{side}" '
        'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="#fff"/>'
    ]
    for row, (name, counts) in enumerate(zip(names, matrix, strict=True)):
        at, total = LABEL + CELL * row, max(sum(counts), 1)
        middle = at + CELL / 2 + 4
        parts.append(f'<text x="{LABEL - 6}" y="{middle}" text-anchor="end">{_short(name)}</text>')
        parts.append(f'<text transform="translate({middle},{LABEL - 6}) rotate(-60)">{_short(name)}</text>')
        for column, count in enumerate(counts):
            color, left = RIGHT if column == row else WRONG, LABEL + CELL * column
            parts.append(
                f'<rect x="{left}" y="{at}" width="{CELL}" height="{CELL}" fill="{color}" '
                f'fill-opacity="{math.sqrt(count / total):.3f}" stroke="#d5dae0"/>'
            )
            if count:
                ink = "#fff" if count > total / 4 else "#1b1f24"
                text = f'<text x="{left + CELL / 2}" y="{middle}" text-anchor="middle" fill="{ink}">{count}</text>'
                parts.append(text)
    return "\n".join([*parts, "</svg>\n"])


def _short(name: str) -> str:
    return escape(name if len(name) <= 16 else name[:15] + "…")
