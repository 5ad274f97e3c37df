"""What `auto` comes to, and that both precisions keep weights in float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.trainables.image_files import python
from trainables import cpu as processor
from trainables.config import Execution, parse_config
from trainables.data.images import load_splits
from trainables.training.execution import autocast, configured, resolve_precision
from trainables.training.loop import Run

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


def settings() -> tuple[int, bool, str]:
    return torch.get_num_threads(), torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()


def test_a_run_leaves_the_settings_of_its_process_alone(tmp_path: Path) -> None:
    before = settings()
    data = {"source": "digits", "train_samples": 64, "val_samples": 16, "train_eval_samples": 16}
    execution = {"device": "cpu", "threads": torch.get_num_threads() + 1}
    config = parse_config({"model": {"kind": "cifar_resnet", "depth": 8}, "data": data, "execution": execution})
    next(Run(config, load_splits(config.data, tmp_path)).epochs())
    assert settings() == before


def test_settings_hold_inside_and_the_callers_are_back_outside_even_after_an_error() -> None:
    before = settings()
    inside = []

    def fail() -> None:
        with configured(Execution(device="cpu", threads=before[0] + 1)):
            inside.append(torch.get_num_threads())
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert inside == [before[0] + 1]
    assert settings() == before


def test_a_worker_is_set_up_for_good() -> None:
    program = (
        "import torch; from trainables.config import Execution;"
        "from trainables.training.execution import configure_process;"
        "configure_process(Execution(device='cpu', threads=3)); print(torch.get_num_threads())"
    )
    assert python(program).communicate()[0] == "3\n"
