"""Whether a study slows down or swells as it grows, and how long it takes to go on with one.

    python benchmarks/long_study.py [--trials 1000] [--epochs 10] [--scheduler asha_promote]

Runs the `synthetic` study, whose trials train nothing, so that what is measured is the search itself; then asks for one
more trial and times the way to it. Prints tables, asserts nothing.
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
    return text.count(b'"event":"suggest"'), text.count(b'"event":"result"')


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
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--scheduler", default="asha_promote")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}, "
          f"Ray {metadata.version('ray')}, Optuna {metadata.version('optuna')}")  # fmt: skip
    print(f"{arguments.trials} trials of at most {arguments.epochs} epochs, tpe, {arguments.scheduler}\n")
    with tempfile.TemporaryDirectory() as out:
        base = [sys.executable, "-m", "search.run", STUDY, "--out", out, "--epochs", str(arguments.epochs)]
        base += ["--set", f"scheduler.kind={arguments.scheduler}"]
        print("| trials begun | results | ms a result since the row before | driver, MB |")
        print("| --- | --- | --- | --- |")
        before = (0, 0.0)
        rows: list[tuple[float, float]] = []
        folder = Path(out, STUDY)
        for begun, results, seconds, memory in watched(
            [*base, "--trials", str(arguments.trials)], folder, arguments.trials
        ):
            each = (seconds - before[1]) / max(results - before[0], 1) * 1000
            before = (results, seconds)
            rows.append((each, memory))
            print(f"| {begun} | {results} | {each:.1f} | {memory:.0f} |", flush=True)
        if len(rows) > 2:
            (_, memory), (early, _), (late, now) = rows[0], rows[1], rows[-1]
            print(f"\nfrom the 100th trial to the last: time a result {late / early - 1:+.0%}, "
                  f"memory {now / memory - 1:+.0%}")  # fmt: skip
        begun, _ = begun_and_reported(folder)
        started = time.perf_counter()
        process = subprocess.Popen([*base, "--trials", str(begun + 1)], stdout=subprocess.DEVNULL)
        while process.poll() is None and begun_and_reported(folder)[0] == begun:
            time.sleep(0.1)
        print(f"\ngoing on with {begun} trials: {time.perf_counter() - started:.1f} s until the next one began")
        process.wait()


if __name__ == "__main__":
    main()
