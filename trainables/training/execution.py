"""How the arithmetic is done: `trainables.config.Execution` in torch's terms."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch

from trainables.config import ConfigError, Execution
from trainables.precision import fastest_precision
from trainables.training.memory import keep_freed_memory

__all__ = [
    "autocast", "configure_process", "configured", "memory_format", "not_emulated", "resolve_device",
    "resolve_precision",
]  # fmt: skip


def resolve_device(name: str) -> torch.device:
    """The device for `execution.device`; `auto` is the GPU where there is one.

    Raises:
        ConfigError: for a GPU that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        rule = "must be a device of this machine, which has no CUDA device: give --device cpu (last digits will differ)"
        raise ConfigError.single("execution.device", name, rule)
    return torch.device(name)


def memory_format(execution: Execution) -> torch.memory_format:
    """The layout of images and weights; `auto` is channels_last, a fifth faster on CPUs too."""
    return torch.contiguous_format if execution.memory_format == "contiguous" else torch.channels_last


def resolve_precision(execution: Execution, device: torch.device) -> Literal["fp32", "bf16"]:
    """The precision of forward passes, `auto` decided."""
    return fastest_precision(device.type) if execution.precision == "auto" else execution.precision


def not_emulated(execution: Execution) -> Execution:
    """How a trained network is computed on its `device` of this machine, which may not be the one that trained it.

    A recorded bfloat16 that the device would emulate becomes float32, which is more exact and sooner done: a forward
    pass of ResNet-20 in bfloat16 takes a processor with AVX2 five times as long.

    Raises:
        ConfigError: for a GPU that is not there.
    """
    if execution.precision != "bf16":
        return execution
    return execution.model_copy(update={"precision": fastest_precision(resolve_device(execution.device).type)})


def autocast(execution: Execution, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """The context that forward passes run in: weights stay float32, convolutions are done in the precision decided.

    bfloat16 has the exponents of float32, so that gradients need no loss scaling.
    """
    if resolve_precision(execution, device) == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def configure_process(execution: Execution) -> None:
    """Set this process up for training, for good: what a worker or a command does, whose process is its own.

    Threads are part of what makes a trial reproducible: they change the order of sums, and so the last digits.

    Raises:
        ConfigError: for a GPU that is not there.
    """
    if _apply(execution).type == "cpu":
        keep_freed_memory()


@contextlib.contextmanager
def configured(execution: Execution) -> Iterator[None]:
    """Inside, torch's settings are those of `configure_process`; on exit the caller's are back, as a library must."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    benchmark = torch.backends.cudnn.benchmark
    try:
        _apply(execution)
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.benchmark = benchmark


def _apply(execution: Execution) -> torch.device:
    device = resolve_device(execution.device)
    if execution.threads is not None:
        torch.set_num_threads(execution.threads)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        # What stays float32 is multiplied as TF32 where there is such a unit, as torch does in convolutions by itself.
        torch.set_float32_matmul_precision("high")
    return device
