"""What `auto` comes to, and that both precisions keep weights in float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.trainables.image_files import python
from trainables.config import Execution, parse_config
from trainables.data.images import load_splits
from trainables.precision import Precision, fastest_precision
from trainables.training import execution as execution_module
from trainables.training.execution import autocast, configured, not_emulated, resolve_precision
from trainables.training.loop import Run

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("fastest", ["bf16", "fp32"])
@pytest.mark.parametrize("device", [CPU, CUDA])
def test_auto_is_the_fastest_of_the_device_and_what_was_asked_for_stays(
    monkeypatch: pytest.MonkeyPatch, fastest: Precision, device: torch.device
) -> None:
    others: Precision = "fp32" if fastest == "bf16" else "bf16"
    monkeypatch.setattr(execution_module, "fastest_precision", lambda kind: fastest if kind == device.type else others)
    assert resolve_precision(Execution(precision="auto"), device) == fastest
    assert resolve_precision(Execution(precision="fp32"), device) == "fp32"
    assert resolve_precision(Execution(precision="bf16"), device) == "bf16"


@pytest.mark.parametrize(
    ("recorded", "fastest", "computed"),
    [("bf16", "bf16", "bf16"), ("bf16", "fp32", "fp32"), ("fp32", "bf16", "fp32"), ("auto", "bf16", "auto")],
)
def test_a_trained_network_is_not_computed_in_an_emulated_precision(
    monkeypatch: pytest.MonkeyPatch, recorded: str, fastest: Precision, computed: str
) -> None:
    monkeypatch.setattr(execution_module, "fastest_precision", lambda _: fastest)
    trained = Execution.model_validate({"device": "cpu", "precision": recorded, "threads": 3})
    assert not_emulated(trained) == trained.model_copy(update={"precision": computed})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_auto_on_this_gpu_convolves_in_its_fastest_precision() -> None:
    layer, execution = nn.Conv2d(3, 4, 3).cuda(), Execution(device="cuda")
    with autocast(execution, CUDA):
        out = layer(torch.randn(2, 3, 8, 8, device=CUDA))
    out.float().sum().backward()  # type: ignore[no-untyped-call]
    assert out.dtype == {"bf16": torch.bfloat16, "fp32": torch.float32}[fastest_precision("cuda")]
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


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
