"""A training step of CIFAR ResNets in the ways that `benchmarks.gpu` compares, and the tutorial way beside them.

The images are random, since their content changes no time. Needs torch and torchvision alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, Dataset

__all__ = ["Trials", "flops_per_image", "limits", "rate", "settle", "tutorial_rate", "wait"]

IMAGES, CLASSES, SIDE, PAD = 5_000, 10, 32, 4


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
        layout: of images and weights.
    """

    def __init__(
        self, depth: int, count: int, batch: int, device: torch.device, bf16: bool,
        layout: torch.memory_format = torch.channels_last,
    ) -> None:  # fmt: skip
        self.batch, self.device, self.bf16, self.layout = batch, device, bf16, layout
        self.models = [ResNet(depth).to(device, memory_format=layout) for _ in range(count)]  # type: ignore[call-overload]
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
        levels = crops.permute(0, 3, 1, 2).to(torch.float32, memory_format=self.layout)
        return levels.div_(127.5).sub_(1), self.labels[rows]

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


def settle() -> None:
    """Set this process up as the project sets up a worker of one CPU."""
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")


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
