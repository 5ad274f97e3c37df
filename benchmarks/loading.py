"""Images on their way to a trial: preparing them, reading batches, and the memory of eight trials on one machine.

    python -m benchmarks.loading [--repeats 3] [--trials 8]

Preparation decodes all of CIFAR-10's files into the store, against decoding them one by one with PIL into an array, as
a dataset class does; the store is prepared once, the array again in every process. Reading takes random batches of 128
from the store, against a DataLoader whose items go through PIL without any transform but `ToTensor`. Memory is what the
kernel charges a process for (proportional set size: a page that n share counts 1/n), all processes with all training
images read, less what the same processes take before. Prints tables, asserts nothing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms

from benchmarks.machine import describe, ratios
from benchmarks.sides import Task, cifar, digits, prepare_sides
from benchmarks.tutorial import Arrays
from trainables.data.images import load_splits
from trainables.data.store import prepare

MB = 1e6


def prepared_by_us(task: Task) -> tuple[float, float]:
    """Pixels in MB and seconds of preparing a store from nothing."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        store = prepare(task.config(1).data, Path(folder))
        return sum(store.nbytes[f"{split}.arrow"] for split in ("train", "val", "test")) / MB, (
            time.perf_counter() - started
        )


def decoded_by_pil(path: Path) -> tuple[float, float]:
    """The same of reading the files' images one by one."""
    import io

    import pyarrow.parquet

    started = time.perf_counter()
    images: list[np.ndarray] = []
    for file in sorted(path.glob("*.parquet")):
        rows = pyarrow.parquet.read_table(file).column("img").to_pylist()
        images += [np.asarray(Image.open(io.BytesIO(row["bytes"])).convert("RGB")) for row in rows]
    pixels = np.stack(images)
    return pixels.nbytes / MB, time.perf_counter() - started


def read_by_us(task: Task, cache: Path) -> float:
    """MB of pixels a second, in random batches, on their way to float32."""
    images = load_splits(task.config(1).data, cache).train
    started = time.perf_counter()
    for indices in torch.randperm(len(images)).split(128):
        images.batch(indices).float().div_(255)
    return _megabytes(len(images)) / (time.perf_counter() - started)


def read_by_loader(path: Path) -> float:
    """The same of a DataLoader in this process."""
    with np.load(path) as file:
        images = Arrays(file["train_pixels"], file["train_labels"], transforms.ToTensor())
    started = time.perf_counter()
    for _ in DataLoader(images, 128, shuffle=True):
        pass
    return _megabytes(len(images)) / (time.perf_counter() - started)


def _megabytes(images: int) -> float:
    return images * 3 * 32 * 32 / MB


def _proportional() -> float:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / MB
    return float("nan")


def _resident_trial(task: Task, place: Path, ours: bool, barrier: Barrier, told: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    few = load_splits(digits(1).config(1).data, place if ours else place.parent / "cache").train
    few.batch(torch.arange(len(few))).max()  # so that the code is in memory before the images are
    barrier.wait()
    before = _proportional()
    barrier.wait()
    if ours:
        images = load_splits(task.config(1).data, place).train
        if images.pixels is None:
            raise SystemExit("must be stored as pixels")
        for part in images.pixels.split(1024):
            part.max()  # which copies nothing
    else:
        with np.load(place) as file:
            arrays = {name: file[name] for name in ("train_pixels", "train_labels")}
        assert arrays
    barrier.wait()
    told.put(_proportional() - before)
    barrier.wait()


def added_memory(task: Task, place: Path, ours: bool, trials: int) -> float:
    """MB that the images add to `trials` processes together."""
    context = multiprocessing.get_context("spawn")
    barrier, told = context.Barrier(trials), context.Queue()
    processes = [
        context.Process(target=_resident_trial, args=(task, place, ours, barrier, told)) for _ in range(trials)
    ]
    for process in processes:
        process.start()
    total = sum(told.get() for _ in processes)
    for process in processes:
        process.join()
    return float(total)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--trials", type=int, default=8)
    arguments = parser.parse_args()
    print(describe())
    whole = cifar(20, 1, None, None)
    if not whole.source.startswith("parquet:"):
        print("left out: set RESNET_SEARCH_DATA to a folder with cifar10_jpeg/*.parquet")
        return
    preparations, readings = [], []
    with tempfile.TemporaryDirectory() as folder:
        case = prepare_sides(whole, Path(folder))
        prepare_sides(digits(1), Path(folder))
        print("\n| repeat | preparing, MB/s of pixels | one by one with PIL | reading batches, MB/s | DataLoader |")
        print("| --- | --- | --- | --- | --- |")
        for repeat in range(arguments.repeats):
            (size, seconds), (pil_size, pil_seconds) = (
                prepared_by_us(whole),
                decoded_by_pil(Path(whole.source.split(":")[1])),
            )
            preparations.append((size / seconds, pil_size / pil_seconds))
            readings.append((read_by_us(whole, case.cache), read_by_loader(case.images)))
            cells = [*preparations[-1], *readings[-1]]
            print(f"| {repeat + 1} | {' | '.join(f'{cell:,.0f}' for cell in cells)} |", flush=True)
        print(f"\npreparing: {ratios(preparations)}; reading: {ratios(readings)}")
        size = (case.cache / prepare(whole.config(1).data, case.cache).fingerprint / "train.arrow").stat().st_size / MB
        together = added_memory(whole, case.cache, True, arguments.trials)
        copies = added_memory(whole, case.images, False, arguments.trials)
        print(f"\nmemory that {size:,.0f} MB of training images add to {arguments.trials} processes together: "
              f"{together:,.0f} MB, with an array in each process {copies:,.0f} MB")  # fmt: skip


if __name__ == "__main__":
    main()
