"""What `auto` comes to, and that both precisions keep weights in float32."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainables.config import Execution
from trainables.training import cpu as processor
from trainables.training.execution import autocast, resolve_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("units", "device", "decided"), [(True, CPU, "bf16"), (False, CPU, "fp32"), (True, CUDA, "fp32")]
)
def test_auto_is_bf16_where_the_cpu_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, units: bool, device: torch.device, decided: str
) -> None:
    monkeypatch.setattr(processor, "multiplies_bf16", lambda: units)
    assert resolve_precision(Execution(precision="auto"), device) == decided
    assert resolve_precision(Execution(precision="fp32"), device) == "fp32"
    assert resolve_precision(Execution(precision="bf16"), device) == "bf16"


@pytest.mark.parametrize(("precision", "inside"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_only_the_forward_pass_changes_its_precision(precision: str, inside: torch.dtype) -> None:
    layer = nn.Conv2d(3, 4, 3)
    with autocast(Execution.model_validate({"precision": precision}), CPU):
        out = layer(torch.randn(2, 3, 8, 8))
    out.float().sum().backward()  # type: ignore[no-untyped-call]
    assert out.dtype == inside
    assert layer.weight.dtype == torch.float32
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
