"""Whether settings that are good for a small ResNet are good for a deeper one, and whether its learning rate should be
carried over by depth^(-3/2) (`search.study.proxy`) or stay as it is.

    python -m benchmarks.proxy_transfer digits_resnet8 --depths 8 20 --epochs 9
    python -m benchmarks.proxy_transfer cifar10_resnet20 --data 'parquet:$RESNET_SEARCH_DATA/cifar10_jpeg' \\
        --depths 8 20 --epochs 10 --set data.train_samples=2000 --set data.val_samples=1000 --set data.resolution=16

Random configurations of a study with SGD, one in each of as many equal parts of the learning rate's range, are trained
three times each: small, deep, and deep at the carried rate. Each run is a line of the file named by --to; the same
command continues. Prints the rank correlations between small and deep, and the differences between the rates.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.machine import describe, processor
from search.algorithms.searchers.random import RandomSearcher
from search.study.overrides import override
from search.study.parse import study_tree
from search.study.proxy import scaled_rate
from search.study.spec import StudySpec
from trainables.config import CifarResNet, merge, parse_config
from trainables.data.images import load_splits
from trainables.data.store import default_cache
from trainables.training.execution import configure_process
from trainables.training.loop import Run

RESAMPLES = 10_000
WAYS = ("small", "deep", "carried")


def configs(spec: StudySpec, number: int) -> list[dict[str, Any]]:
    """Draws of the space, their learning rates spread evenly over the logarithm of its range."""
    searcher, key = RandomSearcher(spec.parsed_space, spec.seed), "optimizer.lr"
    low, high = (getattr(spec.parsed_space.domains()[key], end) for end in ("low", "high"))
    points = [point.tree for run in range(number) if (point := searcher.suggest(run)) is not None]
    shares = (np.random.default_rng(spec.seed).permutation(number) + 0.5) / number
    rates = low * (high / low) ** shares
    return [merge(tree, {"optimizer": {"lr": float(rate)}}) for tree, rate in zip(points, rates, strict=True)]


def trained(spec: StudySpec, tree: dict[str, Any], way: str, depths: tuple[int, int], seed: int) -> dict[str, Any]:
    """One run; its last validation accuracy and loss."""
    small, deep = (CifarResNet(depth=depth) for depth in depths)
    rate = tree["optimizer"]["lr"] if way != "carried" else scaled_rate(tree["optimizer"]["lr"], small, deep)
    depth = depths[way != "small"]
    whole = spec.trial_config(merge(tree, {"model": {"depth": depth}, "optimizer": {"lr": rate}}))
    config = parse_config({**whole.model_dump(mode="json"), "seed": seed})
    configure_process(config.execution)
    *_, last = Run(config, load_splits(config.data, default_cache())).epochs()
    learned = last.stop_reason != "diverged"
    return {"lr": rate, "accuracy": last.val_accuracy if learned else 0.1, "loss": last.val_loss if learned else None}


def interval(values: np.ndarray, statistic: Any) -> str:
    """`value [low, high]` with a 95 % bootstrap interval over the rows, which are configurations."""
    generator, rows = np.random.default_rng(0), len(values)
    drawn = [statistic(values[generator.integers(rows, size=rows)]) for _ in range(RESAMPLES)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return f"{statistic(values):.2f} [{low:.2f}, {high:.2f}]"


def report(rows: list[dict[str, Any]], top: int) -> None:
    """Print what the complete configurations say; seeds are averaged."""
    cells: dict[tuple[int, str], list[float]] = {}
    for row in rows:
        cells.setdefault((row["config"], row["way"]), []).append(100 * row["accuracy"])
    whole = [number for number in sorted({n for n, _ in cells}) if all((number, way) in cells for way in WAYS)]
    table = np.array([[np.mean(cells[number, way]) for way in WAYS] for number in whole])
    rates = {row["config"]: row["lr"] for row in rows if row["way"] == "small"}
    print("| learning rate | small, % | deep, same rate, % | deep, carried rate, % |\n| ---: | ---: | ---: | ---: |")
    for number, cell in sorted(zip(whole, table, strict=True), key=lambda pair: rates[pair[0]]):
        print(f"| {rates[number]:.3f} | {' | '.join(f'{value:.1f}' for value in cell)} |")
    for column, name in ((1, "same rate"), (2, "carried rate")):
        rho = interval(table, lambda drawn, column=column: spearmanr(drawn[:, 0], drawn[:, column]).statistic)
        print(f"rank correlation between small and deep, {name}: {rho}")
    print(f"carried - same, points: {interval(table, lambda drawn: np.mean(drawn[:, 2] - drawn[:, 1]))}")
    best = table[np.argsort(-table[:, 0])[:top]]
    print(f"the same for the {top} best of the small: {interval(best, lambda d: np.mean(d[:, 2] - d[:, 1]))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="as `search.run` takes it; its learning rate is searched")
    parser.add_argument("--data", type=os.path.expandvars)
    parser.add_argument("--depths", type=int, nargs=2, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--set", action="append", default=[], help="as for `search.run`")
    parser.add_argument("--configs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--to", type=Path, default=Path("proxy_transfer.jsonl"))
    given = parser.parse_args()
    print(describe(), flush=True)
    sets = ["optimizer.kind=sgd", "execution.threads=1", "execution.device=cpu", "data.train_eval_samples=1"]
    spec = override(study_tree(given.study), data=given.data, epochs=given.epochs, sets=[*sets, *given.set])
    rows = [json.loads(line) for line in given.to.read_text().splitlines()] if given.to.exists() else []
    done = {(row["seed"], row["config"], row["way"]) for row in rows}
    for seed in range(given.seeds):
        for number, tree in enumerate(configs(spec, given.configs)):
            for way in WAYS:
                if (seed, number, way) not in done:
                    found = trained(spec, tree, way, tuple(given.depths), seed)
                    rows.append({"seed": seed, "config": number, "way": way, **found, "machine": processor()})
                    with given.to.open("a") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
    report(rows, given.configs // 3)


if __name__ == "__main__":
    main()
