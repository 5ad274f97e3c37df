"""`python -m trainables.evaluate CONFIG_OR_CHECKPOINT... --split val|test`: scores that can be trusted.

The test split is opened here and nowhere in the search: use it once, after the choice is made.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trainables.cli import Plugins, run_verb
from trainables.config.plugins import allow_plugins
from trainables.data.store import default_cache
from trainables.files import write_text
from trainables.proportion import wilson_interval
from trainables.result import ClassReport

if TYPE_CHECKING:
    from trainables.prediction.scoring import Scored

__all__ = ["evaluate"]


def evaluate(
    subjects: Annotated[
        list[Path],
        typer.Argument(help="checkpoints, or configs with pretrained weights"),
    ],
    data: Annotated[str | None, typer.Option(help="images to score on; default: the config's own source")] = None,
    split: Annotated[Literal["val", "test"], typer.Option(help="which split")] = "val",
    samples: Annotated[int | None, typer.Option(min=1, help="at most so many images, of each class its share")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    cache: Annotated[Path | None, typer.Option(help="folder of the prepared images")] = None,
    to: Annotated[Path | None, typer.Option(help="also write the scores to this file, as a JSON list")] = None,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="also print every class, and what it is most often taken for")
    ] = False,
    tta: Annotated[
        bool, typer.Option("--tta", help="test-time augmentation: average over each image and its mirror image")
    ] = False,
    plugin: Plugins = None,
) -> None:
    """Score trained models on the validation or the held-out test split."""
    from trainables.prediction.scoring import scored  # loads torch: `--help` and completion are answered at once

    allow_plugins(plugin or ())
    rows = []
    for subject in subjects:
        found = scored(subject, data, split, samples, device, cache or default_cache(), tta)
        if len(subjects) > 1:
            typer.echo(f"{subject}:")
        _print(found)
        if per_class:
            _print_classes(found.report)
        row = {"subject": str(subject), "images": found.images, "tta": tta, **asdict(found.scores)}
        rows.append({**row, "report": asdict(found.report)})
    if to is not None:
        write_text(to, json.dumps(rows, indent=2) + "\n")


def _print(scored: Scored) -> None:
    for line in scored.notes:
        typer.echo(line)
    scores, images = scored.scores, scored.images
    low, high = wilson_interval(round(scores.accuracy * images), images)
    typer.echo(f"{scored.what}: {images:,} images")
    typer.echo(f"accuracy   {scores.accuracy:.4f}  (95 % interval {low:.4f} to {high:.4f}, Wilson)")
    typer.echo(f"loss       {scores.loss:.4f}")
    typer.echo(f"precision  {scores.precision:.4f}  recall {scores.recall:.4f}  F1 {scores.f1:.4f}  (macro averages)")
    error = scored.report.calibration_error
    typer.echo(f"calibration error {error:.4f}  (of its probabilities from its accuracy on average, ECE in 15 bins)")
    if scores.one_class:
        typer.echo("warning: it takes nearly all images for one class")


def _print_classes(report: ClassReport) -> None:
    names, taken_for = report.class_names, dict[int, str]()
    for actual, predicted, images in report.confusions:  # the most frequent first
        taken_for.setdefault(actual, f"{names[predicted]} ({images})")
    width = max(map(len, (*names, "class")))
    typer.echo(f"\n{'class':<{width}}  images  precision  recall      F1  taken for")
    each = zip(names, report.images, report.precision, report.recall, report.f1, strict=True)
    for number, (name, images, precision, recall, f1) in enumerate(each):
        other = taken_for.get(number, "")
        typer.echo(f"{name:<{width}}  {images:>6}  {precision:>9.4f}  {recall:.4f}  {f1:.4f}  {other}".rstrip())


if __name__ == "__main__":
    run_verb(evaluate)
