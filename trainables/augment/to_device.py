"""Moving small tensors to the model's device without waiting for it."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["send"]


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` (on the CPU) on `device`, without waiting for work queued there; itself when `device` is the CPU."""
    if device.type == "cuda":
        # A copy from pageable memory may wait for the device; from pinned memory it is queued like a kernel.
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
