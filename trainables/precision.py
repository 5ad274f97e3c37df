"""The precision that this machine multiplies fastest, found out without loading torch where a CPU is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

__all__ = ["Precision", "cpu_multiplies_bf16", "fastest_precision", "gpus_multiply_bf16"]

Precision = Literal["fp32", "bf16"]

AMPERE = (8, 0)  # the compute capability from which on NVIDIA's matrix units take bfloat16


def fastest_precision(device: str) -> Precision:
    """What `execution.precision: auto` comes to on a `cpu` or `cuda` device: bf16 where all of them multiply it."""
    multiplies = gpus_multiply_bf16(_capabilities()) if device == "cuda" else cpu_multiplies_bf16()
    return "bf16" if multiplies else "fp32"


def cpu_multiplies_bf16() -> bool:
    """Whether the CPU multiplies bfloat16: Intel's with AMX; AMD's from Zen 4 on and Intel's Cooper Lake with AVX-512.

    Convolutions take a third of the time with AMX, half of it with AVX-512. False where Linux does not say.
    """
    return not _cpu_flags().isdisjoint({"amx_bf16", "avx512_bf16"})


def gpus_multiply_bf16(capabilities: Sequence[tuple[int, int]]) -> bool:
    """Whether GPUs with these compute capabilities all multiply bfloat16 in hardware; False for none.

    Older ones emulate it, which is what `torch.cuda.is_bf16_supported(including_emulation=False)` leaves out, too; it
    knows only one GPU of a machine, and a trial may be given any.
    """
    return min(capabilities, default=(0, 0)) >= AMPERE


@cache
def _cpu_flags() -> frozenset[str]:
    """The instruction sets of this CPU, in Linux' words."""
    try:
        return frozenset(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return frozenset()


@cache
def _capabilities() -> tuple[tuple[int, int], ...]:
    """Of the GPUs that this process may use. No memory is taken on them, as it would be by the first tensor."""
    import torch  # takes seconds

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return tuple(torch.cuda.get_device_capability(number) for number in range(count))
