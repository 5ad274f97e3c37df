"""`python -m trainables.predict MODEL IMAGES...`: what a trained network says of images, prepared as in training."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainables.cli import Plugins, run_verb
from trainables.config.plugins import allow_plugins
from trainables.files import replaced

if TYPE_CHECKING:
    from trainables.prediction.predictor import Prediction, Predictor

__all__ = ["predict"]

MOST_SHOWN = 1000  # lines of the table; a CSV file has them all


def predict(
    model: Annotated[Path, typer.Argument(help="a checkpoint, or a folder that `export --format` wrote")],
    images: Annotated[list[str], typer.Argument(help="image files, folders, patterns, or a Parquet file")],
    to: Annotated[
        Path | None, typer.Option("--csv", help="write file, class, probability and all logits to this file")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda, for a checkpoint")] = "auto",
    plugin: Plugins = None,
) -> None:
    """Classify images. Exit code 1 if some could not be read: they are named, and the others are classified."""
    from trainables.prediction.predictor import Predictor  # these load torch
    from trainables.prediction.sources import find_images

    allow_plugins(plugin or ())
    predictor = Predictor.load(model, device)
    found = find_images(images)
    unreadable: list[Prediction] = []
    count = 0
    typer.echo(f"{'probability':>11}  {'class':<{_width(predictor)}}  file")
    with _table(to, predictor.class_names) as write_row:
        for prediction in predictor.stream(found):
            count += 1
            if prediction.error is not None:
                unreadable.append(prediction)
            write_row(_row(prediction, len(predictor.class_names)))
            if count <= MOST_SHOWN:
                typer.echo(_line(prediction, _width(predictor)))
    if count > MOST_SHOWN:
        typer.echo(f"... and {count - MOST_SHOWN:,} more" + ("" if to else ": --csv FILE writes them all"))
    if to is not None:
        typer.echo(f"{count:,} images: {to}")
    if unreadable:
        typer.echo(f"error: {len(unreadable)} of {count:,} images are unreadable:", err=True)
        for prediction in unreadable:
            typer.echo(f"  {prediction.name}: {prediction.error}", err=True)
        raise typer.Exit(1)


def _width(predictor: Predictor) -> int:
    return max(map(len, (*predictor.class_names, "unreadable")))


def _line(prediction: Prediction, width: int) -> str:
    if prediction.probability is None:
        return f"{'-':>11}  {'unreadable':<{width}}  {prediction.name}"
    return f"{prediction.probability:>11.4f}  {prediction.class_name:<{width}}  {prediction.name}"


@contextmanager
def _table(path: Path | None, class_names: tuple[str, ...]) -> Iterator[Callable[[list[object]], object]]:
    """What writes a row of the CSV file, if there is to be one."""
    if path is None:
        yield lambda row: None
        return
    with replaced(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "class", "probability", "error", *(f"logit {name}" for name in class_names)])
        yield table.writerow


def _row(prediction: Prediction, classes: int) -> list[object]:
    logits = prediction.logits or ("",) * classes
    probability = "" if prediction.probability is None else prediction.probability
    return [prediction.name, prediction.class_name or "", probability, prediction.error or "", *logits]


if __name__ == "__main__":
    run_verb(predict)
