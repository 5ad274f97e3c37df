"""A real search in a process of its own, to be killed and run again; and what two searches have in common."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml

from search.algorithms.schedulers.registry import build_scheduler
from search.algorithms.searchers.registry import build_searcher
from search.engine.driver import StudyDriver
from search.journal.events import Decided, SessionStarted
from search.journal.log import Journal, read
from search.journal.result import StudyResult, collect
from search.journal.state import StudyState
from search.planning.resources import resolved_execution
from search.study.parse import load_study
from search.study.spec import StudySpec
from trainables.config import parse_config
from trainables.files import write_text
from trainables.trainable import build_trainable

TIMEOUT = 240  # seconds for one session
TIMES = ("seconds", "images_per_second")  # what no two runs have in common


def synthetic_study(scheduler: str, trials: int = 12, epochs: int = 9, **more: Any) -> dict[str, Any]:
    """Curves that cross, with a recipe that runs to the end and a region that diverges."""
    return {
        "study": "killed",
        "trial": {
            "model": {"kind": "synthetic", "seconds_per_epoch": 0.02, "diverge_above": 0.6},
            "data": {"source": "synthetic"},
        },
        "space": {
            "optimizer": {
                "lr": {"float": [1e-4, 1.0], "log": True},
                "weight_decay": {"float": [1e-6, 1e-2], "log": True},
            },
            "augment": {"strength": {"float": [0.0, 1.0]}},
        },
        "recipes": {"plain": {"description": "d", "source": "s", "config": {"optimizer": {"lr": 0.01}}}},
        "searcher": {"kind": "tpe", "startup_trials": 4},
        "scheduler": {"kind": scheduler, "grace_period": 1, "reduction_factor": 3},
        "budget": {"trials": trials, "epochs": epochs},
        **more,
    }


def command(study: Path, out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "search.run", str(study), "--out", str(out), *options]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return kept | {"COLUMNS": "200"}


def written(tree: dict[str, Any], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def run(study: Path, out: Path, *options: str) -> str:
    """Run the search to its end; returns what it printed."""
    done = subprocess.run(
        command(study, out, *options), env=environment(), capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def uninterrupted(study: Path, out: Path, **versions: str) -> None:
    """The same search, one trial at a time, as the driver alone makes it: without Ray, in this process."""
    spec = load_study(str(study))
    spec = resolved_execution(spec, torch.cuda.is_available(), spec.resources.cpus_per_trial)
    folder = out / spec.study
    write_text(folder / "study.yaml", spec.dump())
    journal = Journal(folder / "journal", 1)
    driver = StudyDriver(spec, journal, build_searcher(spec), build_scheduler(spec), StudyState())
    driver.record(SessionStarted(session=1, time=0.0, versions=versions))
    while (leg := driver.next_leg()) is not None:
        config = parse_config(leg.config)
        fast = config.model.model_copy(update={"seconds_per_epoch": 0.0})
        for epoch in build_trainable(config.model_copy(update={"model": fast}), Path()).epochs():
            if driver.on_result(leg.trial, epoch.epoch, epoch.metrics(), epoch.last, epoch.stop_reason):
                break
    journal.close()


def begin(
    study: Path, out: Path, lines: int, *options: str, name: str = "killed", **variables: str
) -> subprocess.Popen[str]:
    """Start the search; returns once its journal has so many lines more, or it has ended."""
    folder = out / name
    wanted, deadline = journal_lines(folder) + lines, time.monotonic() + TIMEOUT
    process = subprocess.Popen(
        command(study, out, *options), env=environment() | variables, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    while process.poll() is None and journal_lines(folder) < wanted and time.monotonic() < deadline:
        time.sleep(0.01)
    return process


def run_with_kills(study: Path, out: Path, kills: int, seed: int, *options: str, most: int = 12) -> None:
    """Run the search, killing its driver `kills` times by SIGKILL, each time after a few more lines of its journal.

    Each kill must hit: a search that was over before has survived nothing.
    """
    draws = random.Random(seed)  # noqa: S311 (moments, not secrets)
    for _ in range(kills):
        process = begin(study, out, draws.randint(0, most), *options)
        time.sleep(draws.uniform(0, 0.1))
        assert process.poll() is None, "the search was over too soon to be killed so often"
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    run(study, out, *options)


def journal_lines(folder: Path) -> int:
    """How many lines with events there are; a segment's first line has none."""
    return sum(path.read_bytes().count(b'"events":') for path in (folder / "journal").glob("*.jsonl"))


def result(out: Path, name: str = "killed") -> StudyResult:
    folder = out / name
    return collect(load_study(str(folder / "study.yaml")), read(folder / "journal"))


def decisions(out: Path, name: str = "killed") -> list[tuple[Any, ...]]:
    """Every decision in its order: trial, epoch, action, rung, cutoff."""
    events = read(out / name / "journal")
    return [(e.trial, e.epoch, e.action, e.rung, e.cutoff) for e in events if isinstance(e, Decided)]


def trials(found: StudyResult) -> Iterator[dict[str, Any]]:
    """Each trial without what depends on time, on the machine or on how often it was interrupted."""
    for record in found.trials:
        tree = asdict(record)
        for varying in ("started", "ended", "leg", "worker_losses", "worker_lost_at", "failures", "checkpoint"):
            del tree[varying]
        tree["history"] = [
            (epoch.epoch, json.dumps({k: v for k, v in epoch.metrics.items() if k not in TIMES}))
            for epoch in record.history
        ]
        yield tree


def rungs(found: StudyResult, spec: StudySpec) -> dict[int, dict[int, float]]:
    """The value of each trial at each rung that it reached, from the records alone."""
    metric = spec.objective.metric
    return {
        level: {
            record.number: epoch.metrics[metric]
            for record in found.trials
            for epoch in record.history
            if epoch.epoch == level
        }
        for level in build_scheduler(spec).rungs(0)
    }
