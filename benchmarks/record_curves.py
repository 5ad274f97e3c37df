"""Record real learning curves: random configurations of a study, each trained to the end.

    python -m benchmarks.record_curves benchmarks/cifar10_resnet8.yaml --data 'parquet:$RESNET_SEARCH_DATA/cifar10_jpeg'

Runs 0 to RUNS - 1 have the configurations that the random searcher suggests for these trials, and the study's seed.
When all are recorded, the AGAIN best of them are trained once more with the next seed. The result is
benchmarks/curves_STUDY.parquet, with one row a run and seed:

- `run`, `seed`; `values`, the searched values by qualified key, as JSON;
- `val_accuracy`, `val_loss`, `ema_accuracy`, `ema_loss`, one number an epoch; a run that diverged has fewer. The
  averaged weights, bias-corrected, have a window of one epoch: a decay of 1 - 1 / steps an epoch;
- `seconds` of each epoch, training and validation of the raw weights: on the CPU those of one core, so that other work
  on the machine counts little;
- `machine` (processor and torch) and `date`.

Its metadata hold the command and what the study was. Each row is on disk as soon as it is there, and what the file
holds is kept: the same command continues, on another machine as well.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import shlex
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.machine import processor
from search.algorithms.searchers.random import RandomSearcher
from search.study.overrides import override
from search.study.parse import study_tree
from search.study.spec import StudySpec
from trainables.config import ConfigError, parse_config
from trainables.data.images import load_splits
from trainables.data.store import default_cache
from trainables.models.ema import WeightAverage
from trainables.training.evaluation import score
from trainables.training.execution import configure_process, resolve_device
from trainables.training.feed import Feed
from trainables.training.inference import Inference
from trainables.training.loop import Run
from trainables.training.weights import normalization_for

__all__ = ["Table", "missing", "record", "recorded_study"]

SCHEMA = pa.schema({
    "run": pa.int32(), "seed": pa.int64(), "values": pa.string(),
    "val_accuracy": pa.list_(pa.float32()), "val_loss": pa.list_(pa.float32()),
    "ema_accuracy": pa.list_(pa.float32()), "ema_loss": pa.list_(pa.float32()),
    "seconds": pa.list_(pa.float32()), "machine": pa.string(), "date": pa.string(),
})  # fmt: skip
DECISIVE = ("trial", "space", "seed", "epochs")  # of a study, for a run; execution changes the last digits alone
CURVES = ("val_accuracy", "val_loss", "ema_accuracy", "ema_loss", "seconds")


def recorded_study(study: str, data: str | None, device: str) -> StudySpec:
    """The study as it is recorded: on one thread, and without training accuracy, which is not kept."""
    sets = ["execution.threads=1", "data.train_eval_samples=1", f"execution.device={device}"]
    return override(study_tree(study), data=data, sets=sets)


def record(spec: StudySpec, run: int, seed: int, cache: Path) -> dict[str, Any]:
    """Train run `run` of the study to its end; one row of the file."""
    point = RandomSearcher(spec.parsed_space, spec.seed).suggest(run)
    if point is None:
        raise ConfigError.single("--runs", run + 1, "must be at most the number of combinations in the space")
    config = parse_config({**spec.trial_config(point.tree).model_dump(mode="json"), "seed": seed})
    configure_process(config.execution)
    device, splits = resolve_device(config.execution.device), load_splits(config.data, cache)
    training, val = Run(config, splits), Feed(splits.val, device)
    normalization = normalization_for(config, splits.train, splits.store)
    inference = Inference(normalization, config.data.resolution, config.execution, device)
    average = WeightAverage(training.network, 1 - config.batch_size / len(splits.train))
    row: dict[str, Any] = {"run": run, "seed": seed, "values": json.dumps(point.values)}
    row |= {"machine": f"{processor()}; torch {torch.__version__}"}
    curves: dict[str, list[float]] = {name: [] for name in CURVES}
    began = time.process_time()
    for result in training.steps():
        if result is None:
            average.update()
            continue
        seconds = time.process_time() - began if device.type == "cpu" else result.seconds
        if not math.isfinite(result.val_accuracy) or result.stop_reason == "diverged":
            break
        averaged = score(inference.logits(average.module, val), val.labels)
        numbers = (result.val_accuracy, result.val_loss, averaged.accuracy, averaged.loss, seconds)
        for name, number in zip(CURVES, numbers, strict=True):
            curves[name].append(number)
        began = time.process_time()
    return {**row, **curves, "date": datetime.now(UTC).date().isoformat()}


class Table:
    """The file: its rows, and what the study was.

    Args:
        path: of the file, which need not be there yet.
        spec: the study whose runs it holds.

    Raises:
        SystemExit: if it holds another study's.
    """

    def __init__(self, path: Path, spec: StudySpec) -> None:
        self._path = path
        identity = {key: value for key, value in spec.identity().items() if key in DECISIVE}
        del identity["trial"]["execution"]
        study = json.dumps(identity, sort_keys=True).encode()
        command = shlex.join(["python", "-m", "benchmarks.record_curves", *sys.argv[1:]])
        self._schema = SCHEMA.with_metadata({b"study": study, b"command": command.encode()})
        self.rows: list[dict[str, Any]] = []
        if path.exists():
            found = pq.read_table(path)
            if found.schema.metadata[b"study"] != study:
                raise SystemExit(f"error: {path} holds runs of another version of this study: remove or rename it")
            self.rows = found.to_pylist()

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row, and replace the file as a whole, so that an interrupt leaves the one before."""
        self.rows.append(dict(row))
        self.rows.sort(key=lambda row: (row["run"], row["seed"]))
        partial = self._path.with_suffix(".partial")
        pq.write_table(pa.Table.from_pylist(self.rows, self._schema), partial, compression="zstd")
        os.replace(partial, self._path)


