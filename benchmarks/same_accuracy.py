"""Whether accuracy paid for speed: one recipe through the fast path and through the tutorial's, many seeds each.

    python -m benchmarks.same_accuracy [--seeds 10] [--epochs 5] [--train-samples 20000] [--depth 8]

Same images, network, initialization scheme, augmentation, optimizer and schedule; the fast path draws its crops in
batches, in its own random order, and multiplies in the precision that `auto` comes to on this machine. Prints a table.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import ttest_ind

from benchmarks.sides import cifar, prepare_sides, watch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--train-samples", type=int, default=20_000)
    parser.add_argument("--val-samples", type=int, default=5_000)
    parser.add_argument("--depth", type=int, default=8)
    arguments = parser.parse_args()
    task = cifar(arguments.depth, arguments.epochs, arguments.train_samples, arguments.val_samples)
    print("| seed | fast, % | plain, % |\n| --- | --- | --- |")
    fast, plain = [], []
    with tempfile.TemporaryDirectory() as folder:
        case = prepare_sides(task, Path(folder))
        for seed in range(arguments.seeds):
            # Both at once, one thread each: this measures accuracy, not time.
            side = watch([case.ours(1, seed), case.tutorial(1, 0, seed)], threads=1)
            fast.append(100 * side.epochs[0][-1]["val_accuracy"])
            plain.append(100 * side.epochs[1][-1]["val_accuracy"])
            print(f"| {seed} | {fast[-1]:.2f} | {plain[-1]:.2f} |", flush=True)
    interval = ttest_ind(fast, plain, equal_var=False).confidence_interval(0.95)
    print(f"\nmean {np.mean(fast):.2f} and {np.mean(plain):.2f}, standard deviation {np.std(fast, ddof=1):.2f} and "
          f"{np.std(plain, ddof=1):.2f}; fast - plain = {np.mean(fast) - np.mean(plain):+.2f} points, 95 % interval "
          f"{interval.low:+.2f} to {interval.high:+.2f} (Welch); {os.cpu_count()} cores")  # fmt: skip


if __name__ == "__main__":
    main()
