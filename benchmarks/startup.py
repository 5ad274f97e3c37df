"""What a search spends beside training: from the command to the first result, and between two trials of a worker.

    python -m benchmarks.startup [--repeats 3]

Both sides search ResNet-8 on digits on all cores, one after the other. The way to the first result is the wall time
from the command to the first reported epoch, that epoch included. The dead time is, on one worker, the time from a
trial's last report to the next trial's first, less what that first epoch took by its own clock: everything that is not
training. Prints tables, asserts nothing.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.machine import describe
from benchmarks.searches import our_search, tutorial_search
from benchmarks.sides import Case, digits, prepare_sides

EPOCHS = 3
TRIALS = 5  # one after the other on one worker, for the dead time


def ours(case: Case, folder: Path, trials: int, concurrent: int) -> tuple[float, list[float]]:
    """Seconds to the first result, images prepared on the way, and the dead times."""
    case = replace(case, cache=folder / "cache")
    options = {"trials": trials, "epochs": EPOCHS, "concurrent": concurrent, "set": "scheduler.kind=none"}
    return _measured(*our_search(case, folder, "digits_resnet8", options))


def tutorial(case: Case, folder: Path, trials: int, concurrent: int) -> tuple[float, list[float]]:
    """The same of `benchmarks.tutorial search`."""
    return _measured(*tutorial_search(case, folder, trials, concurrent, grace=EPOCHS - 1))


def _measured(started: float, rows: list[dict[str, float]]) -> tuple[float, list[float]]:
    dead = [
        after["reported"] - before["reported"] - after["seconds"]
        for before, after in itertools.pairwise(rows)
        if before["trial"] != after["trial"]
    ]
    return rows[0]["reported"] - started, dead


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print(describe())
    print("\n| repeat | side | command to first report, s | dead time between trials, s: median (lowest to highest) |")
    print("| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as shared:
        case = prepare_sides(digits(EPOCHS), Path(shared))
        for repeat in range(arguments.repeats):
            for side in ("ours", "tutorial") if repeat % 2 == 0 else ("tutorial", "ours"):
                with tempfile.TemporaryDirectory() as own:
                    search = ours if side == "ours" else tutorial
                    first, _ = search(case, Path(own, "both"), 2, os.cpu_count() or 1)
                    _, dead = search(case, Path(own, "one"), TRIALS, 1)
                print(f"| {repeat + 1} | {side} | {first:.1f} | {statistics.median(dead):.3f} "
                      f"({min(dead):.3f} to {max(dead):.3f}, n = {len(dead)}) |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