def missing(table: Table, spec: StudySpec, runs: int, again: int) -> list[tuple[int, int]]:
    """What is to be recorded next, as run and seed: the first seed of all runs, or else the second one of the best."""
    done = {(row["run"], row["seed"]) for row in table.rows}
    first = [(run, spec.seed) for run in range(runs)]
    if left := [each for each in first if each not in done]:
        return left
    final = {row["run"]: row["val_accuracy"][-1] for row in table.rows if _is_whole(row, spec) and row["run"] < runs}
    best = sorted(final, key=lambda run: -final[run])[:again]
    return [(run, spec.seed + 1) for run in best if (run, spec.seed + 1) not in done]


def _is_whole(row: Mapping[str, Any], spec: StudySpec) -> bool:
    return row["seed"] == spec.seed and len(row["val_accuracy"]) == spec.budget.epochs


def main() -> None:
    """Record what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="a study, as `search.run` takes it")
    parser.add_argument("--data", type=os.path.expandvars, help="the images, as for `search.run`; may name variables")
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--again", type=int, default=50)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    arguments = parser.parse_args()
    try:
        spec = recorded_study(arguments.study, arguments.data, arguments.device)
        load_splits(spec.trial_config({}).data, default_cache())  # prepared once
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    table = Table(Path(__file__).with_name(f"curves_{spec.study}.parquet"), spec)
    started = time.monotonic()
    one = partial(_record, spec, default_cache())
    # Of this pool an interrupt leaves nothing running, and a worker whose parent was killed ends after its run.
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        while wanted := missing(table, spec, arguments.runs, arguments.again):
            for count, row in enumerate(pool.imap_unordered(one, wanted), 1):
                table.add(row)
                last = ", ".join(f"{accuracy:.3f}" for accuracy in row["val_accuracy"][-1:]) or "diverged"
                took = f"{sum(row['seconds']):.0f} s, {time.monotonic() - started:.0f} s in all"
                print(f"{count} of {len(wanted)}: run {row['run']}, seed {row['seed']}, {last}; {took}", flush=True)


def _record(spec: StudySpec, cache: Path, wanted: tuple[int, int]) -> dict[str, Any]:
    return record(spec, *wanted, cache)


if __name__ == "__main__":
    main()
