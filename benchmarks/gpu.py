"""What a GPU can do for CIFAR ResNets, in one file that needs torch and torchvision alone.

    python gpu.py [--minutes 8] [--quick] [--device cpu]

Prints a table of images a second, each row side by side with the tutorial way (PIL transforms in a DataLoader, eager
float32, `.item()` every step): (a) one ResNet-110 and (b) 16 ResNet-20 at once, the latter in three ways: processes
that share the GPU, one process with a captured CUDA graph a trial, each on its own stream, and all trials as one
network with grouped convolutions and a vector of learning rates (horizontal fusion: Wang et al., HFTA, MLSys 2021). The
images are random, since their content changes no time. Where there is no CUDA, steps are not captured and the figures
say nothing: that is for trying the script out. Asserts nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

IMAGES, CLASSES, SIDE, PAD = 5_000, 10, 32, 4


class ResNet(nn.Module):
    """`trials` CIFAR ResNets (He et al. 2015, option A) side by side in the channels; 1 is the usual network."""

    def __init__(self, depth: int, trials: int = 1) -> None:
        super().__init__()
        self.trials = trials
        conv = partial(nn.Conv2d, kernel_size=3, padding=1, bias=False, groups=trials)
        self.stem, self.stem_norm = conv(3 * trials, 16 * trials), nn.BatchNorm2d(16 * trials)
        self.blocks, inputs = nn.ModuleList(), 16
        for width in (16, 32, 64):
            for _ in range((depth - 2) // 6):
                stride = width // inputs
                first = conv(inputs * trials, width * trials, stride=stride)
                norms = [nn.BatchNorm2d(width * trials) for _ in range(2)]
                self.blocks.append(nn.ModuleList([first, norms[0], conv(width * trials, width * trials), norms[1]]))
                inputs = width
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        self.weight = nn.Parameter(torch.randn(trials, 64, CLASSES) * (2 / 64) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(trials, 1, CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        """Logits [trials, b, classes] of images [b, 3 * trials, h, w]."""
        x = F.relu(self.stem_norm(self.stem(images)))
        for conv1, norm1, conv2, norm2 in self.blocks:  # type: ignore[misc]
            out = norm2(conv2(F.relu(norm1(conv1(x)))))
            if out.shape != x.shape:
                b, _, h, w = x[:, :, ::2, ::2].shape
                each = x[:, :, ::2, ::2].reshape(b, self.trials, -1, h, w)
                half = (out.shape[1] // self.trials - each.shape[2]) // 2
                x = F.pad(each, (0, 0, 0, 0, half, half)).reshape(b, -1, h, w)
            x = F.relu(out + x)
        pooled = x.mean((2, 3)).view(len(x), self.trials, 64).transpose(0, 1).float()
        return torch.baddbmm(self.bias, pooled, self.weight)


class Trial:
    """One network, or several fused, whose steps touch nothing outside the device, so that they can be captured.

    Args:
        depth, trials: of the network.
        batch: images a step and trial.
        device: where.
        bf16: whether convolutions are done in bfloat16.
        lr: of each trial.
    """

    def __init__(self, depth: int, trials: int, batch: int, device: torch.device, bf16: bool, lr: list[float]) -> None:
        self.batch, self.device, self.bf16, self.trials = batch, device, bf16, trials
        self.model = ResNet(depth, trials).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network: Callable[[Tensor], Tensor] = self.model
        self.pixels, self.labels = random_images(device)
        self.order = torch.stack([torch.randperm(IMAGES) for _ in range(trials)]).to(device)
        self.at = torch.zeros((), dtype=torch.int64, device=device)
        self.parameters = list(self.model.parameters())
        self.velocity = [torch.zeros_like(p) for p in self.parameters]
        rates = torch.tensor(lr, device=device)
        self.rates = [rates.repeat_interleave(len(p) // trials).view(-1, *[1] * (p.ndim - 1)) for p in self.parameters]
        self.loss = torch.zeros(trials, device=device)
        self.graph: Any = None

    def images(self) -> tuple[Tensor, Tensor]:
        """The next batch of every trial, cropped and mirrored image by image: [b, 3 * trials, h, w], [trials, b]."""
        places = (self.at + torch.arange(self.batch, device=self.device)) % IMAGES
        rows = self.order[:, places]
        self.at += self.batch
        n = rows.numel()
        padded = F.pad(self.pixels[rows.view(-1)], (PAD, PAD, PAD, PAD))
        top, left = torch.randint(2 * PAD + 1, (2, n, 1), device=self.device).unbind()
        across = torch.arange(SIDE, device=self.device).expand(n, SIDE)
        across = torch.where(torch.rand(n, 1, device=self.device) < 0.5, SIDE - 1 - across, across) + left
        down = torch.arange(SIDE, device=self.device) + top
        each = torch.arange(n, device=self.device)
        crops = padded.permute(0, 2, 3, 1)[each[:, None, None], down[:, :, None], across[:, None, :]]
        scaled = crops.float().div_(127.5).sub_(1)
        stacked = scaled.view(self.trials, self.batch, SIDE, SIDE, 3).permute(1, 0, 4, 2, 3)
        images = stacked.reshape(self.batch, 3 * self.trials, SIDE, SIDE)
        return images.contiguous(memory_format=torch.channels_last), self.labels[rows]

    def step(self) -> None:
        """One step of SGD with momentum and weight decay, the learning rate a vector."""
        images, labels = self.images()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16, cache_enabled=False):
            logits = self.network(images)
        losses = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="none")
        losses = losses.view(self.trials, -1).mean(1)
        gradients = list(torch.autograd.grad(losses.sum(), self.parameters))
        with torch.no_grad():
            torch._foreach_add_(gradients, self.parameters, alpha=5e-4)
            torch._foreach_mul_(self.velocity, 0.9)
            torch._foreach_add_(self.velocity, gradients)
            torch._foreach_sub_(self.parameters, torch._foreach_mul(self.velocity, self.rates))
            self.loss.copy_(losses)

    def capture(self) -> Trial:
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


def tutorial_rate(depth: int, batch: int, seconds: float, device: torch.device, workers: int) -> float:
    """Images a second of the tutorial way."""
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    pixels, labels = random_images(torch.device("cpu"))
    arrays = pixels.permute(0, 2, 3, 1).contiguous().numpy()
    change = transforms.Compose([
        transforms.ToPILImage(), transforms.RandomCrop(SIDE, PAD), transforms.RandomHorizontalFlip(),
        transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3),
    ])  # fmt: skip

    class Images(Dataset[tuple[Tensor, int]]):
        def __len__(self) -> int:
            return IMAGES

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return change(arrays[index]), int(labels[index])

    loader = DataLoader(
        Images(), batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )  # fmt: skip
    model = ResNet(depth).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    started, count, warm = 0.0, 0, False
    while True:
        for number, (images, targets) in enumerate(loader):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images.to(device)).flatten(0, 1), targets.to(device))
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
    place = torch.device(device)
    trial = None if kind == "tutorial" else Trial(20, 1, batch, place, place.type == "cuda", [0.1]).capture()
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
    ready, told = context.Barrier(count), context.Queue()
    workers = (os.cpu_count() or 1) // count if kind == "tutorial" else 0
    arguments = (kind, batch, seconds, str(device), workers, ready, told)
    processes = [context.Process(target=_process, args=arguments) for _ in range(count)]
    for process in processes:
        process.start()
    total = sum(float(told.get()) for _ in processes)
    for process in processes:
        process.join()
    return total


def streams_rate(count: int, batch: int, seconds: float, device: torch.device) -> float:
    """Images a second of `count` captured trials in this process, each replayed on its own stream."""
    trials = [Trial(20, 1, batch, device, device.type == "cuda", [0.1]).capture() for _ in range(count)]
    streams = [torch.cuda.Stream() if device.type == "cuda" else None for _ in trials]

    def all_once() -> None:
        for trial, stream in zip(trials, streams, strict=True):
            with torch.cuda.stream(stream):  # type: ignore[arg-type]
                trial.run()

    return rate(all_once, count * batch, seconds, device)


def fused_error(device: torch.device) -> float:
    """The largest relative difference in loss between two trials fused and the same two alone, over three steps."""
    rates = [0.05, 0.2]
    fused = Trial(8, 2, 32, device, False, rates)
    worst = 0.0
    alone = [Trial(8, 1, 32, device, False, [lr]) for lr in rates]
    for number, trial in enumerate(alone):
        for single, both in zip(trial.parameters, fused.parameters, strict=True):
            single.data.copy_(both.data.chunk(2)[number])
        trial.order = fused.order[number : number + 1]
        trial.images = partial(_same_images, trial)  # type: ignore[method-assign]
    fused.images = partial(_same_images, fused)  # type: ignore[method-assign]
    for _ in range(3):
        for trial in (fused, *alone):
            trial.step()
        pairs = zip(fused.loss.tolist(), (trial.loss.item() for trial in alone), strict=True)
        worst = max(worst, *(abs(a - b) / b for a, b in pairs))
    return worst


def _same_images(trial: Trial) -> tuple[Tensor, Tensor]:
    rows = trial.order[:, : trial.batch]
    images = trial.pixels[rows].float().div(127.5).sub(1).transpose(0, 1).flatten(1, 2)
    return images, trial.labels[rows]


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
    print(f"losses of fused trials differ from those of single ones by {fused_error(device):.0e} at most\n")
    workers = 0 if arguments.quick else min(8, os.cpu_count() or 1)

    def one(kind: str) -> float:
        if kind == "tutorial":
            return tutorial_rate(depth, batch, seconds, device, workers)
        trial = Trial(depth, 1, batch, device, "bf16" in kind, [0.1])
        if "compiled" in kind:
            trial.network = torch.compile(trial.model)
            trial.step()
        return rate((trial.capture() if "graph" in kind else trial).run, batch, seconds, device)

    def many(kind: str) -> float:
        if kind == "streams":
            return streams_rate(count, batch, seconds, device)
        if kind == "fused":
            rates = [0.05 + 0.01 * number for number in range(count)]
            fused = Trial(20, count, batch, device, device.type == "cuda", rates).capture()
            return rate(fused.run, batch * count, seconds, device)
        return processes_rate(kind, count, batch, seconds, device)

    print("| what | way | images/s, median (lowest to highest) | times the tutorial | share of bf16 limit |")
    print("| --- | --- | --- | --- | --- |")
    singles = ["tutorial", "eager fp32", "eager bf16", "graph fp32", "graph bf16"]
    singles += [] if arguments.quick else ["compiled graph bf16"]
    for what, measure, ways, network in (
        (f"(a) one ResNet-{depth}", one, singles, depth),
        (f"(b) {count} ResNet-20 at once", many, ["tutorial", "graph", "streams", "fused"], 20),
    ):
        found: dict[str, list[float]] = {way: [] for way in ways}
        for repeat in range(repeats):  # taking turns
            for way in ways if repeat % 2 == 0 else reversed(ways):
                if time.perf_counter() + 4 * seconds < deadline:
                    found[way].append(measure(way))
        for way, values in found.items():
            if not values:
                print(f"| {what} | {way} | left out: no time | | |")
                continue
            pairs = [mine / theirs for mine, theirs in zip(values, found["tutorial"], strict=False)]
            times = f"{statistics.median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})" if pairs else ""
            share = statistics.median(values) * flops_per_image(network) / product
            print(f"| {what} | {way} | {statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f}) "
                  f"| {times} | {share:.1%} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
