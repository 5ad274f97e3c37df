"""Which precision is the fastest: bfloat16 where every device multiplies it in hardware."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from trainables import precision
from trainables.precision import fastest_precision, gpus_multiply_bf16

TURING, AMPERE, ADA, HOPPER, BLACKWELL = (7, 5), (8, 0), (8, 9), (9, 0), (12, 0)


@pytest.mark.parametrize(
    ("capabilities", "multiply"),
    [
        ([], False),
        ([(6, 0)], False),
        ([TURING], False),
        ([AMPERE], True),
        ([ADA, HOPPER, BLACKWELL], True),
        ([HOPPER, TURING], False),  # a trial may be given either
    ],
)
def test_gpus_multiply_bf16_from_ampere_on(capabilities: list[tuple[int, int]], multiply: bool) -> None:
    assert gpus_multiply_bf16(capabilities) == multiply


@pytest.mark.parametrize(
    ("flags", "multiplies"),
    [("avx2", False), ("avx512f avx512_vnni", False), ("avx512f avx512_bf16", True), ("amx_bf16 amx_tile", True)],
)
def test_cpus_that_multiply_bf16(monkeypatch: pytest.MonkeyPatch, flags: str, multiplies: bool) -> None:
    monkeypatch.setattr(precision, "_cpu_flags", lambda: frozenset(flags.split()))
    assert precision.cpu_multiplies_bf16() == multiplies


@pytest.mark.parametrize(("units", "decided"), [(True, "bf16"), (False, "fp32")])
def test_on_a_cpu_its_own_units_decide(monkeypatch: pytest.MonkeyPatch, units: bool, decided: str) -> None:
    monkeypatch.setattr(precision, "cpu_multiplies_bf16", lambda: units)
    assert fastest_precision("cpu") == decided


@pytest.mark.parametrize(("capabilities", "decided"), [((HOPPER,), "bf16"), ((HOPPER, TURING), "fp32"), ((), "fp32")])
def test_on_a_gpu_the_cpu_s_units_do_not_decide(
    monkeypatch: pytest.MonkeyPatch, capabilities: tuple[tuple[int, int], ...], decided: str
) -> None:
    monkeypatch.setattr(precision, "cpu_multiplies_bf16", lambda: decided == "fp32")
    monkeypatch.setattr(precision, "_capabilities", lambda: capabilities)
    assert fastest_precision("cuda") == decided


def test_a_cpu_is_asked_without_torch() -> None:
    code = "import sys; from trainables.precision import *; fastest_precision('cpu'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_where_there_is_no_gpu_none_multiplies() -> None:
    assert fastest_precision("cuda") == "fp32"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpus_of_this_machine_are_asked_without_taking_their_memory() -> None:
    code = (
        "import torch; from trainables.precision import *; print(fastest_precision('cuda'),"
        "torch._C._cuda_hasPrimaryContext(0))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    supported = []
    for number in range(torch.cuda.device_count()):
        with torch.cuda.device(number):
            supported.append(torch.cuda.is_bf16_supported(including_emulation=False))
    assert found == ["bf16" if all(supported) else "fp32", "False"]
