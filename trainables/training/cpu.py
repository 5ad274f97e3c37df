"""What this machine's processor can do, found out without torch, which takes seconds to load."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

__all__ = ["fastest_precision", "multiplies_bf16"]


@cache
def multiplies_bf16() -> bool:
    """Whether the CPU has matrix units for bfloat16 (Intel's AMX), with which convolutions take a third of the time.

    Processors that only convert or add up bf16 are left out: what they gain was not measured. False where Linux does
    not say.
    """
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False


def fastest_precision(device: str) -> Literal["fp32", "bf16"]:
    """What `execution.precision: auto` means on a `cpu` or `cuda` device: bf16 on CPUs that multiply it."""
    return "bf16" if device == "cpu" and multiplies_bf16() else "fp32"
