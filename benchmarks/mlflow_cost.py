"""What tracking costs: a whole search with MLflow against the same search without, in alternating pairs.

    python benchmarks/mlflow_cost.py [--pairs 5] [--trials 100] [--epochs 10] [--metrics 15]

The study is `synthetic` without a scheduler, so that every trial reports every epoch. Wall time is that of the whole
process, from its start to its end, the last flush included. `in the controller` is the time that the driver's loop
spends handing an event over. Driver CPU includes the thread that writes to MLflow. Prints tables, asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

CHILD = "--child"


class NoTracking:
    """Stands where the tracker does, and does nothing."""

    def __init__(self, uri: str, spec: Any, out: Path, **_: Any) -> None:
        """As the tracker."""

    def start(self) -> None:
        """Nothing to load."""

    def __call__(self, event: Any) -> None:
        """Nothing."""

    def run_id(self, trial: int) -> None:
        """None."""

    def close(self, attachments: Any = (), timeout: float = 0) -> bool:
        """Nothing to wait for."""
        return True


def child(arguments: argparse.Namespace) -> None:
    """One search in this process; what it measured goes to `--report`."""
    import search.api
    import search.tune.session
    from search.journal.events import EpochReported, Event
    from search.tracking.tracker import MLflowTracker
    from trainables.result import METRICS

    extra = {f"extra_{i}": 0.1 * i for i in range(arguments.metrics - len(METRICS))}
    measured = {"seconds": 0.0, "results": 0, "close": 0.0}

    class Timed(MLflowTracker):
        def __call__(self, event: Event) -> None:
            if isinstance(event, EpochReported):  # before the clock starts: the search itself would report them
                event = event.model_copy(update={"metrics": {**event.metrics, **extra}})
                measured["results"] += 1
            started = time.perf_counter()
            super().__call__(event)
            measured["seconds"] += time.perf_counter() - started

        def close(self, attachments: Any = (), timeout: float = 600) -> bool:
            started = time.perf_counter()
            done = super().close(attachments, timeout)
            measured["close"] = time.perf_counter() - started
            return done

    vars(search.tune.session)["MLflowTracker"] = Timed if arguments.tracked else NoTracking
    search.api.run_study(
        "synthetic", trials=arguments.trials, epochs=arguments.epochs, out=arguments.out, sets=["scheduler.kind=none"],
    )  # fmt: skip
    measured["cpu"] = time.process_time()
    arguments.report.write_text(json.dumps(measured))


def one(arguments: argparse.Namespace, tracked: bool) -> dict[str, float]:
    """Run one search in a process of its own and time it."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, __file__, CHILD, "--report", str(report), "--out", str(Path(folder) / "runs")]
        command += ["--trials", str(arguments.trials), "--epochs", str(arguments.epochs)]
        command += ["--metrics", str(arguments.metrics), *(["--tracked"] if tracked else [])]
        environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        wall = time.perf_counter() - started
        measured: dict[str, float] = json.loads(report.read_text())
        measured["wall"] = wall
        if tracked:
            measured["runs"] = count_runs(Path(folder) / "runs")
        return measured


def count_runs(out: Path) -> int:
    """How many runs the search left in MLflow."""
    from search.tracking.uri import connect, default_uri

    client = connect(default_uri(out))
    experiment = client.get_experiment_by_name("synthetic")
    return len(client.search_runs([experiment.experiment_id], max_results=50_000)) if experiment else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--metrics", type=int, default=15)
    for hidden in (CHILD, "--tracked"):
        parser.add_argument(hidden, action="store_true", help=argparse.SUPPRESS)
    for hidden in ("--report", "--out"):
        parser.add_argument(hidden, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
        return
    print(f"{os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}, "
          f"MLflow {metadata.version('mlflow')}, Ray {metadata.version('ray')}")  # fmt: skip
    print(
        f"{arguments.trials} trials x {arguments.epochs} epochs x {arguments.metrics} metrics, "
        f"{arguments.pairs} pairs\n"
    )
    print("| pair | without, s | with, s | added | driver CPU without, s | with, s | us a result in the controller "
          "| last flush, s | runs |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    added: list[float] = []
    for pair in range(1, arguments.pairs + 1):
        # Each order half of the time, so that a machine that warms up favours neither.
        order = (False, True) if pair % 2 else (True, False)
        both = {tracked: one(arguments, tracked) for tracked in order}
        without, with_ = both[False], both[True]
        added.append(with_["wall"] / without["wall"] - 1)
        microseconds = with_["seconds"] / max(with_["results"], 1) * 1e6
        cells = [str(pair), f"{without['wall']:.1f}", f"{with_['wall']:.1f}", f"{added[-1]:+.1%}"]
        cells += [f"{without['cpu']:.1f}", f"{with_['cpu']:.1f}", f"{microseconds:.1f}", f"{with_['close']:.2f}"]
        print(f"| {' | '.join(cells)} | {with_['runs']:.0f} |", flush=True)
    print(f"\nmedian of the added time: {statistics.median(added):+.1%}")


if __name__ == "__main__":
    main()
