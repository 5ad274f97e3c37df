"""The searches of other projects and ours on recorded curves, in simulated time, for several budgets.

    pip install . -r benchmarks/rivals.txt
    python -m benchmarks.rivals [--seeds 100] [--processes 2] [--curves odd] [--system ...] [--out results.json]

Run it in the root of the repository, in a virtual environment of its own. All searches run on WORKERS simulated
workers, see the same curves, and are judged alike: by the final accuracy of the trial with the best reported one among
those that were trained to the end (or furthest, if none was), under another seed where that was recorded. A budget of n
full trainings is the time in which the workers could train n mean configurations. One search gives the figures of all
budgets, at the times when they end, unless it plans with its budget. Rules and settings are to be chosen on the runs
with even numbers (--curves even), and compared on the odd ones (--curves odd), or on what a forest makes of all of them
(--curves forest, see benchmarks/forest.py). Prints tables in Markdown, asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from optuna.pruners import HyperbandPruner, SuccessiveHalvingPruner
from scipy.stats import spearmanr

from benchmarks.curves import Family
from benchmarks.earlier import EarlierTrial, earlier_study, told
from benchmarks.forest import Forest
from benchmarks.one_epoch import OneEpoch
from benchmarks.optuna_search import OptunaSearch
from benchmarks.ray_search import RaySearch
from benchmarks.recorded import Recorded
from benchmarks.search_quality import RAY, WORKERS, interval
from benchmarks.simulation import GRACE, METRIC, REDUCTION, OurSearch, System, simulate
from search.algorithms.schedulers.halving import rung_levels
from search.study.parse import load_study
from search.study.spec import StudySpec
from spaces import Scalar

__all__ = ["BUDGETS", "SYSTEMS", "Given", "is_installed"]

BUDGETS = (8, 16, 32, 64)  # full trainings, by all workers together
REFERENCE = "ours"
PRIOR = "he2015"  # the recipe that stands for what a user believes


class Given(NamedTuple):
    """What a search is built from: `recipes` are the study's points by name, `earlier` has the best trial first."""

    family: Family
    recipes: Mapping[str, Mapping[str, Scalar]]
    seed: int
    trainings: float
    earlier: list[EarlierTrial]


def _ours(searcher: str = "tpe", scheduler: str = "asha", recipe: str | None = PRIOR) -> Callable[[Given], System]:
    def build(given: Given) -> System:
        recipes = [] if recipe is None else [given.recipes[recipe]]
        return OurSearch.build(given.family, searcher, scheduler, given.seed, recipes=recipes)

    return build


def _after_digits(first: int, is_told: bool = False) -> Callable[[Given], System]:
    """Ours behind an earlier study, whose best are tried first, or of which the searcher is told."""

    def build(given: Given) -> System:
        best = [trial.values for trial in given.earlier[:first]]
        search = OurSearch.build(given.family, "tpe", "asha", given.seed, recipes=[given.recipes[PRIOR]], first=best)
        for record in told(given.earlier, METRIC) if is_told else ():
            search.searcher.tell(record)
        return search

    return build


def _optuna_hyperband(given: Given) -> System:
    return OptunaSearch(given.family, given.seed, HyperbandPruner(GRACE, given.family.epochs, REDUCTION))


def _optuna_halving(given: Given) -> System:
    return OptunaSearch(given.family, given.seed, SuccessiveHalvingPruner(GRACE, REDUCTION))


def _syne_tune(baseline: str) -> Callable[[Given], System]:
    def build(given: Given) -> System:
        from benchmarks.syne_tune_search import SyneTuneSearch  # here, since it may not be installed

        return SyneTuneSearch(given.family, given.seed, baseline)

    return build


def _priorband(given: Given) -> System:
    from benchmarks.neps_search import NepsSearch

    return NepsSearch(given.family, given.seed, given.recipes[PRIOR])


