"""Does it search better? Every searcher and scheduler of ours against Ray's own, in simulated time on the same curves.

    python -m benchmarks.search_quality [--seeds 100] [--processes 2] [--family late_bloomers] [--out results.json]

Run it in the root of the repository. Each search has WORKERS simulated workers and, in the first comparison, simulated
time for FULL_TRAININGS trainings of a mean configuration on each; in the second TRIALS trials. Prints tables in
Markdown, asserts nothing. docs/search_quality.md explains the method and holds the results of 100 seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from benchmarks.curves import IN_ORDER, SYNTHETIC, Family, Synthetic
from benchmarks.ray_search import RaySearch
from benchmarks.recorded import Recorded
from benchmarks.simulation import OurSearch, Outcome, System, simulate
from search.algorithms.schedulers.halving import rung_levels
from search.algorithms.searchers.optuna_tpe import tpe_sampler
from search.algorithms.searchers.random import RandomSearcher
from search.study.parse import load_study
from spaces import Choice, Domain, Float, Int, Scalar, walk

__all__ = ["BUDGETS", "SYSTEMS", "Challenge", "challenge", "families", "interval"]

WORKERS = 4
FULL_TRAININGS = 3  # per worker
TRIALS = 80
DRAWS = 10_000  # random configurations that a family's target and mean epoch are taken from
RAY = "Ray: OptunaSearch + ASHA"
BUDGETS = ("time", "trials")
DIGITS = Path(__file__).with_name("curves_digits_resnet8.parquet")


def _ours(searcher: str, scheduler: str) -> Callable[[Family, int, int | None], System]:
    return lambda family, seed, trials: OurSearch.build(family, searcher, scheduler, seed, trials)


SYSTEMS: dict[str, Callable[[Family, int, int | None], System]] = {
    "random + asha": _ours("random", "asha"),
    "random + asha_promote": _ours("random", "asha_promote"),
    "tpe + asha": _ours("tpe", "asha"),
    "tpe + asha_promote": _ours("tpe", "asha_promote"),
    RAY: lambda family, seed, trials: RaySearch(family, seed, trials),
    "Ray, our TPE settings": lambda family, seed, trials: RaySearch(family, seed, trials, tpe_sampler(seed)),
}


def families() -> Iterator[Family]:
    """Every family, the recorded one last."""
    yield from SYNTHETIC
    yield IN_ORDER
    yield Recorded(DIGITS, load_study("digits_resnet8").parsed_space, "recorded_digits")


@dataclass(frozen=True)
class Challenge:
    """A family with what a search on it is measured by.

    `seconds` is the time budget. `target` is the 95th percentile of the final accuracy of random configurations,
    `optimum` the best of all. `correlations` is the rank correlation of each rung's values with the final accuracy.
    """

    family: Family
    seconds: float
    target: float
    optimum: float
    correlations: Mapping[int, float]


def challenge(family: Family, draws: int = DRAWS) -> Challenge:
    """Measure a family by random configurations; the recorded one by all that were recorded."""
    if isinstance(family, Recorded):
        points: list[dict[str, Scalar]] = family.points
    else:
        searcher = RandomSearcher(family.space, seed=2**31)
        points = [searcher.suggest(number).values for number in range(draws)]
    curves = [family.curve(point, 0) for point in points]
    final = np.array([curve.final for curve in curves])
    optimum = float(final.max())
    if isinstance(family, Synthetic):
        optimum = max(_climb(family, points[i]) for i in np.argsort(-final)[:20])
    correlations = {
        rung: float(spearmanr([curve.reported[rung - 1] for curve in curves], final).statistic)
        for rung in rung_levels(1, 3, family.epochs)
    }
    mean_epoch = float(np.mean([curve.seconds for curve in curves]))
    seconds = FULL_TRAININGS * family.epochs * mean_epoch
    return Challenge(family, seconds, float(np.quantile(final, 0.95)), optimum, correlations)


def _climb(family: Synthetic, start: Mapping[str, Scalar], steps: int = 500) -> float:
    """The best final accuracy that small changes of a point's numbers lead to, divergence left aside."""
    draws = np.random.default_rng(0)

    def final(values: Mapping[str, Scalar]) -> float:
        return float(family.shape({key.rpartition("/")[2]: value for key, value in values.items()}).clean[-1])

    def near(values: Mapping[str, Scalar]) -> dict[str, Scalar]:
        return walk(family.space, lambda key, domain: _nudged(domain, values[key], draws)).values

    best, reached = dict(start), final(start)
    for _ in range(steps):
        candidate = near(best)
        if (value := final(candidate)) > reached:
            best, reached = candidate, value
    return reached


