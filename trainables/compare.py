"""`python -m trainables.compare A B --seeds 3`: is recipe A better than B, or was it luck?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from scipy.stats import ttest_ind

from trainables.cli import run_verb
from trainables.config import ConfigError, TrialConfig, load_config
from trainables.result import METRICS
from trainables.store import default_cache
from trainables.train import rerun

__all__ = ["compare", "difference"]

# Away from the seeds a search uses: the winner was chosen for its luck with that one, among other things.
FIRST_SEED = 1000


def difference(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """Mean of a minus mean of b with its 95 % interval (Welch's t, which allows unequal variances).

    Raises:
        ValueError: with fewer than two values on a side.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError("an interval needs at least two values on each side")
    interval = ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    return sum(a) / len(a) - sum(b) / len(b), float(interval.low), float(interval.high)


def compare(
    a: Annotated[Path, typer.Argument(help="config A as YAML")],
    b: Annotated[Path, typer.Argument(help="config B as YAML")],
    seeds: Annotated[int, typer.Option(min=2, help="fresh seeds for each")] = 3,
    metric: Annotated[str, typer.Option(help="which metric of the last epoch")] = "val_accuracy",
    cache: Annotated[Path | None, typer.Option(help="folder of the prepared images")] = None,
) -> None:
    """Retrain two configs with the same fresh seeds and say by how much A beats B on validation."""
    if metric not in METRICS:
        raise ConfigError.single("--metric", metric, f"must be one of {', '.join(METRICS)}")
    values: list[list[float]] = []
    for path in (a, b):
        config = load_config(path)
        finals = []
        for seed in range(FIRST_SEED, FIRST_SEED + seeds):
            typer.echo(f"{path}, seed {seed}")
            seeded = TrialConfig.model_validate({**config.model_dump(), "seed": seed})
            finals.append(rerun(seeded, stop_epoch=None, cache=cache or default_cache()).metrics()[metric])
        values.append(finals)
    for path, finals in zip((a, b), values, strict=True):
        typer.echo(f"{path}: {metric} " + ", ".join(f"{v:.4f}" for v in finals) + f"; mean {sum(finals) / seeds:.4f}")
    mean, low, high = difference(*values)
    typer.echo(f"A - B = {mean:+.4f}, 95 % interval {low:+.4f} to {high:+.4f} (Welch, {seeds} seeds each)")


if __name__ == "__main__":
    run_verb(compare)
