"""How many CPUs this process may use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["available_cpus"]

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
