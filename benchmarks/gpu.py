"""What a GPU can do for CIFAR ResNets, in one file that needs torch and torchvision alone.

    python gpu.py [--minutes 8] [--quick] [--device cpu]

Prints a table of images a second, each row side by side with the tutorial way (PIL transforms in a DataLoader, eager
float32, `.item()` every step): (a) one ResNet-110 and (b) 16 ResNet-20 at once, the latter in these ways: processes
that share the GPU, through NVIDIA's MPS where its daemon can be started; one process with a captured CUDA graph a
trial, each on its own stream; and all trials as one network (horizontal fusion: Wang et al., HFTA, MLSys 2021), as
`resources.fuse` does it, and the same captured. The images are random, since their content changes no time. Where there
is no CUDA, steps are not captured and the figures say nothing: that is for trying the script out. Asserts nothing.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, Dataset

IMAGES, CLASSES, SIDE, PAD = 5_000, 10, 32, 4
PATIENCE = 90.0  # seconds for processes to start and to measure


class ResNet(nn.Module):
    """A CIFAR ResNet (He et al. 2015, option A)."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.blocks, inputs = nn.ModuleList(), 16
        for width in (16, 32, 64):
            for _ in range((depth - 2) // 6):
                first = nn.Conv2d(inputs, width, 3, width // inputs, 1, bias=False)
                second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
                self.blocks.append(nn.ModuleList([first, nn.BatchNorm2d(width), second, nn.BatchNorm2d(width)]))
                inputs = width
        self.head = nn.Linear(64, CLASSES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Logits [b, classes] of images [b, 3, h, w]."""
        x = F.relu(self.stem_norm(self.stem(images)), inplace=True)
        for conv1, norm1, conv2, norm2 in self.blocks:  # type: ignore[misc]
            out = norm2(conv2(F.relu(norm1(conv1(x)), inplace=True)))
            if out.shape[1] != x.shape[1]:
                half = (out.shape[1] - x.shape[1]) // 2
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, half))
            x = F.relu(out + x, inplace=True)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class Trials:
    """Networks trained in one process, step by step: one as usual, several as one network with stacked parameters.

    A step touches nothing outside the device, so that it can be captured.

    Args:
        depth, count: of the networks.
        batch: images a step and network.
        device: where.
        bf16: whether convolutions are done in bfloat16.
    """

    def __init__(self, depth: int, count: int, batch: int, device: torch.device, bf16: bool) -> None:
        self.batch, self.device, self.bf16 = batch, device, bf16
        self.models = [ResNet(depth).to(device, memory_format=torch.channels_last) for _ in range(count)]  # type: ignore[call-overload]
        self.network: Callable[[Tensor], Tensor] = self.models[0]
        self.optimizers = [
            torch.optim.SGD(model.parameters(), lr=0.05 + 0.01 * number, momentum=0.9, weight_decay=5e-4, fused=True)
            for number, model in enumerate(self.models)
        ]
        self.pixels, self.labels = random_images(device)
        self.orders = [torch.randperm(IMAGES).to(device) for _ in self.models]
        self.at = torch.zeros((), dtype=torch.int64, device=device)
        self.losses = torch.zeros(count, device=device)
        self.graph: Any = None

    def batch_of(self, order: Tensor) -> tuple[Tensor, Tensor]:
        """The next images of a network, cropped and mirrored one by one: float [b, 3, h, w], int64 [b]."""
        rows = order[(self.at + torch.arange(self.batch, device=self.device)) % IMAGES]
        padded = F.pad(self.pixels[rows], (PAD, PAD, PAD, PAD))
        top, left = torch.randint(2 * PAD + 1, (2, self.batch, 1), device=self.device).unbind()
        across = torch.arange(SIDE, device=self.device).expand(self.batch, SIDE)
        across = torch.where(torch.rand(self.batch, 1, device=self.device) < 0.5, SIDE - 1 - across, across) + left
        down = torch.arange(SIDE, device=self.device) + top
        each = torch.arange(self.batch, device=self.device)
        crops = padded.permute(0, 2, 3, 1)[each[:, None, None], down[:, :, None], across[:, None, :]]
        return crops.permute(0, 3, 1, 2).float().div_(127.5).sub_(1), self.labels[rows]

    def logits(self, images: list[Tensor]) -> list[Tensor]:
        """Of each network, [b, classes]."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16, cache_enabled=False):
            if len(images) == 1:
                return [self.network(images[0]).float()]
            parameters, buffers = (
                {name: torch.stack([tensors[name] for tensors in each]) for name in each[0]}
                for each in (
                    [dict(model.named_parameters()) for model in self.models],
                    [dict(model.named_buffers()) for model in self.models],
                )
            )
            forward = torch.vmap(lambda p, b, x: functional_call(self.models[0], (p, b), (x,)))
            stacked: Tensor = forward(parameters, buffers, torch.stack(images))
        with torch.no_grad():
            floats = [name for name, buffer in buffers.items() if buffer.is_floating_point()]
            own = [model.get_buffer(name) for name in floats for model in self.models]
            torch._foreach_copy_(own, [one for name in floats for one in buffers[name].unbind()])
        return list(stacked.float().unbind())

    def step(self) -> None:
        """One step of SGD of each network."""
        batches = [self.batch_of(order) for order in self.orders]
        self.at += self.batch
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        logits = self.logits([images for images, _ in batches])
        losses = torch.stack([F.cross_entropy(one, labels) for one, (_, labels) in zip(logits, batches, strict=True)])
        losses.sum().backward()  # type: ignore[no-untyped-call]
        for optimizer in self.optimizers:
            optimizer.step()
        self.losses.copy_(losses.detach())

    def capture(self) -> Trials:
        """Record the step as a CUDA graph; without CUDA the step stays as it is."""
        if self.device.type == "cuda":
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):
                    self.step()
            torch.cuda.current_stream().wait_stream(stream)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.step()
        return self

    def run(self) -> None:
        """A step, replayed where it was captured."""
        if self.graph is None:
            self.step()
        else:
            self.graph.replay()


def random_images(device: torch.device) -> tuple[Tensor, Tensor]:
    """Uint8 [n, 3, h, w] and int64 [n], the same in every process."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (IMAGES, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    return pixels.to(device), torch.randint(CLASSES, (IMAGES,), generator=generator).to(device)


def wait(device: torch.device) -> None:
    """Until the device has done what was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def rate(work: Callable[[], object], images: int, seconds: float, device: torch.device) -> float:
    """Images a second of `work`, which handles `images`, after a warm-up."""
    for _ in range(3):
        work()
    wait(device)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        for _ in range(5):
            work()
        wait(device)
        count += 5
    return count * images / (time.perf_counter() - started)


class TutorialImages(Dataset[tuple[Tensor, int]]):
    """Uint8 [n, h, w, 3] and labels, changed one by one."""

    def __init__(self, pixels: Tensor, labels: Tensor, change: Callable[[Any], Tensor]) -> None:
        self.pixels, self.labels, self.change = pixels, labels, change

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One image, and its label."""
        return self.change(self.pixels[index].numpy()), int(self.labels[index])


def tutorial_rate(depth: int, batch: int, seconds: float, device: torch.device, workers: int) -> float:
    """Images a second of the tutorial way."""
    from torchvision import transforms

    pixels, labels = random_images(torch.device("cpu"))
    change = transforms.Compose([
        transforms.ToPILImage(), transforms.RandomCrop(SIDE, PAD), transforms.RandomHorizontalFlip(),
        transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3),
    ])  # fmt: skip

    images_of = TutorialImages(pixels.permute(0, 2, 3, 1).contiguous(), labels, change)
    loader = DataLoader(
        images_of, batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )  # fmt: skip
    model = ResNet(depth).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    started, count, warm = 0.0, 0, False
    while True:
        for number, (images, targets) in enumerate(loader):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images.to(device)), targets.to(device))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss.item()
            count += batch
            if not warm and number == 2:
                warm, started, count = True, time.perf_counter(), 0
            if warm and time.perf_counter() - started > seconds:
                return count / (time.perf_counter() - started)


def _process(kind: str, batch: int, seconds: float, device: str, workers: int, ready: Any, told: Any) -> None:
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = True
    place = torch.device(device)
    trial = None if kind == "tutorial" else Trials(20, 1, batch, place, place.type == "cuda").capture()
    wait(place)
    ready.wait()
    if trial is None:
        told.put(tutorial_rate(20, batch, seconds, place, workers))
    else:
        told.put(rate(trial.run, batch, seconds, place))
    ready.wait()  # nobody ends while another measures


def processes_rate(kind: str, count: int, batch: int, seconds: float, device: torch.device) -> float:
    """Images a second of `count` processes together; `kind` is tutorial or graph."""
    context = torch.multiprocessing.get_context("spawn")
    ready, told = context.Barrier(count, timeout=PATIENCE), context.Queue()
    workers = (os.cpu_count() or 1) // count if kind == "tutorial" else 0
    arguments = (kind, batch, seconds, str(device), workers, ready, told)
    processes = [context.Process(target=_process, args=arguments) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        return sum(float(told.get(timeout=PATIENCE)) for _ in processes)
    finally:
        for process in processes:
            process.join(PATIENCE)
            process.kill()


@contextmanager
def mps() -> Iterator[None]:
    """NVIDIA's Multi-Process Service, for processes that are started inside."""
    subprocess.run(["nvidia-cuda-mps-control", "-d"], check=True)
    try:
        yield
    finally:
        subprocess.run(["nvidia-cuda-mps-control"], input="quit\n", text=True, check=True)


def streams_rate(count: int, batch: int, seconds: float, device: torch.device) -> float:
    """Images a second of `count` captured trials in this process, each replayed on its own stream."""
    trials = [Trials(20, 1, batch, device, device.type == "cuda").capture() for _ in range(count)]
    streams = [torch.cuda.Stream() if device.type == "cuda" else None for _ in trials]

    def all_once() -> None:
        for trial, stream in zip(trials, streams, strict=True):
            with torch.cuda.stream(stream):  # type: ignore[arg-type]
                trial.run()

    return rate(all_once, count * batch, seconds, device)


def limits(device: torch.device, size: int) -> tuple[float, float]:
    """FLOP/s of a product of bfloat16 matrices, and bytes a second of a copy."""
    a = torch.randn(size, size, device=device).bfloat16()
    b = torch.empty_like(a)
    product = rate(lambda: torch.mm(a, a, out=b), 1, 1.0, device)
    source = torch.ones(size * size * 4, device=device)
    target = torch.empty_like(source)
    copied = rate(lambda: target.copy_(source), 1, 1.0, device)
    return product * 2 * size**3, copied * 2 * source.nbytes


def flops_per_image(depth: int) -> float:
    """Of a training step, by torch's counter."""
    from torch.utils.flop_counter import FlopCounterMode

    model = ResNet(depth)
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(2, 3, SIDE, SIDE)).sum().backward()
    return counter.get_total_flops() / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=8.0, help="at most; rows that no longer fit are left out")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small networks, a second a row")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    deadline = time.perf_counter() + arguments.minutes * 60
    torch.backends.cudnn.benchmark = True
    depth, batch, count = (8, 16, 2) if arguments.quick else (110, 128, 16)
    seconds, repeats = (0.5, 1) if arguments.quick else (6.0, arguments.repeats)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU (says nothing about a GPU)"
    product, copied = limits(device, 256 if arguments.quick else 8192)
    print(f"{name}, {os.cpu_count()} cores, torch {torch.__version__}; limits: {product / 1e12:.1f} TFLOP/s in "
          f"bf16 products, {copied / 1e9:.0f} GB/s copied")  # fmt: skip
    print()
    workers = 0 if arguments.quick else min(8, os.cpu_count() or 1)

    def one(kind: str) -> float:
        if kind == "tutorial":
            return tutorial_rate(depth, batch, seconds, device, workers)
        trial = Trials(depth, 1, batch, device, "bf16" in kind)
        if "compiled" in kind:
            trial.network = torch.compile(trial.models[0])
            trial.step()
        return rate((trial.capture() if "graph" in kind else trial).run, batch, seconds, device)

    def many(kind: str) -> float:
        if kind == "streams":
            return streams_rate(count, batch, seconds, device)
        if "fused" in kind:
            fused = Trials(20, count, batch, device, device.type == "cuda")
            return rate((fused.capture() if "graph" in kind else fused).run, batch * count, seconds, device)
        if "MPS" in kind:
            with mps():
                return processes_rate("graph", count, batch, seconds, device)
        return processes_rate(kind, count, batch, seconds, device)

    ways = ["tutorial", "graph", *(["graph, MPS"] if shutil.which("nvidia-cuda-mps-control") else [])]
    ways += ["streams", "fused", "fused graph"]
    print("| what | way | images/s, median (lowest to highest) | times the tutorial | share of bf16 limit |")
    print("| --- | --- | --- | --- | --- |")
    singles = ["tutorial", "eager fp32", "eager bf16", "graph fp32", "graph bf16"]
    singles += [] if arguments.quick else ["compiled graph bf16"]
    for what, measure, kinds, network in (
        (f"(a) one ResNet-{depth}", one, singles, depth),
        (f"(b) {count} ResNet-20 at once", many, ways, 20),
    ):
        found: dict[str, list[float]] = {way: [] for way in kinds}
        failed: dict[str, str] = {}
        for repeat in range(repeats):  # taking turns
            for way in kinds if repeat % 2 == 0 else reversed(kinds):
                if way not in failed and time.perf_counter() + 4 * seconds < deadline:
                    try:
                        found[way].append(measure(way))
                    except (RuntimeError, OSError, subprocess.SubprocessError, queue.Empty) as error:
                        failed[way] = str(error).partition("\n")[0] or type(error).__name__
        for way, values in found.items():
            if not values:
                print(f"| {what} | {way} | left out: {failed.get(way, 'no time')} | | |")
                continue
            pairs = [mine / theirs for mine, theirs in zip(values, found["tutorial"], strict=False)]
            times = f"{statistics.median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})" if pairs else ""
            share = statistics.median(values) * flops_per_image(network) / product
            print(f"| {what} | {way} | {statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f}) "
                  f"| {times} | {share:.1%} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
