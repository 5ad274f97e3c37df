"""`python -m trainables.evaluate CONFIG_OR_CHECKPOINT --data SRC --split val|test`: a score that can be trusted.

The test split is opened here and nowhere in the search: use it once, after the choice is made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from scipy.stats import binomtest

from trainables.augment.batch import Augmentation
from trainables.checkpoints.checkpoint import config_of, load_checkpoint
from trainables.checkpoints.saved_state import check_keys, refusal
from trainables.checkpoints.saved_tensors import check_tensors
from trainables.cli import Plugins, run_verb
from trainables.config import (
    ConfigError,
    Normalization,
    TrialConfig,
    load_config,
    merge,
    parse_config,
    validate,
)
from trainables.config.plugins import allow_plugins
from trainables.data.held_out import open_test
from trainables.data.images import Images, load_splits
from trainables.data.store import PreparedData, default_cache, prepare
from trainables.models import build_model
from trainables.training.evaluation import Scores, predict, score
from trainables.training.execution import autocast, memory_format, resolve_device
from trainables.training.feed import Feed, evaluation_batch, resize
from trainables.training.loop import normalization_for

__all__ = ["evaluate", "score_images"]


def _subject(path: Path) -> tuple[TrialConfig, dict[str, Any] | None]:
    if path.suffix in (".yaml", ".yml"):
        return load_config(path), None
    state = load_checkpoint(path)
    return config_of(state), state


def score_images(config: TrialConfig, state: dict[str, Any] | None, images: Images, store: PreparedData) -> Scores:
    """Score a checkpoint's weights (EMA's when it has them), or without one the config's pretrained weights.

    Raises:
        ConfigError: if there are no trained weights, or they do not fit the model or the number of classes.
    """
    if not config.model.is_network:
        raise ConfigError.single("model.kind", config.model.kind, "must be a network: a synthetic curve has no weights")
    if state is None and config.model.pretrained == "none":
        rule = "must name weights when a config is evaluated; or give a checkpoint (trainables.train --checkpoint FILE)"
        raise ConfigError.single("model.pretrained", "none", rule)
    device = resolve_device(config.execution.device)
    if state is None:
        model = build_model(config.model, store.num_classes)
        normalization = normalization_for(config, store.mean, store.std)
    else:
        state = check_keys(state, ["class_names", "model", "ema", "normalization"], "")
        if type(state["class_names"]) is not list:
            raise refusal("class_names", state["class_names"], "must be a list")
        if len(state["class_names"]) != store.num_classes:
            raise ConfigError.single(
                "classes", store.num_classes, f"must be the checkpoint's {len(state['class_names'])}"
            )
        untrained = config.model.model_copy(update={"pretrained": "none", "frozen_stages": 0})
        model = build_model(untrained, store.num_classes)
        kept = "model" if state["ema"] is None else "ema"
        model.load_state_dict(check_tensors(state[kept], model.state_dict(), kept))
        normalization = validate(Normalization, state["normalization"])
    layout = memory_format(config.execution)
    model = model.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    augmentation = Augmentation(config.augment, normalization.mean, normalization.std, store.num_classes)
    feed = Feed(images, device)

    def load(indices: torch.Tensor) -> torch.Tensor:
        images = augmentation.normalize(feed.pixels(indices))
        return resize(images, config.data.resolution).contiguous(memory_format=layout)

    side = config.data.resolution or max(images.size)
    with autocast(config.execution, device):
        return score(predict(model, load, len(feed), evaluation_batch(side, device)), feed.labels)


def evaluate(
    subject: Annotated[Path, typer.Argument(help="a checkpoint, or a config whose model has pretrained weights")],
    data: Annotated[str | None, typer.Option(help="images to score on; default: the config's own source")] = None,
    split: Annotated[Literal["val", "test"], typer.Option(help="which split")] = "val",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    cache: Annotated[Path | None, typer.Option(help="folder of the prepared images")] = None,
    plugin: Plugins = None,
) -> None:
    """Score a trained model on the validation or the held-out test split."""
    allow_plugins(plugin or ())
    config, state = _subject(subject)
    changes: dict[str, Any] = {"execution": {"device": device}}
    if data is not None:
        changes["data"] = {"source": data}
    config = parse_config(merge(config.model_dump(mode="json"), changes))
    folder = cache or default_cache()
    images = open_test(config.data, folder) if split == "test" else load_splits(config.data, folder).val
    scores = score_images(config, state, images, prepare(config.data, folder))
    interval = binomtest(round(scores.accuracy * len(images)), len(images)).proportion_ci(method="wilson")
    typer.echo(f"{split} split of {config.data.source}: {len(images):,} images")
    typer.echo(f"accuracy   {scores.accuracy:.4f}  (95 % interval {interval.low:.4f} to {interval.high:.4f}, Wilson)")
    typer.echo(f"loss       {scores.loss:.4f}")
    typer.echo(f"precision  {scores.precision:.4f}  recall {scores.recall:.4f}  F1 {scores.f1:.4f}  (macro averages)")


if __name__ == "__main__":
    run_verb(evaluate)
