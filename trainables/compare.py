"""`python -m trainables.compare A B --seeds 3`: is recipe A better than B, or was it luck?"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import typer
from scipy.stats import ttest_ind

from trainables.cli import Plugins, run_verb
from trainables.config import ConfigError, TrialConfig, load_config
from trainables.config.plugins import allow_plugins
from trainables.data.store import default_cache
from trainables.result import METRICS
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


def _final(config: TrialConfig, cache: Path, metric: str, label: str) -> float:
    """One training from scratch; on its own in a worker process, so that several can share a machine."""
    return rerun(config, stop_epoch=None, cache=cache, label=label).metrics()[metric]


def compare(
    a: Annotated[Path, typer.Argument(help="config A as YAML")],
    b: Annotated[Path, typer.Argument(help="config B as YAML")],
    seeds: Annotated[int, typer.Option(min=2, help="fresh seeds for each")] = 3,
    metric: Annotated[str, typer.Option(help="which metric of the last epoch")] = "val_accuracy",
    jobs: Annotated[int, typer.Option(min=1, help="trainings at once")] = 1,
    cache: Annotated[Path | None, typer.Option(help="folder of the prepared images")] = None,
    plugin: Plugins = None,
) -> None:
    """Retrain two configs with the same fresh seeds and say by how much A beats B on validation."""
    plugins = plugin or ()
    allow_plugins(plugins)
    if metric not in METRICS:
        raise ConfigError.single("--metric", metric, f"must be one of {', '.join(METRICS)}")
    configs = {path: load_config(path) for path in (a, b)}
    folder = cache or default_cache()
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=allow_plugins, initargs=(plugins,)) as pool:
        futures = {
            path: [
                pool.submit(
                    _final, config.model_copy(update={"seed": seed}), folder, metric, f"{path.name}, seed {seed}: "
                )
                for seed in range(FIRST_SEED, FIRST_SEED + seeds)
            ]
            for path, config in configs.items()
        }
        values = [[future.result() for future in futures[path]] for path in (a, b)]
    for path, finals in zip((a, b), values, strict=True):
        typer.echo(f"{path}: {metric} " + ", ".join(f"{v:.4f}" for v in finals) + f"; mean {sum(finals) / seeds:.4f}")
    mean, low, high = difference(*values)
    typer.echo(f"A - B = {mean:+.4f}, 95 % interval {low:+.4f} to {high:+.4f} (Welch, {seeds} seeds each)")


if __name__ == "__main__":
    run_verb(compare)
