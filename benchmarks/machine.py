"""What a machine can do at most, and what a training step asks of it.

The limits are measured, not looked up: arithmetic by a large matrix product, memory by a large copy. A step's demand is
counted from the model: floating-point operations by torch's own counter, bytes as the sizes of what each operation
reads and writes, as if caches held nothing from one operation to the next.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from trainables.config import CifarResNet
from trainables.models.networks import build_network

__all__ = ["copy_limit", "describe", "processor", "product_limit", "ratios", "step_demand"]

REPEATS = 7


def processor() -> str:
    """The name of the processor, and the widest arithmetic that it knows."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor() or platform.machine()
    text = cpuinfo.read_text()
    name = next(line.split(":")[1].strip() for line in text.splitlines() if "model name" in line)
    widest = {"amx_bf16": "AMX", "avx512f": "AVX-512", "avx2": "AVX2"}
    return name + next((f" with {words}" for flag, words in widest.items() if flag in text.split()), "")


def describe() -> str:
    """One line that names the machine and what runs on it."""
    return (
        f"{os.cpu_count()} cores of {processor()}, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}; load {os.getloadavg()[0]:.1f} at the start"
    )


def _fastest(work: Callable[[], object]) -> float:
    work()
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def product_limit(dtype: torch.dtype, threads: int, size: int = 3072) -> float:
    """Floating-point operations a second of a product of two square matrices, on the CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    seconds = _fastest(lambda: a @ b)
    torch.set_num_threads(before)
    return 2 * size**3 / seconds


def copy_limit(threads: int, megabytes: int = 512) -> float:
    """Bytes a second, read and written, of copying a tensor, on the CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    source = torch.ones(megabytes * 2**18)
    target = torch.empty_like(source)
    seconds = _fastest(lambda: target.copy_(source))
    torch.set_num_threads(before)
    return 2 * source.nbytes / seconds


class _Traffic(TorchDispatchMode):
    """Adds up the bytes of what each operation takes and gives; views move nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.nbytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        if not func.is_view:
            leaves = [*tree_leaves(args), *tree_leaves(kwargs or {}), *tree_leaves(given)]
            self.nbytes += sum(leaf.nbytes for leaf in leaves if isinstance(leaf, Tensor))
        return given


def step_demand(depth: int, side: int, batch: int, classes: int, bf16: bool) -> tuple[float, float]:
    """Floating-point operations and bytes of one image in a training step, forward and backward."""
    model = build_network(CifarResNet(depth=depth), classes).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(batch, 3, side, side).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = model(images).float().logsumexp(1).mean()
        loss.backward()

    counter = FlopCounterMode(display=False)
    with counter:
        step()
    traffic = _Traffic()
    with traffic:
        step()
    return counter.get_total_flops() / batch, traffic.nbytes / batch


def ratios(pairs: list[tuple[float, float]]) -> str:
    """`median x (lowest to highest)` of first / second over the repeats."""
    values = sorted(a / b for a, b in pairs)
    middle = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
    return f"{middle:.2f} x ({values[0]:.2f} to {values[-1]:.2f})"
