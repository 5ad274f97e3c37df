"""A subject from what a user has: a checkpoint, weights and a config, or a config alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainables.checkpoints.checkpoint import config_of, load_checkpoint
from trainables.checkpoints.class_names import match_classes
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
from trainables.data.images import load_splits
from trainables.diagnosis.short_runs import GPU_FACTOR
from trainables.diagnosis.subject import Say, Subject
from trainables.models.cost import forward_gflops
from trainables.models.networks import build_network
from trainables.models.pretrained import load_pretrained
from trainables.models.trained import trained_network
from trainables.training.execution import memory_format, not_emulated, resolve_device
from trainables.training.loop import Run
from trainables.training.weights import normalization_for

__all__ = ["config_at", "opened"]

# What the doctor's own training of a config may take, in GFLOP (multiply-adds): about half a minute of one core.
TRAIN_GFLOP = 1500.0


def opened(
    path: Path, data: str | None, device: str, cache: Path, say: Say, history: Sequence[Mapping[str, float]] = ()
) -> Subject:  # fmt: skip
    """The network of a checkpoint, or of a config: its weights, or what a short training makes of it.

    Args:
        path: a checkpoint, or a config as YAML.
        data: other images than the config's.
        device: auto, cpu or cuda.
        cache: of the prepared images.
        say: is told what is being done.
        history: the metrics of each epoch, where they are known.

    Raises:
        ConfigError: if it is no network, its classes are not those of the images, or something cannot be read.
    """
    config, state = config_at(path, data, device)
    if state is not None:
        return _of_checkpoint(config, state, cache, history)
    found = _of_weights(config, cache)
    return found or _trained(config, cache, say)


def config_at(path: Path, data: str | None, device: str) -> tuple[TrialConfig, dict[str, Any] | None]:
    """The config of a checkpoint or a YAML file, with these images on this device, and the checkpoint's state.

    Raises:
        ConfigError: if it cannot be read, or is no network's.
    """
    state = None if path.suffix in (".yaml", ".yml") else load_checkpoint(path)
    config = load_config(path) if state is None else config_of(state)
    config = parse_config(merge(config.model_dump(mode="json"), {"execution": {"device": device, "compile": False}}))
    config = config.model_copy(update={"execution": not_emulated(config.execution)})
    if data is not None:
        config = with_source(config, data)
    if not config.model.is_network:
        raise ConfigError.single("model.kind", config.model.kind, "must be a network: a synthetic curve has no weights")
    return config, state


def _of_checkpoint(
    config: TrialConfig, state: dict[str, Any], cache: Path, history: Sequence[Mapping[str, float]]
) -> Subject:  # fmt: skip
    splits = load_splits(config.data, cache)
    with translate_mismatch():
        classes = match_classes(state["class_names"], splits.store.class_names).labels
        model = trained_network(config, state)
        normalization = validate(Normalization, state["normalization"])
        losses = [{"val_loss": float(loss)} for loss in state["val_history"]]
    device = resolve_device(config.execution.device)
    model = model.to(device=device, memory_format=memory_format(config.execution))  # type: ignore[call-overload]
    return Subject(config, model.eval(), splits, normalization, classes, history or losses)


def _of_weights(config: TrialConfig, cache: Path) -> Subject | None:
    """A config's pretrained weights, if they are all of the network; None if its head is new, or there are none."""
    if config.model.pretrained == "none":
        return None
    splits = load_splits(config.data, cache)
    store = splits.store
    model = build_network(config.model, store.num_classes)
    loaded = load_pretrained(model, config.model)
    if loaded.new:
        return None
    classes = tuple(range(store.num_classes))
    if loaded.class_names:
        classes = match_classes(loaded.class_names, store.class_names).labels
    device = resolve_device(config.execution.device)
    model = model.to(device=device, memory_format=memory_format(config.execution))  # type: ignore[call-overload]
    normalization = normalization_for(config, splits.train, store)
    return Subject(config, model.eval(), splits, normalization, classes, recorded=False)


def _trained(config: TrialConfig, cache: Path, say: Say) -> Subject:
    """The network of a config, trained for as many epochs as half a minute allows."""
    splits = load_splits(config.data, cache)
    device = resolve_device(config.execution.device)
    budget = TRAIN_GFLOP * (GPU_FACTOR if device.type == "cuda" else 1)
    side = config.data.resolution or max(splits.train.size)
    epoch = 3 * (forward_gflops(config.model, side) or 1.0) * len(splits.train)
    if epoch > budget:
        few = max(int(budget / epoch * len(splits.train)), min(len(splits.train), 2 * config.batch_size))
        config = parse_config(merge(config.model_dump(mode="json"), {"data": {"train_samples": few}}))
        splits = load_splits(config.data, cache, splits.store)
    epochs = int(min(config.epochs, max(budget // epoch, 1)))
    shortened = epochs < config.epochs or epoch > budget
    config = parse_config(merge(config.model_dump(mode="json"), {"epochs": epochs}))
    run = Run(config, splits)
    history = []
    for result in run.epochs():
        history.append(result.metrics())
        say(f"training epoch {result.epoch} of {epochs}: val_accuracy {result.val_accuracy:.3f}")
    state = run.state_dict()
    normalization = validate(Normalization, state["normalization"])
    classes = tuple(range(splits.store.num_classes))
    return Subject(config, run.model.eval(), splits, normalization, classes, history, shortened=shortened)