ONE_EPOCH = "one epoch"
SYSTEMS: dict[str, Callable[[Given], System]] = {
    "random": _ours("random", "none", None),
    ONE_EPOCH: lambda given: OneEpoch(given.family, given.seed, given.trainings),
    RAY: lambda given: RaySearch(given.family, given.seed),
    "Optuna: TPE + Hyperband": _optuna_hyperband,
    "Optuna: TPE + successive halving": _optuna_halving,
    "Syne Tune: ASHACQR": _syne_tune("ASHACQR"),
    "Syne Tune: BOHB": _syne_tune("BOHB"),
    "Syne Tune: ASHABORE": _syne_tune("ASHABORE"),
    "NePS: PriorBand": _priorband,
    "ours, current weights": _ours(),
    "ours, without a recipe": _ours(recipe=None),
    "ours, a naive recipe": _ours(recipe="naive"),
    "ours, random": _ours("random"),
    "ours, asha_promote": _ours(scheduler="asha_promote"),
    "ours, told of digits": _after_digits(0, is_told=True),
    "ours, told of digits, its 3 best first": _after_digits(3, is_told=True),
    "ours, the 3 best on digits first": _after_digits(3),
    REFERENCE: _ours(),
}
# Those that compare averaged weights at the rungs, as a study does by default.
AVERAGED = {name for name in SYSTEMS if name.startswith("ours")} - {"ours, current weights"}
NEEDS = {"Syne Tune": "syne_tune", "NePS": "neps"}  # what a system's name begins with, and the module behind it
BY_BUDGET = {ONE_EPOCH}
HALVES = {"even": 0, "odd": 1, "forest": None}  # of the recorded runs, by the kind of curves


class Task(NamedTuple):
    """One search on one kind of curves, and the budgets, ascending, at whose ends it is looked at."""

    study: str
    curves: str
    system: str
    seed: int
    budgets: tuple[int, ...]


Result = dict[int, float]  # by budget: final accuracy of the trial that was found


@cache
def _family(study: str, curves: str) -> tuple[Recorded | Forest, StudySpec]:
    spec = load_study(study)
    recorded = Recorded(_file(spec), spec.parsed_space, spec.study, HALVES[curves])
    return Forest(recorded) if curves == "forest" else recorded, spec


def _file(spec: StudySpec) -> Path:
    return Path(__file__).with_name(f"curves_{spec.study}.parquet")


def run(task: Task) -> tuple[Task, Result, float]:
    """Run one search; also the seconds that it took."""
    began = time.perf_counter()
    family, spec = _family(task.study, task.curves)
    recipes = {name: spec.locate(recipe.config) or {} for name, recipe in spec.recipes.items()}
    averaged_at = rung_levels(GRACE, REDUCTION, family.epochs) if task.system in AVERAGED else ()
    ends = {n: _seconds(family, n) for n in task.budgets}
    given = Given(family, recipes, task.seed, task.budgets[-1], earlier_study(task.seed))
    search = SYSTEMS[task.system](given)
    outcome = simulate(
        family, search, seed=task.seed, workers=WORKERS, seconds=max(ends.values()), averaged_at=averaged_at
    )
    return task, {n: outcome.best_at(end) for n, end in ends.items()}, time.perf_counter() - began


def _seconds(family: Recorded | Forest, trainings: float) -> float:
    return trainings / WORKERS * family.epochs * _epoch_seconds(family)


@cache
def _epoch_seconds(family: Recorded | Forest) -> float:
    """Of a mean configuration. A forest takes seconds to show all of its curves."""
    return float(np.mean([family.curve(point, 0).seconds for point in family.points]))


def _cell(values: np.ndarray) -> str:
    low, high = interval(values * 100)
    return f"{values.mean() * 100:.2f} [{low:.2f}, {high:.2f}]"


def _print(title: str, regret: Mapping[str, Mapping[int, np.ndarray]], budgets: tuple[int, ...]) -> None:
    print(f"\n### {title}\n\n| search | {' | '.join(f'{n} trainings' for n in budgets)} |")
    print(f"| --- |{' ---: |' * len(budgets)}")
    for system, by_budget in regret.items():
        print(f"| {system} | {' | '.join(_cell(by_budget[n]) for n in budgets)} |")


