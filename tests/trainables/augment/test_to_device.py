"""Sending tensors to a device."""

from __future__ import annotations

import pytest
import torch

from trainables.augment.to_device import send


def test_the_cpu_needs_no_copy() -> None:
    tensor = torch.arange(3)
    assert send(tensor, torch.device("cpu")) is tensor


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_nothing_waits_for_the_gpu() -> None:
    torch.cuda.set_sync_debug_mode("error")
    try:
        sent = send(torch.arange(3), torch.device("cuda"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert sent.tolist() == [0, 1, 2]
