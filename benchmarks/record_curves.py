"""Record real learning curves: random configurations of `digits_resnet8`, each trained to the end.

    python benchmarks/record_curves.py [--runs 320] [--epochs 27]

One run after another on one thread of the CPU, through the same trainable as in a search. Run n has the configuration
that the random searcher suggests for trial n. The result, benchmarks/curves_digits_resnet8.parquet, has one row a run:
`run`; `values`, the searched values by qualified key, as JSON; `val_accuracy` and `seconds`, a list with one number an
epoch. A run that diverged has fewer. Runs that the file already holds are kept, so that recording can be interrupted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from search.algorithms.searchers.random import RandomSearcher
from search.study.overrides import override
from search.study.parse import load_study
from trainables.data.store import default_cache
from trainables.trainable import build_trainable
from trainables.training.execution import configure_process

__all__ = ["FILE", "STUDY", "record"]

STUDY = "digits_resnet8"
FILE = Path(__file__).with_name(f"curves_{STUDY}.parquet")
SAVE_EVERY = 10
SCHEMA = pa.schema({
    "run": pa.int32(), "values": pa.string(), "val_accuracy": pa.list_(pa.float32()),
    "seconds": pa.list_(pa.float32()),
})  # fmt: skip


def record(run: int, epochs: int, cache: Path) -> dict[str, Any]:
    """Train run `run` of the study to its end; one row of the file."""
    sets = ["execution.device=cpu", "execution.threads=1", "execution.memory_format=channels_last"]
    spec = override(load_study(STUDY), epochs=epochs, sets=sets)
    point = RandomSearcher(spec.parsed_space, spec.seed).suggest(run)
    config = spec.trial_config(point.tree)
    configure_process(config.execution)
    results = list(build_trainable(config, cache).epochs())
    kept = [r for r in results if math.isfinite(r.val_accuracy) and r.stop_reason != "diverged"]
    return {
        "run": run, "values": json.dumps(point.values), "val_accuracy": [r.val_accuracy for r in kept],
        "seconds": [r.seconds for r in kept],
    }  # fmt: skip


def save(rows: list[dict[str, Any]]) -> None:
    """Replace the file as a whole, so that an interrupt leaves the one before."""
    partial = FILE.with_suffix(".partial")
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), partial, compression="zstd")
    os.replace(partial, FILE)


def main() -> None:
    """Record what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=27)
    arguments = parser.parse_args()
    rows = pq.read_table(FILE).to_pylist() if FILE.exists() else []
    done = {row["run"] for row in rows}
    started = time.monotonic()
    for count, run in enumerate((n for n in range(arguments.runs) if n not in done), 1):
        rows.append(record(run, arguments.epochs, default_cache()))
        if count % SAVE_EVERY == 0:
            save(rows)
            last = rows[-1]["val_accuracy"][-1:]
            print(f"{len(rows)} of {arguments.runs} runs, {time.monotonic() - started:.0f} s, last {last}", flush=True)
    save(rows)


if __name__ == "__main__":
    main()
