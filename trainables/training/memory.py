"""Memory that a trial may take, and a clear error when it does not suffice."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trainables.config import ConfigError, TrialConfig

__all__ = ["cap_gpu_memory", "keep_freed_memory", "translate_oom"]

# Messages of errors without a type of their own: of torch's allocator for the CPU, and of what CUDA allocates
# beside torch.
CPU_ERRORS = ("DefaultCPUAllocator", "alloc_cpu.cpp")
GPU_ERRORS = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let this process reuse the memory that it frees, up to 2 GiB, for the next step's tensors.

    glibc hands large blocks back to the system one by one, which gives them out again page by page, cleared: for a
    small network a tenth of a step. No-op where the C library has no `mallopt`.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_THRESHOLD, 2**30)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def cap_gpu_memory(share: float) -> None:
    """Let this process have no more than `share` (0..1) of its GPU's memory, so that others find theirs.

    What CUDA itself takes, some hundred megabytes a process, is not counted. No-op without a GPU.
    """
    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(min(1.0, share))


@contextmanager
def translate_oom(config: TrialConfig, share: float | None = None) -> Iterator[None]:
    """Re-raise an allocation that fails as a ConfigError.

    Args:
        config: of the trial that allocates.
        share: of the GPU's memory that it may have; None where there is no cap.

    Raises:
        ConfigError: naming the batch, and the way out.
    """
    try:
        yield
    except RuntimeError as error:  # what torch.OutOfMemoryError is, too
        on_gpu = isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in GPU_ERRORS)
        if not on_gpu and not any(text in str(error) for text in CPU_ERRORS):
            raise
        rule = _out_of_memory(config, share if on_gpu else None, on_gpu, str(error).partition("\n")[0])
        raise ConfigError.single("batch_size", config.batch_size, rule) from None


def _out_of_memory(config: TrialConfig, share: float | None, on_gpu: bool, first: str) -> str:
    size = config.data.resolution
    images = f"{config.batch_size} images" + (f" of {size} x {size} pixels" if size else "")
    where = "the GPU's memory" if on_gpu else "this machine's memory"
    if share is not None and share < 1:
        where = f"{share:g} of {where}"
    more = ", or give a trial more with --gpus-per-trial" if on_gpu else ""
    return f"{images} do not fit into {where}: lower batch_size or data.resolution{more} ({first[:200]})"
