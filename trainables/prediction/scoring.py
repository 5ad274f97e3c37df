"""What a trained network says about images, and its scores on a split: `evaluate`, and what a refit asks of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainables.checkpoints.checkpoint import config_of, load_checkpoint
from trainables.checkpoints.class_names import Matched, match_classes
from trainables.checkpoints.resume import translate_mismatch
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
from trainables.data.held_out import open_test, open_test_alone
from trainables.data.images import Images, load_splits
from trainables.data.store import PreparedData, prepare
from trainables.models.networks import build_network
from trainables.models.pretrained import load_pretrained
from trainables.models.trained import trained_network
from trainables.result import ClassReport
from trainables.training.evaluation import Scores, class_report, score
from trainables.training.execution import memory_format, not_emulated, resolve_device
from trainables.training.feed import Feed
from trainables.training.inference import Inference
from trainables.training.weights import normalization_for, weights_lines

__all__ = ["Outputs", "Scored", "outputs", "scored"]


class Outputs(NamedTuple):
    """What a network says about images: logits [n, classes] and labels [n] of the network's classes.

    `notes` is what a reader has to know: classes of another spelling or without images, and which weights were loaded.
    """

    logits: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    notes: tuple[str, ...]


def outputs(
    config: TrialConfig, state: dict[str, Any] | None, images: Images, store: PreparedData, *, tta: bool = False
) -> Outputs:
    """What a checkpoint's weights say (EMA's when it has them), or without one the config's pretrained weights.

    Classes are matched by their names. `tta` averages over each image and its mirror image.

    Raises:
        ConfigError: if there are no trained weights, they do not fit the model, or they know nothing of a class.
    """
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
    return Outputs(logits, labels, tuple(class_names), notes)


@dataclass(frozen=True)
class Scored:
    """Scores on so many images; `what` says which, `notes` what a reader has to know."""

    what: str
    images: int
    scores: Scores
    report: ClassReport
    notes: tuple[str, ...]


def scored(
    subject: Path, data: str | None, split: str, samples: int | None, device: str, cache: Path, tta: bool
) -> Scored:
    """Score a checkpoint, or a config with pretrained weights, on a split.

    Args:
        subject: the file.
        data: other images than the config's.
        split: val or test.
        samples: at most so many images, of each class its share.
        device: auto, cpu or cuda.
        cache: of the prepared images.
        tta: whether to average over each image and its mirror image.

    Raises:
        ConfigError: if a file cannot be read, or images, classes and weights do not fit together.
    """
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
    logits, labels, class_names, notes = outputs(config, state, images, store, tta=tta)
    scores, report = score(logits, labels), class_report(logits, labels, class_names)
    return Scored(f"{what} of {config.data.source}", len(images), scores, report, notes)


def _subject(path: Path) -> tuple[TrialConfig, dict[str, Any] | None]:
    if path.suffix in (".yaml", ".yml"):
        return load_config(path), None
    state = load_checkpoint(path)
    return config_of(state), state


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
