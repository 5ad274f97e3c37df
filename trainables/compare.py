"""`python -m trainables.compare A B C --seeds 3`: is another config better than A, or was it luck?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import active_children, get_context
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated

import typer
from scipy.stats import t as student_t

from trainables.cli import Plugins, run_verb
from trainables.config import ConfigError, TrialConfig, load_config
from trainables.config.plugins import allow_plugins
from trainables.data.store import default_cache
from trainables.result import DIRECTIONS, METRICS, final_result
from trainables.train import rerun

__all__ = ["compare", "interval", "seeds_needed", "verdict"]

# Away from the seeds a search uses: the winner was chosen for its luck with that one, among other things.
FIRST_SEED = 1000
RISK = 0.05  # that any of the differences is found where there is none
MOST_SEEDS = 1000  # beyond which nobody would train


def interval(differences: Sequence[float], risk: float = RISK) -> tuple[float, float, float]:
    """Mean of paired differences, and the ends of its interval by Student's t, which misses the true mean with `risk`.

    Raises:
        ValueError: with fewer than two of them.
    """
    if len(differences) < 2:
        raise ValueError("an interval needs at least two differences")
    mean, half = fmean(differences), _half_width(stdev(differences), len(differences), risk)
    return mean, mean - half, mean + half


def seeds_needed(differences: Sequence[float], risk: float = RISK) -> int | None:
    """With how many seeds the interval would leave out 0, if mean and spread stay; None if with no number in reach."""
    mean, spread = abs(fmean(differences)), stdev(differences)
    return next((n for n in range(2, MOST_SEEDS + 1) if _half_width(spread, n, risk) < mean), None)


def _half_width(spread: float, seeds: int, risk: float) -> float:
    return float(student_t.ppf(1 - risk / 2, seeds - 1)) * spread / math.sqrt(seeds)


def verdict(name: str, reference: str, differences: Sequence[float], metric: str, risk: float = RISK) -> str:
    """One line: whether one config is better than the other, by how much, or how many seeds would tell.

    Args:
        name, reference: of the two configs.
        differences: `name`'s metric less `reference`'s, for each seed.
        metric: says which side is better.
        risk: of a wrong answer where there is no difference.
    """
    mean, low, high = interval(differences, risk)
    if low <= 0 <= high:
        found = f"{mean:+z.4f} [{low:+z.4f}, {high:+z.4f}]"
        if not any(differences):
            return f"{name} and {reference} have the same {metric} with every seed"
        needed = seeds_needed(differences, risk)
        more = f"more than {MOST_SEEDS}" if needed is None else f"about {needed}"
        seeds = len(differences)
        return f"{name}: no difference from {reference} can be told with {seeds} seeds, {found}; {more} would be needed"
    higher = {"max": "better", "min": "worse"}.get(DIRECTIONS.get(metric, ""), "higher")
    lower = {"better": "worse", "worse": "better"}.get(higher, "lower")
    by, word = sorted((abs(low), abs(high))), lower if mean < 0 else higher
    return f"{name} is {word} than {reference} by {abs(mean):.4f} [{by[0]:.4f}, {by[1]:.4f}]: decided"


def _final(config: TrialConfig, label: str, cache: Path, metric: str) -> float:
    """One training from scratch; on its own in a worker process, so that several can share a machine."""
    return final_result(rerun(config, stop_epoch=None, cache=cache, label=label)).metrics()[metric]


def _finals(
    configs: Mapping[Path, TrialConfig], names: Mapping[Path, str], seeds: int,
    train: Callable[[TrialConfig, str], float], jobs: int, plugins: Sequence[str],
) -> dict[Path, list[float]]:  # fmt: skip
    """What each config ends at, by seed; `train` is given a config and what its lines begin with."""
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=allow_plugins, initargs=(plugins,)) as pool:
        try:
            # Seed by seed, so that an early look compares what is comparable.
            futures = {
                (path, seed): pool.submit(
                    train, config.model_copy(update={"seed": seed}), f"{names[path]}, seed {seed}: "
                )
                for seed in range(FIRST_SEED, FIRST_SEED + seeds)
                for path, config in configs.items()
            }
            return {path: [futures[path, seed].result() for p, seed in futures if p == path] for path in configs}
        except BaseException:  # a signal to this process alone: the pool would train to the end of all
            for worker in active_children():
                worker.terminate()
            raise


def compare(
    configs: Annotated[list[Path], typer.Argument(help="two or more configs as YAML")],
    seeds: Annotated[int, typer.Option(min=2, help="fresh seeds, the same ones for each config")] = 3,
    against: Annotated[Path | None, typer.Option(help="the config to compare with [default: the first]")] = None,
    metric: Annotated[
        str, typer.Option(help="which metric of the last epoch, with patience of the best")
    ] = "val_accuracy",
    jobs: Annotated[int, typer.Option(min=1, help="trainings at once")] = 1,
    cache: Annotated[Path | None, typer.Option(help="folder of the prepared images")] = None,
    plugin: Plugins = None,
) -> None:
    """Retrain configs with the same fresh seeds and say which are better than the first on validation."""
    plugins = plugin or ()
    allow_plugins(plugins)
    if metric not in METRICS:
        raise ConfigError.single("--metric", metric, f"must be one of {', '.join(METRICS)}")
    reference = configs[0] if against is None else against
    paths = list(dict.fromkeys([reference, *configs]))
    if len(paths) < 2 or len(set(configs)) < len(configs):
        raise ConfigError.single("CONFIGS", " ".join(map(str, configs)), "must be at least two different files")
    loaded = {path: load_config(path) for path in paths}
    names = {path: path.name if [p.name for p in paths].count(path.name) == 1 else str(path) for path in paths}
    finals = _finals(
        loaded, names, seeds, partial(_final, cache=cache or default_cache(), metric=metric), jobs, plugins
    )
    for path, values in finals.items():
        typer.echo(f"{names[path]}: {metric} {', '.join(f'{v:.4f}' for v in values)}; mean {fmean(values):.4f}")
    others = paths[1:]
    for path in others:
        differences = [one - other for one, other in zip(finals[path], finals[reference], strict=True)]
        typer.echo(verdict(names[path], names[reference], differences, metric, RISK / len(others)))
    corrected = f", corrected for {len(others)} comparisons" if len(others) > 1 else ""
    typer.echo(f"(95 % intervals of the differences{corrected}; paired by seed, Student's t)")


if __name__ == "__main__":
    run_verb(compare)
