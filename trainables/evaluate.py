"""`python -m trainables.evaluate CONFIG_OR_CHECKPOINT... --split val|test`: scores that can be trusted.

The test split is opened here and nowhere in the search: use it once, after the choice is made.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer
from scipy.stats import binomtest

from trainables.checkpoints.class_names import Matched, match_classes
from trainables.cli import Plugins, run_verb
from trainables.config import (
    ConfigError,
    Normalization,
    TrialConfig,
    load_config,
    merge,
    parse_config,
    validate,
    with_source,
)
from trainables.config.images import canonical_source
from trainables.config.plugins import allow_plugins
from trainables.data.store import PreparedData, default_cache, prepare
from trainables.files import write_text
from trainables.result import ClassReport

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.data.images import Images
    from trainables.training.evaluation import Scores

__all__ = ["evaluate", "score_images"]


def _subject(path: Path) -> tuple[TrialConfig, dict[str, Any] | None]:
    if path.suffix in (".yaml", ".yml"):
        return load_config(path), None
    from trainables.checkpoints.checkpoint import config_of, load_checkpoint  # loads torch

    state = load_checkpoint(path)
    return config_of(state), state


class _Outputs(NamedTuple):
    """What a network says about images: logits [n, classes] and labels [n] of the network's classes.

    `notes` is what a reader has to know: classes of another spelling or without images, and which weights were loaded.
    """

    logits: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    notes: tuple[str, ...]


def score_images(
    config: TrialConfig, state: dict[str, Any] | None, images: Images, store: PreparedData
) -> tuple[Scores, tuple[str, ...]]:
    """The scores of `_outputs`, and its notes.

    Raises:
        ConfigError: as `_outputs`.
    """
    from trainables.training.evaluation import score  # loads torch

    found = _outputs(config, state, images, store)
    return score(found.logits, found.labels), found.notes


def _outputs(
    config: TrialConfig, state: dict[str, Any] | None, images: Images, store: PreparedData, *, tta: bool = False
) -> _Outputs:
    """What a checkpoint's weights say (EMA's when it has them), or without one the config's pretrained weights.

    Classes are matched by their names. `tta` averages over each image and its mirror image.

    Raises:
        ConfigError: if there are no trained weights, they do not fit the model, or they know nothing of a class.
    """
    import torch  # here, as what follows: `--help` and a shell's completion are answered at once

    from trainables.checkpoints.resume import translate_mismatch
    from trainables.models.networks import build_network
    from trainables.models.pretrained import load_pretrained
    from trainables.models.trained import trained_network
    from trainables.training.execution import memory_format, resolve_device
    from trainables.training.feed import Feed
    from trainables.training.inference import Inference
    from trainables.training.weights import normalization_for, weights_lines

    if not config.model.is_network:
        raise ConfigError.single("model.kind", config.model.kind, "must be a network: a synthetic curve has no weights")
    if state is None and config.model.pretrained == "none":
        rule = "must name weights when a config is evaluated; or give a checkpoint (trainables.train --checkpoint FILE)"
        raise ConfigError.single("model.pretrained", "none", rule)
    device = resolve_device(config.execution.device)
    if state is None:
        model = build_network(config.model, store.num_classes)
        loaded = load_pretrained(model, config.model)
        if loaded.new:
            rule = f"must have a head of {store.num_classes} classes to be evaluated, and has none: train it first"
            raise ConfigError.single("model.pretrained", config.model.pretrained, rule)
        matched, class_names = Matched(tuple(range(store.num_classes)), ()), store.class_names
        if loaded.class_names:
            class_names = loaded.class_names
            matched = match_classes(loaded.class_names, store.class_names)
        matched = Matched(matched.labels, (*weights_lines(config, images, store), *matched.notes))
        normalization = normalization_for(config, images, store)
    else:
        with translate_mismatch():
            class_names = state["class_names"]
            matched = match_classes(class_names, store.class_names)
            model = trained_network(config, state)
            normalization = validate(Normalization, state["normalization"])
    model = model.to(device=device, memory_format=memory_format(config.execution))  # type: ignore[call-overload]
    inference, feed = Inference(normalization, config.data.resolution, config.execution, device), Feed(images, device)
    labels = torch.tensor(matched.labels, device=device)[feed.labels]
    logits = inference.logits(model, feed, flip_average=tta)
    notes = (*matched.notes, *(["logits: the mean over each image and its mirror image (--tta)"] if tta else []))
    return _Outputs(logits, labels, tuple(class_names), notes)


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
    allow_plugins(plugin or ())
    rows = []
    for subject in subjects:
        scored = _scored(subject, data, split, samples, device, cache or default_cache(), tta)
        if len(subjects) > 1:
            typer.echo(f"{subject}:")
        _print(scored)
        if per_class:
            _print_classes(scored.report)
        row = {"subject": str(subject), "images": scored.images, "tta": tta, **asdict(scored.scores)}
        rows.append({**row, "report": asdict(scored.report)})
    if to is not None:
        write_text(to, json.dumps(rows, indent=2) + "\n")


@dataclass(frozen=True)
class _Scored:
    """Scores on so many images; `what` says which, `notes` what a reader has to know."""

    what: str
    images: int
    scores: Scores
    report: ClassReport
    notes: tuple[str, ...]


def _scored(
    subject: Path, data: str | None, split: str, samples: int | None, device: str, cache: Path, tta: bool
) -> _Scored:
    from trainables.data.held_out import open_test, open_test_alone  # these load torch
    from trainables.data.images import load_splits
    from trainables.training.evaluation import class_report, score
    from trainables.training.execution import not_emulated

    config, state = _subject(subject)
    config = parse_config(merge(config.model_dump(mode="json"), {"execution": {"device": device}}))
    config = config.model_copy(update={"execution": not_emulated(config.execution)})
    trained_on = None if state is None else state.get("fingerprint")
    is_other = data is not None and canonical_source(data) != canonical_source(config.data.source)
    if data is not None:
        config = _with_images(config, data, trained_on, cache)
    what = f"{split} split"
    alone = open_test_alone(config.data, cache, trained_on, samples) if split == "test" and is_other else None
    if alone is not None:
        images, store = alone
        what = "all images, which have no training split,"
    else:
        store = prepare(config.data, cache)
        if split == "test":
            images = open_test(config.data, cache, samples)
        else:
            capped = config.data if samples is None else config.data.model_copy(update={"val_samples": samples})
            images = load_splits(capped, cache, store).val
    logits, labels, class_names, notes = _outputs(config, state, images, store, tta=tta)
    scores, report = score(logits, labels), class_report(logits, labels, class_names)
    return _Scored(f"{what} of {config.data.source}", len(images), scores, report, notes)


def _with_images(config: TrialConfig, data: str, trained_on: str | None, cache: Path) -> TrialConfig:
    """`config` with other images; a copy of those that the network saw is split as they were, or it would test on them.

    Raises:
        ConfigError: if there is no such source.
    """
    other = with_source(config, data)
    try:
        same = parse_config(merge(config.model_dump(mode="json"), {"data": {"source": data}}))
        is_copy = same != other and trained_on is not None and prepare(same.data, cache).fingerprint == trained_on
    except ConfigError:  # what was said of the old images doesn't fit these
        return other
    return same if is_copy else other


def _print(scored: _Scored) -> None:
    for line in scored.notes:
        typer.echo(line)
    scores, images = scored.scores, scored.images
    interval = binomtest(round(scores.accuracy * images), images).proportion_ci(method="wilson")
    typer.echo(f"{scored.what}: {images:,} images")
    typer.echo(f"accuracy   {scores.accuracy:.4f}  (95 % interval {interval.low:.4f} to {interval.high:.4f}, Wilson)")
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
