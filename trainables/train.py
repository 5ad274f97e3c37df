"""`python -m trainables.train CONFIG`: one trial again, from its config alone. Needs neither Ray nor MLflow."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from trainables.build import build_trainable
from trainables.checkpoint import save_checkpoint
from trainables.cli import run_verb
from trainables.config import TrialConfig, load_config, load_yaml, merge, parse_config
from trainables.result import EpochResult
from trainables.store import default_cache

__all__ = ["rerun", "train"]

SHOWN = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
# What a clock measured differs from run to run; everything else must not.
MEASURED = ("seconds", "images_per_second")


def rerun(
    config: TrialConfig, *, stop_epoch: int | None, cache: Path, checkpoint: Path | None = None, label: str = ""
) -> EpochResult:
    """Train `config` from scratch, up to `stop_epoch` if given; tells a line an epoch and returns the last result."""
    trainable = build_trainable(config, cache)
    for result in trainable.epochs():
        numbers = "  ".join(f"{name} {result.metrics()[name]:.4f}" for name in SHOWN)
        typer.echo(
            f"{label}epoch {result.epoch:>3}/{config.epochs}  {numbers}  lr {result.lr:.2e}  {result.seconds:.1f} s"
        )
        if result.epoch == stop_epoch:
            break
    if checkpoint is not None:
        save_checkpoint(trainable.state_dict(), checkpoint)
        typer.echo(f"checkpoint: {checkpoint}")
    return result


def compare_with_record(result: EpochResult, recorded: dict[str, float]) -> str:
    """One line: whether the numbers equal the recorded ones, or by how much they differ."""
    metrics = result.metrics()
    differences = {k: metrics[k] - v for k, v in recorded.items() if k in metrics and k not in MEASURED}
    off = {
        name: difference
        for name, difference in differences.items()
        if difference and not (math.isnan(metrics[name]) and math.isnan(recorded[name]))
    }
    if not off:
        return (
            f"reproduced: all {len(differences)} recorded metrics of epoch {result.epoch} are equal to the last digit"
        )
    worst = ", ".join(f"{name} {difference:+.2e}" for name, difference in sorted(off.items()))
    return (
        f"differs from the record of epoch {result.epoch}: {worst}\n"
        "(exact on the CPU with the same versions and threads; on a GPU the last digits vary)"
    )


def train(
    config: Annotated[Path, typer.Argument(help="best_config.yaml, or any TrialConfig as YAML")],
    data: Annotated[str | None, typer.Option(help="other images: digits, parquet:PATH, imagefolder:PATH, ...")] = None,
    seed: Annotated[int | None, typer.Option(help="another seed")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda instead of the recorded device")] = None,
    full: Annotated[
        bool, typer.Option("--full", help="go on to the last epoch where the trial had been stopped")
    ] = False,
    checkpoint: Annotated[Path | None, typer.Option(help="write the trained weights here")] = None,
    cache: Annotated[Path | None, typer.Option(help="folder of the prepared images")] = None,
) -> None:
    """Train one config again and say whether it gives the recorded numbers."""
    chosen = load_config(config)
    provenance: dict[str, Any] = {}
    tree = load_yaml(config)
    if isinstance(tree.get("provenance"), dict):
        provenance = tree["provenance"]
    changes: dict[str, Any] = {}
    if data is not None:
        changes["data"] = {"source": data}
    if seed is not None:
        changes["seed"] = seed
    if device is not None:
        changes["execution"] = {"device": device}
    if changes:
        chosen = parse_config(merge(chosen.model_dump(mode="json"), changes))
    stop_epoch = None if full else provenance.get("stop_epoch")
    result = rerun(chosen, stop_epoch=stop_epoch, cache=cache or default_cache(), checkpoint=checkpoint)
    recorded = provenance.get("metrics")
    if not changes and isinstance(recorded, dict) and result.epoch == provenance.get("stop_epoch", result.epoch):
        typer.echo(compare_with_record(result, recorded))


if __name__ == "__main__":
    run_verb(train)
