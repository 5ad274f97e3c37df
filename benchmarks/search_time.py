"""How long a whole search takes to the same validation accuracy: this project's against the tutorial's, CIFAR-10.

    python -m benchmarks.search_time [--seeds 5] [--trials 16] [--epochs 9] [--train-samples 5000]

Both sides search ResNet-8 on the same images with as many trials at once as there are cores, one thread each, over the
same settings of SGD (learning rate, momentum, weight decay, batch size) under a cosine schedule, with crops and flips;
TPE suggests and ASHA stops, with the same rungs. This project begins with its recipe, as it always does; the tutorial
has none. The clock starts with the command, so that starting Ray, importing and warming up count. The accuracy to reach
is the lower of the two searches' best of that seed; it is looked up in each side's results, best so far by wall time.
Prints a table, asserts nothing.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.machine import describe, ratios
from benchmarks.searches import our_search, tutorial_search
from benchmarks.sides import Case, cifar, prepare_sides

Curve = list[tuple[float, float]]

GRACE = 1


def study(case: Case, trials: int) -> dict[str, Any]:
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
        "budget": {"trials": trials, "epochs": case.task.epochs},
        "resources": {"cpus_per_trial": 1},
    }


def ours(case: Case, folder: Path, trials: int, seed: int) -> Curve:
    """Seconds since the command, and the best accuracy by then."""
    path = folder / "speed.yaml"
    path.write_text(yaml.safe_dump(study(case, trials), sort_keys=False))
    return _best_so_far(*our_search(case, folder, str(path), {"seed": seed}))


def tutorial(case: Case, folder: Path, trials: int, seed: int) -> Curve:
    """The same of `benchmarks.tutorial`."""
    return _best_so_far(*tutorial_search(case, folder, trials, os.cpu_count() or 1, GRACE, seed))


def _best_so_far(started: float, rows: list[dict[str, float]]) -> Curve:
    best = np.maximum.accumulate([row["val_accuracy"] for row in rows]).tolist()
    return [(row["reported"] - started, value) for row, value in zip(rows, best, strict=True)]


def reached(curve: Curve, accuracy: float) -> float:
    """When the best so far came to `accuracy`."""
    return next(seconds for seconds, value in curve if value >= accuracy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--train-samples", type=int, default=5_000)
    parser.add_argument("--val-samples", type=int, default=1_000)
    arguments = parser.parse_args()
    print(describe())
    print("\n| seed | best: ours, % | tutorial, % | to the lower of the two: ours, s | tutorial, s "
          "| last result: ours, s | tutorial, s |\n| --- | --- | --- | --- | --- | --- | --- |")  # fmt: skip
    task = cifar(8, arguments.epochs, arguments.train_samples, arguments.val_samples)
    pairs, whole = [], []
    with tempfile.TemporaryDirectory() as shared:
        case = prepare_sides(task, Path(shared))
        for seed in range(arguments.seeds):
            curves: dict[str, Curve] = {}
            for side in ("ours", "tutorial") if seed % 2 == 0 else ("tutorial", "ours"):
                with tempfile.TemporaryDirectory() as folder:
                    search = ours if side == "ours" else tutorial
                    curves[side] = search(case, Path(folder), arguments.trials, seed)
            (end, best), (their_end, their_best) = curves["ours"][-1], curves["tutorial"][-1]
            target = min(best, their_best)
            pairs.append((reached(curves["tutorial"], target), reached(curves["ours"], target)))
            whole.append((their_end, end))
            cells = [f"{100 * best:.1f}", f"{100 * their_best:.1f}", f"{pairs[-1][1]:.1f}", f"{pairs[-1][0]:.1f}"]
            print(f"| {seed} | {' | '.join(cells)} | {end:.1f} | {their_end:.1f} |", flush=True)
    print(f"\nto the same accuracy: {ratios(pairs)} as fast; the whole search: {ratios(whole)}")


if __name__ == "__main__":
    main()
