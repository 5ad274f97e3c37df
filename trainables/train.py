"""`python -m trainables.train CONFIG`: one trial again, from its config alone. Needs neither Ray nor MLflow."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from trainables.cli import Plugins, run_verb
from trainables.config import (
    ConfigError,
    TrialConfig,
    checksum,
    load_config,
    load_yaml,
    merge,
    parse_config,
    with_source,
)
from trainables.config.plausibility import implausible
from trainables.config.plugins import allow_plugins
from trainables.data.store import PreparedData, default_cache, described, prepare, request
from trainables.result import EpochResult, Trainable, final_result
from trainables.trainable import build_trainable

__all__ = ["rerun", "train"]

SILENCE = 10.0  # seconds
SHOWN = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
# What a clock measured differs from run to run; everything else must not.
MEASURED = ("seconds", "images_per_second")


def rerun(
    config: TrialConfig, *, stop_epoch: int | None, cache: Path, checkpoint: Path | None = None, label: str = ""
) -> list[EpochResult]:
    """Train `config` from scratch, up to `stop_epoch` if given; prints a line per epoch and returns every result.

    Raises:
        ConfigError: if images or weights cannot be had, or a batch does not fit into memory.
    """
    from trainables.checkpoints.checkpoint import save_checkpoint  # these load torch
    from trainables.training.execution import configured
    from trainables.training.memory import translate_oom

    results = []
    with translate_oom(config), configured(config.execution):
        trainable = build_trainable(config, cache)
        for result in _results(trainable, label):
            results.append(result)
            numbers = "  ".join(f"{name} {result.metrics()[name]:.4f}" for name in SHOWN)
            epoch = f"{label}epoch {result.epoch:>3}/{config.epochs}"
            collapsed = f"  collapsed ({result.collapsed})" if result.collapsed else ""
            typer.echo(f"{epoch}  {numbers}  lr {result.lr:.2e}  {result.seconds:.1f} s{collapsed}")
            if result.epoch == stop_epoch:
                break
    if (final := final_result(results)) is not result:
        typer.echo(f"{label}the weights are those of epoch {final.epoch}, which has the lowest val_loss")
    if checkpoint is not None:
        save_checkpoint(trainable.state_dict(), checkpoint)
        typer.echo(f"checkpoint: {checkpoint}")
    return results


def _results(trainable: Trainable, label: str) -> Iterator[EpochResult]:
    """Those of `trainable`; where the first one takes long, a line says how long."""
    from trainables.training.loop import Run

    began, warm, said = time.monotonic(), 0.0, not isinstance(trainable, Run)
    for steps, result in enumerate(trainable.steps()):
        now = time.monotonic()
        if result is not None:
            said = True
            yield result
        elif not steps:
            warm = now  # the first step loads and compiles
        elif not said and now - began > SILENCE and isinstance(trainable, Run):
            said = True
            whole = steps + 1 + trainable.steps_left
            typer.echo(f"{label}an epoch takes about {(now - warm) / steps * whole:.0f} s")


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
        bool, typer.Option("--full", help="train to the last epoch where the trial had been stopped")
    ] = False,
    checkpoint: Annotated[Path | None, typer.Option(help="write the trained weights here")] = None,
    cache: Annotated[Path | None, typer.Option(help="folder of the prepared images")] = None,
    plugin: Plugins = None,
) -> None:
    """Train one config again and say whether it gives the recorded numbers; one that was edited, as it is written."""
    from trainables.training.execution import configure_process  # loads torch

    allow_plugins(plugin or ())
    chosen = load_config(config)
    tree = load_yaml(config)
    edited = _is_edited(tree, chosen.epochs)
    record = _Record() if edited else _record(tree, chosen.epochs)
    changes: dict[str, Any] = {}
    if seed is not None:
        changes["seed"] = seed
    if device is not None:
        changes["execution"] = {"device": device}
    if changes:
        chosen = parse_config(merge(chosen.model_dump(mode="json"), changes))
    if data is not None:
        chosen = with_source(chosen, data)
    stop_epoch = None if full else record.stop_epoch
    configure_process(chosen.execution)
    folder = cache or default_cache()
    if chosen.model.is_network:
        store = prepare(chosen.data, folder)
        for line in (*described({request(chosen.data): store}), *_weights(chosen, store, folder)):
            typer.echo(line)
        if store.image_size is not None and (coarse := _coarse(chosen, store.image_size)):
            typer.echo(f"warning: {coarse}")
    for line in implausible(chosen):
        typer.echo(f"warning: {line}")
    if edited:
        typer.echo(f"{config} was edited since the search wrote it: trained as written, not compared with the record")
    elif stop_epoch is not None and stop_epoch < chosen.epochs:
        typer.echo(f"ends after epoch {stop_epoch} of {chosen.epochs}, as the trial did; --full trains them all")
    results = rerun(chosen, stop_epoch=stop_epoch, cache=folder, checkpoint=checkpoint)
    is_changed = bool(changes) or data is not None
    if not is_changed and record.metrics is not None and len(results) == (record.stop_epoch or len(results)):
        typer.echo(compare_with_record(results[(record.best_epoch or 0) - 1], record.metrics))


def _weights(config: TrialConfig, store: PreparedData, cache: Path) -> tuple[str, ...]:
    """What is loaded of pretrained weights, in two lines."""
    if config.model.pretrained == "none":
        return ()
    from trainables.data.images import load_splits  # loads torch
    from trainables.training.weights import weights_lines

    return weights_lines(config, load_splits(config.data, cache, store).train, store)


def _coarse(config: TrialConfig, size: tuple[int, int]) -> str | None:
    from trainables.models.cost import coarse_stem  # loads torch

    return coarse_stem(config, size)


def _is_edited(tree: Any, epochs: int) -> bool:
    """Whether the config of a best_config.yaml is not that of its record: another checksum, or another length."""
    provenance = tree.get("provenance")
    if not isinstance(provenance, dict):
        return False
    if "config_checksum" in provenance:
        return bool(provenance["config_checksum"] != checksum(tree.get("config")))
    # Older files have no checksum; but a trial that trained all its epochs says how many these were.
    return provenance.get("stop_reason") == "epochs" and provenance.get("stop_epoch") != epochs


class _Record(NamedTuple):
    """What a best_config.yaml says of its trial: where it stopped, and the numbers of its best epoch (its last one)."""

    stop_epoch: int | None = None
    best_epoch: int | None = None
    metrics: dict[str, float] | None = None


def _record(tree: Any, epochs: int) -> _Record:
    """The record in a best_config.yaml.

    Raises:
        ConfigError: if an epoch is not one of the config's, or a metric is not a number.
    """
    provenance = tree.get("provenance")
    if not isinstance(provenance, dict):
        return _Record()
    stop_epoch = _epoch(provenance, "stop_epoch", epochs, "config.epochs")
    best_epoch = _epoch(provenance, "best_epoch", stop_epoch or epochs, "where the trial stopped")
    recorded = provenance.get("metrics")
    if not isinstance(recorded, dict):
        return _Record(stop_epoch)
    for name, value in recorded.items():
        if type(value) not in (int, float) or (type(value) is int and abs(value) >= 2**63):
            raise ConfigError.single(f"provenance.metrics.{name}", value, "must be a number")
    return _Record(stop_epoch, best_epoch, {str(name): float(value) for name, value in recorded.items()})


def _epoch(provenance: dict[str, Any], key: str, most: int, which: str) -> int | None:
    epoch = provenance.get(key)
    if epoch is not None and (type(epoch) is not int or not 1 <= epoch <= most):
        rule = f"must be a whole number from 1 to {most} ({which}), or null"
        raise ConfigError.single(f"provenance.{key}", epoch, rule)
    return epoch


if __name__ == "__main__":
    run_verb(train)
