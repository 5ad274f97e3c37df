"""What a search finds in a given time, and how soon: this project's against the tutorial's, on CIFAR-10.

    python -m benchmarks.search_time [--seeds 5] [--seconds 300] [--epochs 9] [--train-samples 5000]

Both sides search ResNet-8 on the same images with as many trials at once as there are cores, one thread each, over the
same settings of SGD (learning rate, momentum, weight decay, batch size) under a cosine schedule, with crops and flips;
TPE suggests and ASHA stops, with the same rungs, for as many trials as the time allows. This project begins with its
recipe, as it always does; the tutorial has none. The clock starts with the command, so that starting Ray, importing and
warming up count. What is compared is the best validation accuracy of any trial, and when ours came to the tutorial's.
Prints a table, asserts nothing.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.machine import describe, ratios
from benchmarks.searches import our_search, tutorial_search
from benchmarks.sides import Case, cifar, prepare_sides
from search.algorithms.intervals import paired_interval

Curve = list[tuple[float, float]]

GRACE = 1
TRIALS = 10_000  # more than either side can begin: time is the budget


def study(case: Case, seconds: float) -> dict[str, Any]:
    """The tutorial's search as a study."""
    trial = case.task.config(1).model_dump(mode="json", exclude={"epochs", "seed", "execution"})
    recipe = {"optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}, "batch_size": 128}
    return {
        "study": "speed",
        "trial": trial,
        "space": {
            "optimizer": {
                "lr": {"float": [0.01, 1.0], "log": True},
                "momentum": {"float": [0.8, 0.98]},
                "weight_decay": {"float": [1e-5, 1e-2], "log": True},
            },
            "batch_size": {"choice": [32, 64, 128]},
        },
        "recipes": {"usual": {"description": "SGD at 0.1", "source": "the usual start", "config": recipe}},
        "scheduler": {"kind": "asha", "grace_period": GRACE, "reduction_factor": 3},
        "budget": {"trials": TRIALS, "epochs": case.task.epochs, "hours": seconds / 3600},
        "resources": {"cpus_per_trial": 1},
    }


def ours(case: Case, folder: Path, seconds: float, seed: int) -> Curve:
    """Seconds since the command, and the best accuracy by then."""
    path = folder / "speed.yaml"
    path.write_text(yaml.safe_dump(study(case, seconds), sort_keys=False))
    return _best_so_far(seconds, *our_search(case, folder, str(path), {"seed": seed}))


def tutorial(case: Case, folder: Path, seconds: float, seed: int) -> Curve:
    """The same of `benchmarks.tutorial`."""
    concurrent = os.cpu_count() or 1
    return _best_so_far(seconds, *tutorial_search(case, folder, TRIALS, concurrent, GRACE, seed, seconds))


def _best_so_far(seconds: float, started: float, rows: list[dict[str, float]]) -> Curve:
    in_time = [row for row in rows if row["reported"] - started <= seconds]
    best = np.maximum.accumulate([row["val_accuracy"] for row in in_time]).tolist()
    return [(row["reported"] - started, value) for row, value in zip(in_time, best, strict=True)]


def reached(curve: Curve, accuracy: float) -> float:
    """When the best so far came to `accuracy`; infinite if it never did."""
    return next((seconds for seconds, value in curve if value >= accuracy), math.inf)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--train-samples", type=int, default=5_000)
    parser.add_argument("--val-samples", type=int, default=1_000)
    arguments = parser.parse_args()
    print(describe())
    print("\n| seed | best: ours, % | tutorial, % | to the tutorial's best: ours, s | tutorial, s "
          "| epochs: ours | tutorial |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |")  # fmt: skip
    task = cifar(8, arguments.epochs, arguments.train_samples, arguments.val_samples)
    times: list[tuple[float, float]] = []
    bests: dict[str, dict[int, float]] = {"ours": {}, "tutorial": {}}
    with tempfile.TemporaryDirectory() as shared:
        case = prepare_sides(task, Path(shared))
        for seed in range(arguments.seeds):
            curves: dict[str, Curve] = {}
            for side in ("ours", "tutorial") if seed % 2 == 0 else ("tutorial", "ours"):
                with tempfile.TemporaryDirectory() as folder:
                    search = ours if side == "ours" else tutorial
                    curves[side] = search(case, Path(folder), arguments.seconds, seed)
                bests[side][seed] = 100 * curves[side][-1][1]
            target = curves["tutorial"][-1][1]
            theirs, own = reached(curves["tutorial"], target), reached(curves["ours"], target)
            times.append((theirs, own))
            cells = [f"{bests[side][seed]:.1f}" for side in bests] + [f"{own:.0f}", f"{theirs:.0f}"]
            print(f"| {seed} | {' | '.join(cells)} | {len(curves['ours'])} | {len(curves['tutorial'])} |", flush=True)
    difference = paired_interval(bests["ours"], bests["tutorial"])
    print(f"\nours - tutorial, points: {difference}; to the tutorial's best: {ratios(times)} as fast")


if __name__ == "__main__":
    main()