def _nudged(domain: Domain, value: Scalar, draws: np.random.Generator) -> Scalar:
    if isinstance(domain, Choice) or (isinstance(domain, Float | Int) and domain.step is not None):
        return value
    low, high = (math.log(domain.low), math.log(domain.high)) if domain.log else (domain.low, domain.high)
    at = math.log(float(value)) if domain.log else float(value)  # type: ignore[arg-type]
    moved = min(max(at + float(draws.normal(0, 0.03)) * (high - low), low), high)
    return min(max(math.exp(moved) if domain.log else moved, domain.low), domain.high)


@cache
def _challenge(name: str) -> Challenge:
    return challenge(next(family for family in families() if family.name == name))


Task = tuple[str, str, str, int]  # family, budget, system, seed


def _run(task: Task) -> tuple[Task, dict[str, float]]:
    name, budget, system, seed = task
    given = _challenge(name)
    trials, seconds = (None, given.seconds) if budget == "time" else (TRIALS, math.inf)
    search = SYSTEMS[system](given.family, seed, trials)
    outcome = simulate(given.family, search, seed=seed, workers=WORKERS, seconds=seconds)
    return task, _measured(outcome, given)


def _measured(outcome: Outcome, given: Challenge) -> dict[str, float]:
    reached = outcome.time_to(given.target)
    return {
        "regret": given.optimum - outcome.best, "seconds_to_target": min(reached, given.seconds),
        "reached": float(reached <= given.seconds), "epochs": outcome.epochs, "trials": outcome.trials,
        "finished": outcome.finished, "seconds": outcome.seconds,
    }  # fmt: skip


def interval(values: np.ndarray, resamples: int = 10_000) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean: percentiles over resampled seeds."""
    draws = np.random.default_rng(0)
    means = values[draws.integers(len(values), size=(resamples, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _cell(values: np.ndarray, digits: int, scale: float = 1.0) -> str:
    low, high = interval(values * scale)
    return f"{values.mean() * scale:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


Measured = Mapping[str, Mapping[str, np.ndarray]]  # by system and quantity, one value a seed


def _table(measured: Measured, budget: str) -> Iterator[str]:
    timed = budget == "time"
    columns = ["search", "regret, points", "against Ray"]
    columns += ["time to target, s", "against Ray", "reached"] if timed else ["time used, s", "against Ray"]
    columns += ["epochs", "trials", "to the end"]
    yield "| " + " | ".join(columns) + " |"
    yield "| --- |" + " ---: |" * (len(columns) - 1)
    spent = "seconds_to_target" if timed else "seconds"
    ray = measured.get(RAY)
    for system, row in measured.items():
        against = ["", ""]
        if ray is not None and system != RAY:
            against = [_cell(row["regret"] - ray["regret"], 2, 100), _cell(row[spent] - ray[spent], 1)]
        cells = [system, _cell(row["regret"], 2, 100), against[0], _cell(row[spent], 1), against[1]]
        cells += [f"{row['reached'].mean():.0%}"] if timed else []
        cells += [f"{row[name].mean():.0f}" for name in ("epochs", "trials")] + [f"{row['finished'].mean():.1f}"]
        yield "| " + " | ".join(cells) + " |"


def _print(results: Mapping[Task, Mapping[str, float]], names: list[str], budgets: list[str], seeds: int) -> None:
    print("| family | time budget, s | target | best | rank correlation with the end |")
    print("| --- | ---: | ---: | ---: | --- |")
    for name in names:
        given = _challenge(name)
        ranks = ", ".join(f"epoch {rung}: {value:.2f}" for rung, value in given.correlations.items())
        print(f"| {name} | {given.seconds:.0f} | {given.target:.4f} | {given.optimum:.4f} | {ranks} |")
    for budget in budgets:
        for name in names:
            print(f"\n### {name}, the same {budget}\n")
            measured: dict[str, dict[str, np.ndarray]] = {}
            for system in SYSTEMS:
                rows = [results[name, budget, system, seed] for seed in range(seeds)]
                measured[system] = {key: np.array([row[key] for row in rows]) for key in rows[0]}
            print("\n".join(_table(measured, budget)))


def main() -> None:
    """Run every search that was asked for, and print the tables."""
    every = [family.name for family in families()]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--family", action="append", choices=every)
    parser.add_argument("--budget", action="append", choices=BUDGETS)
    parser.add_argument("--out", type=Path, help="write what each search found, as JSON")
    arguments = parser.parse_args()
    names, budgets = arguments.family or every, arguments.budget or list(BUDGETS)
    tasks = [
        (name, budget, system, seed)
        for seed in range(arguments.seeds) for name in names for budget in budgets for system in SYSTEMS
    ]  # fmt: skip
    started = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        results = dict(pool.imap_unordered(_run, tasks, chunksize=4))
    if arguments.out:
        arguments.out.write_text(json.dumps([[*task, found] for task, found in sorted(results.items())]))
    _print(results, names, budgets, arguments.seeds)
    print(f"\n{len(tasks)} searches in {time.monotonic() - started:.0f} s with {arguments.processes} processes")


if __name__ == "__main__":
    main()
