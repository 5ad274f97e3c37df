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
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import describe
from benchmarks.sides import digits, prepare_sides
from search.events import EpochReported
from search.journal import read

EPOCHS = 3


def ours(folder: Path, trials: int, concurrent: int) -> tuple[float, list[float]]:
    """Seconds to the first result, and the dead times."""
    command = [sys.executable, "-m", "search.run", "digits_resnet8", "--out", str(folder / "runs")]
    command += ["--trials", str(trials), "--epochs", str(EPOCHS), "--concurrent", str(concurrent)]
    command += ["--set", "scheduler.kind=none"]
    environment = {**os.environ, "RESNET_SEARCH_CACHE": str(folder / "cache"), "COLUMNS": "100"}
    started = time.time()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    reports = [
        event for event in read(folder / "runs" / "digits_resnet8" / "journal") if isinstance(event, EpochReported)
    ]
    rows = [{**event.metrics, "trial": event.trial, "reported": event.time} for event in reports]
    return _measured(rows, started)


def tutorial(images: Path, folder: Path, trials: int, concurrent: int) -> tuple[float, list[float]]:
    """The same of `benchmarks.tutorial search`."""
    command = [sys.executable, "-m", "benchmarks.tutorial", "search", str(images), "--depth", "8", "--threads", "1"]
    command += ["--epochs", str(EPOCHS), "--grace", str(EPOCHS - 1), "--trials", str(trials)]
    command += ["--concurrent", str(concurrent), "--out", str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "RAY_USAGE_STATS_ENABLED": "0"}
    started = time.time()
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    rows = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("[{")))
    return _measured(rows, started)


def _measured(rows: list[dict[str, float]], started: float) -> tuple[float, list[float]]:
    rows = sorted(rows, key=lambda row: row["reported"])
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
                    if side == "ours":
                        first, _ = ours(Path(own, "both"), 2, os.cpu_count() or 1)
                        _, dead = ours(Path(own, "one"), 6, 1)
                    else:
                        first, _ = tutorial(case.images, Path(own, "both"), 2, os.cpu_count() or 1)
                        _, dead = tutorial(case.images, Path(own, "one"), 4, 1)
                print(f"| {repeat + 1} | {side} | {first:.1f} | {statistics.median(dead):.3f} "
                      f"({min(dead):.3f} to {max(dead):.3f}, n = {len(dead)}) |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