def _print_correlations(family: Recorded) -> None:
    """How well the ranks at each rung predict those of the end, over all configurations and over the best third."""
    curves = [family.curve(point, 0) for point in family.points]
    final = np.array([curve.reported[-1] for curve in curves])
    groups = (np.arange(len(final)), np.argsort(-final)[: len(final) // 3])
    print("\n### Rank correlation with the end\n\n| after epoch | current weights | averaged weights |"
          " of the best third: current | averaged |\n| ---: |" + " ---: |" * 4)  # fmt: skip
    for rung in rung_levels(GRACE, REDUCTION, family.epochs):
        at = [np.array([values[rung - 1] for values in each]) for each in (
            [curve.reported for curve in curves], [curve.averaged for curve in curves]
        )]  # fmt: skip
        found = [spearmanr(values[group], final[group]).statistic for group in groups for values in at]
        print(f"| {rung} | {' | '.join(f'{value:.2f}' for value in found)} |")


def main() -> None:
    """Run every search that was asked for and is installed, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="benchmarks/cifar10_resnet8.yaml")
    parser.add_argument("--curves", choices=HALVES, default="odd")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--budget", type=int, action="append", choices=BUDGETS, help="full trainings; all by default")
    parser.add_argument("--system", action="append", choices=SYSTEMS)
    parser.add_argument("--out", type=Path, help="write what each search found, as JSON")
    arguments = parser.parse_args()
    systems = [name for name in arguments.system or SYSTEMS if is_installed(name)]
    if missing := [name for name in arguments.system or SYSTEMS if name not in systems]:
        print(f"left out, not installed (benchmarks/rivals.txt): {', '.join(missing)}\n")
    budgets = tuple(sorted(arguments.budget or BUDGETS))
    tasks = [
        Task(arguments.study, arguments.curves, system, seed, each)
        for seed in range(arguments.seeds) for system in systems
        for each in ([(n,) for n in budgets] if system in BY_BUDGET else [budgets])
    ]  # fmt: skip
    results: dict[str, dict[int, dict[int, float]]] = {system: {n: {} for n in budgets} for system in systems}
    took = dict.fromkeys(systems, 0.0)
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        for task, result, seconds in pool.imap_unordered(run, tasks):
            took[task.system] += seconds
            for trainings, accuracy in result.items():
                results[task.system][trainings][task.seed] = accuracy
    if arguments.out:
        arguments.out.write_text(json.dumps(results))
    family, _ = _family(arguments.study, arguments.curves)
    best = max(family.curve(point, 0).final for point in family.points)
    print(f"{len(family.points)} configurations, the best {best:.4f}; {arguments.seeds} seeds, {WORKERS} workers; "
          f"{_seconds(family, 1) * WORKERS:.0f} s a training")  # fmt: skip
    if isinstance(family, Forest):
        print(f"a forest: {family.explained:.2f} of the variance between runs that it has not seen is explained; "
              f"seeds differ by {family.noise:.3f} in log odds")  # fmt: skip
    else:
        _print_correlations(family)
    regret = {
        system: {n: best - np.array([by_seed[seed] for seed in sorted(by_seed)]) for n, by_seed in of_budget.items()}
        for system, of_budget in results.items()
    }
    _print("Regret, points", regret, budgets)
    if reference := regret.pop(REFERENCE, None):
        differences = {system: {n: own[n] - reference[n] for n in budgets} for system, own in regret.items()}
        _print(f"Regret against {REFERENCE}, points", differences, budgets)
    print("\nseconds a search: " + ", ".join(f"{name} {total / arguments.seeds:.1f}" for name, total in took.items()))


def is_installed(system: str) -> bool:
    """Whether the packages behind a system of `SYSTEMS` are there."""
    return all(find_spec(module) for name, module in NEEDS.items() if system.startswith(name))


if __name__ == "__main__":
    main()
