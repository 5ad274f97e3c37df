"""`python -m trainables.evaluate CONFIG_OR_CHECKPOINT --data SRC --split val|test`: a score that can be trusted.

The test split is opened here and nowhere in the search: use it once, after the choice is made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from scipy.stats import binomtest

from trainables.checkpoints.checkpoint import config_of, load_checkpoint
from trainables.checkpoints.resume import translate_mismatch
from trainables.cli import run_verb
from trainables.config import (
    ConfigError,
    Normalization,
    TrialConfig,
    load_config,
    merge,
    parse_config,
    validate,
)
from trainables.data.held_out import open_test
from trainables.data.images import Images, load_splits
from trainables.data.store import PreparedData, default_cache, prepare
from trainables.models import build_model
from trainables.training.evaluation import Scores, score
from trainables.training.execution import memory_format, resolve_device
from trainables.training.feed import Feed
from trainables.training.inference import Inference
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
        raise ConfigError.single("model.kind", config.model.kind, "must be a network: this one has no weights")
    if state is None and getattr(config.model, "pretrained", "none") == "none":
        rule = "must name weights when a config is evaluated; or give a checkpoint (trainables.train --checkpoint FILE)"
        raise ConfigError.single("model.pretrained", "none", rule)
    device = resolve_device(config.execution.device)
    if state is None:
        model = build_model(config.model, store.num_classes)
        normalization = normalization_for(config, store.mean, store.std)
    else:
        untrained = config.model.model_copy(update={"pretrained": "none", "frozen_stages": 0})
        with translate_mismatch():
            classes = len(state["class_names"])
            if classes != store.num_classes:
                raise ConfigError.single("classes", store.num_classes, f"must be the checkpoint's {classes}")
            model = build_model(untrained, store.num_classes)
            model.load_state_dict(state["model"] if state["ema"] is None else state["ema"])
            normalization = validate(Normalization, state["normalization"])
    model = model.to(device=device, memory_format=memory_format(config.execution))  # type: ignore[call-overload]
    inference, feed = Inference(normalization, config.data.resolution, config.execution, device), Feed(images, device)
    return score(inference.logits(model, feed), feed.labels)


def evaluate(
    subject: Annotated[Path, typer.Argument(help="a checkpoint, or a config whose model has pretrained weights")],
    data: Annotated[str | None, typer.Option(help="images to score on; default: the config's own source")] = None,
    split: Annotated[Literal["val", "test"], typer.Option(help="which split")] = "val",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    cache: Annotated[Path | None, typer.Option(help="folder of the prepared images")] = None,
) -> None:
    """Score a trained model on the validation or the held-out test split."""
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
