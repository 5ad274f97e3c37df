"""Images a second: one trial, and several at once, against the tutorial way.

    python -m benchmarks.throughput [--repeats 3] [--only cifar|digits|many]

Both sides train the same network on the same images, with the same recipe, batch and threads, each in processes of
their own that take turns. `whole` is the wall time of a process from its start to its end: imports, the first epoch's
warm-up and the evaluation after every epoch included (this project's also measures training accuracy and F1). `steady`
counts training images over training time in the median epoch but the first. Where a side has all cores, the tutorial
runs with and without worker processes in its DataLoader, and the faster of the two counts. Prints tables, asserts
nothing.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.machine import copy_limit, describe, product_limit, ratios, step_demand
from benchmarks.sides import Case, Side, Task, cifar, digits, prepare_sides, watch
from trainables.precision import cpu_multiplies_bf16


def loader_workers(case: Case, threads: int) -> int:
    """How many DataLoader workers make the tutorial faster, where it has all cores: none or one a core."""
    cores = os.cpu_count() or 1
    if threads < cores:
        return 0  # workers would take cores that the other side leaves free
    brief = replace(case, task=replace(case.task, epochs=2))
    tried = {workers: watch([brief.tutorial(threads, workers)], threads).steady for workers in (0, cores)}
    print("tutorial with " + ", ".join(f"{n} DataLoader workers {rate:,.0f} images/s" for n, rate in tried.items()))
    return max(tried, key=lambda workers: tried[workers])


def turns(case: Case, repeats: int, threads: int, processes: int) -> list[tuple[Side, Side]]:
    """(ours, tutorial's) of every repeat, in alternating order, told line by line."""
    workers = loader_workers(case, threads)
    print(
        "\n| repeat | side | whole, s | steady, images/s | from report to report, s |\n| --- | --- | --- | --- | --- |"
    )
    pairs = []
    for repeat in range(repeats):
        sides: dict[str, Side] = {}
        for name in ("ours", "tutorial") if repeat % 2 == 0 else ("tutorial", "ours"):
            commands = [
                case.ours(threads, seed) if name == "ours" else case.tutorial(threads, workers, seed)
                for seed in range(processes)
            ]
            side = sides[name] = watch(commands, threads)
            print(
                f"| {repeat + 1} | {name} | {side.wall:.1f} | {side.steady:,.0f} | {side.between_epochs:.2f} |",
                flush=True,
            )
        pairs.append((sides["ours"], sides["tutorial"]))
    return pairs


def compare(title: str, task: Task, repeats: int, threads: int, processes: int = 1) -> None:
    """One row of the summary, with the runs that it comes from."""
    print(f"\n### {title}\n\n{processes} process(es) a side, {threads} thread(s) each, batch {task.batch_size}, "
          f"{task.epochs} epochs\n")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        pairs = turns(prepare_sides(task, Path(folder)), repeats, threads, processes)
    print(f"\nsteady: {ratios([(ours.steady, theirs.steady) for ours, theirs in pairs])}; "
          f"whole: {ratios([(theirs.wall, ours.wall) for ours, theirs in pairs])}; "
          f"report to report: {ratios([(t.between_epochs, o.between_epochs) for o, t in pairs])}")  # fmt: skip
    best = max(ours.steady for ours, _ in pairs)
    _share_of_limits(task, best, threads * processes)


def _share_of_limits(task: Task, images_per_second: float, threads: int) -> None:
    bf16 = cpu_multiplies_bf16()
    dtype = torch.bfloat16 if bf16 else torch.float32
    flops, nbytes = step_demand(task.depth, 8 if task.source == "digits" else 32, task.batch_size, 10, bf16)
    product, copy = product_limit(dtype, threads), copy_limit(threads)
    print(f"share of this machine's limits: arithmetic {flops * images_per_second / product:.1%} of "
          f"{product / 1e9:,.0f} GFLOP/s ({dtype}, {flops / 1e6:.1f} MFLOP an image), memory "
          f"{nbytes * images_per_second / copy:.0%} of {copy / 1e9:.1f} GB/s ({nbytes / 1e6:.2f} MB an image)",
          flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--train-samples", type=int, default=5_000)
    parser.add_argument("--only", choices=["cifar", "digits", "many"])
    arguments = parser.parse_args()
    cores = os.cpu_count() or 1
    print(describe())
    task = cifar(20, arguments.epochs, arguments.train_samples, 1_000)
    if arguments.only in (None, "cifar"):
        compare("One trial: ResNet-20 on CIFAR-10", task, arguments.repeats, cores)
    if arguments.only in (None, "digits"):
        compare("One trial: ResNet-8 on digits", digits(2 * arguments.epochs), arguments.repeats, 1)
    if arguments.only in (None, "many"):
        fewer = cifar(20, 3, arguments.train_samples, 1_000)
        compare(f"{cores} trials at once: ResNet-20 on CIFAR-10", fewer, arguments.repeats, 1, cores)


if __name__ == "__main__":
    main()
