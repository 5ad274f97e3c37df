"""Whether a study slows down or swells as it grows, and how long it takes to go on with one.

    python benchmarks/long_study.py [--trials 1000] [--epochs 5] [--scheduler none]

Runs the `synthetic` study, whose trials train nothing, so that what is measured is the search itself; then asks for one
more trial and times the way to it. A scheduler that stops trials stops more of them as its rungs fill: then compare the
time a trial, since each result carries more of it. Prints tables, asserts nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

STUDY = "synthetic"


def begun_and_reported(folder: Path) -> tuple[int, int]:
    """How many trials have begun and how many results were written, counted in the journal's bytes."""
    text = b"".join(path.read_bytes() for path in sorted((folder / "journal").glob("*.jsonl")))
    return text.count(b'"event":"trial_suggested"'), text.count(b'"event":"epoch_reported"')


def resident(process: int) -> float:
    """Memory of a process that is its own, in MB: anonymous pages, since those of files are shared."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def watched(command: list[str], folder: Path, trials: int) -> Iterator[tuple[int, int, float, float]]:
    """Run the search; at every hundredth trial: trials, results, seconds since the start, MB of the driver."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wanted = 100
    while process.poll() is None and wanted <= trials:
        begun, results = begun_and_reported(folder)
        if begun >= wanted:
            yield begun, results, time.perf_counter() - started, resident(process.pid)
            wanted += 100
        time.sleep(0.25)
    if process.wait():
        raise SystemExit(f"the search failed: {' '.join(command)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--scheduler", default="none")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}, "
          f"Ray {metadata.version('ray')}, Optuna {metadata.version('optuna')}")  # fmt: skip
    print(f"{arguments.trials} trials of at most {arguments.epochs} epochs, tpe, {arguments.scheduler}\n")
    with tempfile.TemporaryDirectory() as out:
        base = [sys.executable, "-m", "search.run", STUDY, "--out", out, "--epochs", str(arguments.epochs)]
        base += ["--set", f"scheduler.kind={arguments.scheduler}"]
        print("| trials begun | results | ms a result since the row before | ms a trial | driver, MB |")
        print("| ---: | ---: | ---: | ---: | ---: |")
        before = (0, 0, 0.0)
        rows: list[tuple[float, float, float]] = []
        folder = Path(out, STUDY)
        for begun, results, seconds, memory in watched(
            [*base, "--trials", str(arguments.trials)], folder, arguments.trials
        ):
            passed = (seconds - before[2]) * 1000
            each, trial = passed / max(results - before[1], 1), passed / (begun - before[0])
            before = (begun, results, seconds)
            rows.append((each, trial, memory))
            print(f"| {begun} | {results} | {each:.1f} | {trial:.0f} | {memory:.0f} |", flush=True)
        if len(rows) > 2:
            (_, _, memory), (early, short, _), (late, long, now) = rows[0], rows[1], rows[-1]
            print(f"\nfrom the 100th trial to the last: time a result {late / early - 1:+.0%}, a trial "
                  f"{long / short - 1:+.0%}, memory {now / memory - 1:+.0%}")  # fmt: skip
        begun, _ = begun_and_reported(folder)
        started = time.perf_counter()
        process = subprocess.Popen([*base, "--trials", str(begun + 1)], stdout=subprocess.DEVNULL)
        while process.poll() is None and begun_and_reported(folder)[0] == begun:
            time.sleep(0.1)
        print(f"\ngoing on with {begun} trials: {time.perf_counter() - started:.1f} s until the next one began")
        process.wait()


if __name__ == "__main__":
    main()
