"""What this machine's processor can do, found out without torch, which takes seconds to load."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal

__all__ = ["Precision", "available_cpus", "fastest_precision", "multiplies_bf16"]

Precision = Literal["fp32", "bf16"]


CGROUPS = Path("/sys/fs/cgroup")


def available_cpus() -> int:
    """How many CPUs this process may use: by its affinity and its cgroup's quota (SLURM, docker --cpus), at least 1."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([count, *_quotas()])))


def _quotas() -> Iterator[float]:
    """CPUs that this process's cgroup and those above it may use, where they are limited."""
    try:
        own = Path("/proc/self/cgroup").read_text().rpartition("::/")[2].strip()
    except OSError:  # not Linux
        return
    for folder in (CGROUPS / own, *(CGROUPS / own).parents):
        if not folder.is_relative_to(CGROUPS):
            break
        with contextlib.suppress(OSError, ValueError):  # no quota here, or "max"
            quota, period = (folder / "cpu.max").read_text().split()
            yield int(quota) / int(period)
    with contextlib.suppress(OSError):  # the first version of cgroups
        quota, period = ((CGROUPS / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        if int(quota) > 0:
            yield int(quota) / int(period)


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


def fastest_precision(device: str) -> Precision:
    """What `execution.precision: auto` comes to on a `cpu` or `cuda` device: bf16 on CPUs that multiply it."""
    return "bf16" if device == "cpu" and multiplies_bf16() else "fp32"
