"""What a GPU can do for CIFAR ResNets, and what of it is worth its code.

    python -m benchmarks.gpu [--minutes 9] [--repeats 3] [--quick] [--device cpu]

Prints a table of images a second, each row side by side with the tutorial way (PIL transforms in a DataLoader, eager
float32, `.item()` every step): (a) one ResNet-110 and (b) 16 ResNet-20 at once, the latter in these ways: processes
that share the GPU, with their steps captured as CUDA graphs, and through NVIDIA's MPS where its daemon can be started;
one process with a captured graph a trial, each on its own stream; and all trials as one network (horizontal fusion:
Wang et al., HFTA, MLSys 2021), as `resources.fuse` does it, and the same captured. All but the tutorial and the rows
named otherwise are in bfloat16 and channels-last.

It ends with a line for each decision: the ratio of the two ways and what follows from it. A way must win by more than
5 % in every repeat to be worth its code. Needs torch and torchvision alone. Where there is no CUDA, steps are not
captured and the figures say nothing: that is for trying the script out. Asserts nothing.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.gpu_trials import Trials, flops_per_image, limits, rate, settle, tutorial_rate, wait

__all__ = ["RULES", "Rule", "verdict"]

PATIENCE = 90.0  # seconds for processes to start and to measure
WORTH = 1.05  # what the ratio of every repeat must be above
DAEMON = "nvidia-cuda-mps-control"

Rates = Mapping[int, float]  # images a second, by the number of the repeat


@dataclass(frozen=True)
class Rule:
    """A decision: whether `way` is worth its code beside `against`, and what to do if it is and if it is not."""

    name: str
    way: str
    against: str
    wins: str
    loses: str


ONE = ("tutorial", "eager fp32", "eager bf16", "eager bf16 contiguous", "graph bf16", "compiled graph bf16")
MANY = ("tutorial", "processes", "processes, MPS", "processes, graph", "streams, graph", "fused", "fused, graph")
RULES = (
    Rule("bfloat16 against float32", "eager bf16", "eager fp32",
         "keep bfloat16 as what execution.precision: auto is", "delete it: auto is fp32 on GPUs"),
    Rule("channels-last against contiguous", "eager bf16", "eager bf16 contiguous",
         "keep channels-last as what execution.memory_format: auto is", "delete it: auto is contiguous on GPUs"),
    Rule("CUDA graph against eager, one deep network", "graph bf16", "eager bf16",
         "build it: a graph for each shape of a trial", "build no graphs for deep networks"),
    Rule("CUDA graph against eager, many small networks", "processes, graph", "processes",
         "build it: a graph for each shape of a trial", "build no graphs for small networks"),
    Rule("torch.compile and graph against graph", "compiled graph bf16", "graph bf16",
         "keep execution.compile, and build it with graphs", "delete execution.compile on GPUs"),
    Rule("fused against processes", "fused", "processes",
         "keep resources.fuse, and make it the default where it can be done", "delete resources.fuse"),
    Rule("fused graph against processes with graphs", "fused, graph", "processes, graph",
         "build fused graphs rather than one for each trial", "build no fused graphs"),
    Rule("MPS against plain processes", "processes, MPS", "processes",
         "build it: start MPS with the search", "build nothing for MPS"),
    Rule("streams against processes, both with graphs", "streams, graph", "processes, graph",
         "build it: the trials of a GPU in one process, a stream each", "build no streams"),
)  # fmt: skip


def verdict(rule: Rule, ours: Rates, theirs: Rates) -> str:
    """`decision: ratio median (lowest to highest) of n repeats -> what to do`, from the repeats that both ways have."""
    found = sorted(ours[repeat] / theirs[repeat] for repeat in ours.keys() & theirs.keys())
    if not found:
        return f"{rule.name}: not measured -> stays as it is"
    repeats = f"{len(found)} repeat{'s' * (len(found) > 1)}"
    follows = rule.wins if found[0] > WORTH else rule.loses
    return f"{rule.name}: {statistics.median(found):.2f} x ({found[0]:.2f} to {found[-1]:.2f}), {repeats} -> {follows}"


def _process(kind: str, batch: int, seconds: float, device: str, workers: int, ready: Any, told: Any) -> None:
    settle()
    place = torch.device(device)
    trial = None if kind == "tutorial" else Trials(20, 1, batch, place, place.type == "cuda")
    if trial is not None and "graph" in kind:
        trial.capture()
    wait(place)
    ready.wait()
    if trial is None:
        told.put(tutorial_rate(20, batch, seconds, place, workers))
    else:
        told.put(rate(trial.run, batch, seconds, place))
    ready.wait()  # nobody ends while another measures


def processes_rate(kind: str, count: int, batch: int, seconds: float, device: torch.device) -> float:
    """Images a second of `count` processes together.

    Raises:
        RuntimeError: if one of them ends early, or takes too long.
    """
    context = torch.multiprocessing.get_context("spawn")
    ready, told = context.Barrier(count, timeout=PATIENCE), context.Queue()
    workers = (os.cpu_count() or 1) // count if kind == "tutorial" else 0
    arguments = (kind, batch, seconds, str(device), workers, ready, told)
    processes = [context.Process(target=_process, args=arguments) for _ in range(count)]
    for process in processes:
        process.start()
    rates: list[float] = []
    deadline = time.perf_counter() + PATIENCE
    try:
        while len(rates) < count:
            if any(process.exitcode for process in processes) or time.perf_counter() > deadline:
                raise RuntimeError("a process failed, or took too long to start")
            try:
                rates.append(told.get(timeout=1))
            except queue.Empty:
                continue
        for process in processes:
            process.join(PATIENCE)
    finally:
        for process in processes:
            process.kill()
    return sum(rates)


@contextmanager
def mps() -> Iterator[None]:
    """NVIDIA's Multi-Process Service, for processes that are started inside.

    Raises:
        RuntimeError: where there is none.
    """
    if shutil.which(DAEMON) is None:
        raise RuntimeError(f"no {DAEMON}")
    subprocess.run([DAEMON, "-d"], check=True)
    try:
        yield
    finally:
        subprocess.run([DAEMON], input="quit\n", text=True, check=True)


@dataclass(frozen=True)
class Bench:
    """What is measured: networks, batch, how many at once, and for how long; built trials are used again.

    Attributes:
        depth: of the single network.
        batch: images a step and network.
        count: of the small networks.
        seconds: of a measurement, once it is warm.
        device: where.
        built: trials of this process, by the way they are trained in.
    """

    depth: int
    batch: int
    count: int
    seconds: float
    device: torch.device
    built: dict[str, list[Trials]] = field(default_factory=dict)

    def one(self, way: str) -> float:
        """Images a second of a single network."""
        if way == "tutorial":
            workers = min(8, os.cpu_count() or 1) if self.device.type == "cuda" else 0
            return tutorial_rate(self.depth, self.batch, self.seconds, self.device, workers)
        if way not in self.built:
            layout = torch.contiguous_format if "contiguous" in way else torch.channels_last
            trial = Trials(self.depth, 1, self.batch, self.device, "bf16" in way, layout)
            if "compiled" in way:
                trial.network = torch.compile(trial.models[0])
                trial.step()
            self.built[way] = [trial.capture() if "graph" in way else trial]
        return rate(self.built[way][0].run, self.batch, self.seconds, self.device)

    def many(self, way: str) -> float:
        """Images a second of many small networks together."""
        if way == "processes, MPS":
            with mps():
                return processes_rate(way, self.count, self.batch, self.seconds, self.device)
        if way == "tutorial" or way.startswith("processes"):
            return processes_rate(way, self.count, self.batch, self.seconds, self.device)
        if way not in self.built:
            processes, networks = (self.count, 1) if way.startswith("streams") else (1, self.count)
            bf16 = self.device.type == "cuda"
            trials = [Trials(20, networks, self.batch, self.device, bf16) for _ in range(processes)]
            self.built[way] = [trial.capture() if "graph" in way else trial for trial in trials]
        return rate(self._on_streams(self.built[way]), self.count * self.batch, self.seconds, self.device)

    def _on_streams(self, trials: Sequence[Trials]) -> Callable[[], None]:
        """A step of each, several of them on a stream of their own."""
        own = len(trials) > 1 and self.device.type == "cuda"
        streams = [torch.cuda.Stream() if own else None for _ in trials]

        def step() -> None:
            for trial, stream in zip(trials, streams, strict=True):
                with torch.cuda.stream(stream):  # type: ignore[arg-type]
                    trial.run()

        return step


def measured(
    groups: Sequence[tuple[Callable[[str], float], Sequence[str]]], repeats: int, deadline: float
) -> tuple[list[dict[str, dict[int, float]]], dict[str, str]]:
    """The rates of every way, group by group, and why a way has none; ways take turns, the last repeats may not fit."""
    found: list[dict[str, dict[int, float]]] = [{way: {} for way in ways} for _, ways in groups]
    failed: dict[str, str] = {}
    took: dict[tuple[int, str], float] = {}
    for repeat in range(repeats):
        for group, (measure, ways) in enumerate(groups):
            for way in ways if repeat % 2 == 0 else reversed(ways):
                started = time.perf_counter()
                if way in failed or started + took.get((group, way), 0.0) > deadline:
                    continue
                try:
                    found[group][way][repeat] = measure(way)
                except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                    failed[way] = str(error).partition("\n")[0] or type(error).__name__
                took[group, way] = time.perf_counter() - started
    return found, failed


def row(what: str, way: str, rates: Rates, tutorial: Rates, flops: float, why: str) -> str:
    """A line of the table; `flops` is what an image takes of the machine's limit, 1 / (images a second)."""
    if not rates:
        return f"| {what} | {way} | left out: {why} | | |"
    pairs = [rates[repeat] / tutorial[repeat] for repeat in rates.keys() & tutorial.keys()]
    times = f"{statistics.median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})" if pairs else ""
    middle, lowest, highest = statistics.median(rates.values()), min(rates.values()), max(rates.values())
    return f"| {what} | {way} | {middle:,.0f} ({lowest:,.0f} to {highest:,.0f}) | {times} | {middle * flops:.1%} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=9.0, help="at most; measurements that do not fit are left out")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small networks, half a second a measurement, one repeat")
    arguments = parser.parse_args()
    deadline = time.perf_counter() + arguments.minutes * 60
    device, quick = torch.device(arguments.device), arguments.quick
    is_gpu = device.type == "cuda"
    settle()
    bench = Bench(8, 4, 2, 0.5, device) if quick else Bench(110, 128, 16, 4.0, device)
    product, copied = limits(device, 256 if quick else 8192)
    name = torch.cuda.get_device_name() if is_gpu else "CPU (says nothing about a GPU)"
    print(f"{name}, {os.cpu_count()} cores, torch {torch.__version__}; limits: {product / 1e12:.1f} TFLOP/s in "
          f"bf16 products, {copied / 1e9:.0f} GB/s copied\n", flush=True)  # fmt: skip
    one = ONE[:-1] if quick else ONE  # it takes a minute to compile
    repeats = 1 if quick else arguments.repeats
    found, failed = measured([(bench.one, one), (bench.many, MANY)], repeats, deadline)
    print("| what | way | images/s, median (lowest to highest) | times the tutorial | share of bf16 limit |")
    print("| --- | --- | --- | --- | --- |")
    names = (f"(a) one ResNet-{bench.depth}", f"(b) {bench.count} ResNet-20 at once")
    for what, depth, ways in zip(names, (bench.depth, 20), found, strict=True):
        flops = flops_per_image(depth) / product
        for way, rates in ways.items():
            print(row(what, way, rates, ways["tutorial"], flops, failed.get(way, "no time")))
    print(f"\nWorth its code is what is more than {WORTH - 1:.0%} faster in every repeat"
          f"{'' if is_gpu else '; on a CPU these lines only show their form'}:\n")  # fmt: skip
    rates = {way: values for ways in found for way, values in ways.items() if way != "tutorial"}
    for rule in RULES:
        print(verdict(rule, rates.get(rule.way, {}), rates.get(rule.against, {})))


if __name__ == "__main__":
    main()
