"""A whole search of either side, in a process of its own: when it was started, and every result it reported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.sides import Case
from search.journal.events import EpochReported
from search.journal.log import read

__all__ = ["Search", "our_search", "tutorial_search"]

# Seconds since 1970 at the command, and the results by time: an epoch's metrics, its `trial`, when it was `reported`.
Search = tuple[float, list[dict[str, float]]]


def our_search(case: Case, folder: Path, study: str, options: Mapping[str, object]) -> Search:
    """`search.run STUDY` with these options into `folder`; a study's file is called as the study is."""
    command = [sys.executable, "-m", "search.run", study, "--out", str(folder / "runs"), *_given(options)]
    environment = {**os.environ, "RESNET_SEARCH_CACHE": str(case.cache), "COLUMNS": "100"}
    started = time.time()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    events = read(folder / "runs" / Path(study).stem / "journal")
    reports = [event for event in events if isinstance(event, EpochReported)]
    return started, _by_time([{**report.metrics, "trial": report.trial, "reported": report.time} for report in reports])


def tutorial_search(
    case: Case, folder: Path, trials: int, concurrent: int, grace: int, seed: int = 0, seconds: float | None = None
) -> Search:
    """`benchmarks.tutorial search` of the case's images, a thread a trial, with its files in `folder`."""
    options = {
        "depth": case.task.depth, "epochs": case.task.epochs, "trials": trials, "concurrent": concurrent,
        "grace": grace, "seed": seed, "threads": 1, "out": folder,
    }  # fmt: skip
    command = [sys.executable, "-m", "benchmarks.tutorial", "search", str(case.images), *_given(options)]
    command += ["--flip"] if case.task.flip else []
    command += [f"--seconds={seconds}"] if seconds is not None else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "RAY_USAGE_STATS_ENABLED": "0"}
    started = time.time()
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    return started, _by_time(json.loads(next(line for line in done.stdout.splitlines() if line.startswith("[{"))))


def _given(options: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]


def _by_time(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return sorted(rows, key=lambda row: row["reported"])
