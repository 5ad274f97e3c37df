"""Optimizer groups, and schedules against torch's own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler

from trainables.config import (
    LAMB,
    SGD,
    WSD,
    Adam,
    AdamW,
    CifarResNet,
    Constant,
    Cosine,
    Cyclic,
    Lion,
    Muon,
    NAdamW,
    OneCycle,
    Optimizer,
    Plateau,
    RMSprop,
    Schedule,
    Step,
    TorchvisionResNet,
)
from trainables.models import build_model
from trainables.models.networks import build_network
from trainables.models.protocol import head
from trainables.training.optim import build_optimizer, load_optimizer, lr_at, momentum_at, set_rates

LR, STEPS, PER_EPOCH = 0.4, 120, 10
OPTIMIZERS: list[Optimizer] = [
    SGD(lr=0.1, nesterov=True, weight_decay=1e-2),
    Adam(lr=0.01, beta1=0.8, beta2=0.99, eps=1e-6, weight_decay=1e-2),
    AdamW(lr=0.01, beta1=0.8, beta2=0.99, eps=1e-6, weight_decay=1e-2),
    RMSprop(lr=0.01, alpha=0.9, momentum=0.5, eps=1e-6, weight_decay=1e-2),
    NAdamW(lr=0.01, beta1=0.8, beta2=0.99, eps=1e-6, weight_decay=1e-2),
]
OF_TIMM: list[Optimizer] = [
    LAMB(lr=0.01, beta1=0.8, beta2=0.99, eps=1e-5, weight_decay=1e-2),
    Lion(lr=0.01, beta1=0.8, beta2=0.99, weight_decay=1e-2),
    Muon(lr=0.01, momentum=0.9, weight_decay=1e-2),
]


def _curve(schedule: Schedule, steps: int = STEPS, history: Sequence[float] = ()) -> list[float]:
    return [lr_at(schedule, LR, step, steps, PER_EPOCH, history) for step in range(steps)]


def _torch_curve(
    scheduler: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler], steps: int = STEPS
) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=LR)
    stepper, rates = scheduler(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        stepper.step()
    return rates


def _warmed(
    then: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler], warmup: int
) -> Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]:
    def build(optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        rising = lr_scheduler.LinearLR(optimizer, 1 / (warmup + 1), total_iters=warmup)
        return lr_scheduler.SequentialLR(optimizer, [rising, then(optimizer)], [warmup])

    return build


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda config: config.kind)
def test_settings_reach_the_optimizer(optimizer: Optimizer) -> None:
    built = build_optimizer(optimizer, build_model(CifarResNet(depth=8), 10))
    kinds = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rmsprop": torch.optim.RMSprop,
        "nadamw": torch.optim.NAdam,
    }
    assert type(built) is kinds[optimizer.kind]
    for group in built.param_groups:
        assert group["lr"] == optimizer.lr
        assert group["weight_decay"] == 1e-2
        match optimizer:
            case SGD():
                assert (group["momentum"], group["nesterov"]) == (0.9, True)
            case RMSprop():
                assert (group["alpha"], group["momentum"], group["eps"]) == (0.9, 0.5, 1e-6)
            case Adam() | AdamW() | NAdamW():
                assert group.get("decoupled_weight_decay", True) is (optimizer.kind != "adam")
                assert (group["betas"], group["eps"]) == ((0.8, 0.99), 1e-6)


@pytest.mark.numeric
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda config: config.kind)
def test_fused_steps_equal_the_plain_loop(optimizer: Optimizer) -> None:
    # In float64: in float32 a gradient that rounding alone makes moves Adam's weights by a whole step.
    torch.manual_seed(0)
    models = [build_model(CifarResNet(depth=8), 10).double() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    fast, plain = (build_optimizer(optimizer, model) for model in models)
    for group in plain.param_groups:
        group["fused"], group["foreach"] = False, False
    images = torch.randn(8, 3, 8, 8, dtype=torch.float64)
    for _ in range(3):
        for model, stepper in zip(models, (fast, plain), strict=True):
            stepper.zero_grad()
            model(images).logsumexp(1).sum().backward()
            stepper.step()
    for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS[1:3], OPTIMIZERS[-1], *OF_TIMM], ids=lambda config: config.kind)
def test_a_saved_state_has_its_slots_and_continues_exactly(optimizer: Optimizer, tmp_path: Path) -> None:
    torch.manual_seed(0)
    models = [build_model(CifarResNet(depth=8), 10) for _ in range(2)]
    first, second = (build_optimizer(optimizer, model) for model in models)
    images = torch.randn(8, 3, 8, 8)

    def step(model: nn.Module, stepper: torch.optim.Optimizer) -> None:
        stepper.zero_grad()
        model(images).logsumexp(1).sum().backward()
        stepper.step()

    step(models[0], first)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    models[1].load_state_dict(models[0].state_dict())
    load_optimizer(second, torch.load(tmp_path / "state.pt", weights_only=True))
    weights = sum(parameter.numel() for parameter in models[0].parameters())
    slots = [slot for state in first.state.values() for slot in state.values() if isinstance(slot, torch.Tensor)]
    assert round(sum(slot.numel() for slot in slots) / weights, 1) == optimizer.state_slots
    for model, stepper in zip(models, (first, second), strict=True):
        step(model, stepper)
    for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_settings_reach_timms_optimizers() -> None:
    model = build_model(CifarResNet(depth=8), 10)
    lamb, lion, muon = (build_optimizer(config, model).param_groups for config in OF_TIMM)
    for backbone, _ in (lamb, lion, muon):
        assert (backbone["lr"], backbone["weight_decay"]) == (0.01, 1e-2)
    assert (lamb[0]["betas"], lamb[0]["eps"], lamb[0]["max_grad_norm"]) == ((0.8, 0.99), 1e-5, None)
    assert lion[0]["betas"] == (0.8, 0.99)
    assert [(group["momentum"], group["nesterov"], group["use_fallback"]) for group in muon] == [
        (0.9, True, False), (0.9, True, True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "network",
    [CifarResNet(depth=8), TorchvisionResNet(depth=18), CifarResNet(depth=8, norm="group")],
    ids=lambda n: n.kind,
)
def test_groups_of_head_and_backbone_and_of_decay(network: CifarResNet | TorchvisionResNet) -> None:
    model = build_model(network, 10)
    spared = AdamW(lr=0.1, weight_decay=0.05, decay_norm_and_bias=False, backbone_lr_ratio=0.2)
    groups = build_optimizer(spared, model).param_groups
    listed = [(g["name"], g["lr_ratio"], g["lr"], g["weight_decay"]) for g in groups]
    assert listed == [
        ("backbone", 0.2, pytest.approx(0.02), 0.05),
        ("backbone", 0.2, pytest.approx(0.02), 0.0),
        ("head", 1.0, 0.1, 0.05),
        ("head", 1.0, 0.1, 0.0),
    ]
    assert all(parameter.ndim == 4 for parameter in groups[0]["params"])
    assert all(parameter.ndim == 1 for parameter in groups[1]["params"])
    assert [id(g["params"][0]) for g in groups[2:]] == [id(head(model).weight), id(head(model).bias)]
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(listed) == sorted(id(parameter) for parameter in model.parameters())


@pytest.mark.parametrize(("frozen", "names"), [(2, ["backbone", "head"]), (4, ["head"])])
def test_frozen_parameters_are_left_out(frozen: int, names: list[str], tmp_path: Path) -> None:
    torch.save(build_network(CifarResNet(depth=8), 10).state_dict(), tmp_path / "weights.pt")
    network = CifarResNet(depth=8, pretrained=str(tmp_path / "weights.pt"), frozen_stages=frozen)
    groups = build_optimizer(SGD(), build_model(network, 10)).param_groups
    assert [group["name"] for group in groups] == names
    assert all(parameter.requires_grad for group in groups for parameter in group["params"])


SAME: list[tuple[Schedule, Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]]] = [
    (Constant(), lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
    (Cosine(), lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS)),
    (Cosine(final_ratio=0.1), lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS, eta_min=0.1 * LR)),
    (Cosine(warmup=0.1), _warmed(lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS - 12), 12)),
    (Constant(warmup=0.25), _warmed(lambda o: lr_scheduler.ConstantLR(o, factor=1.0), 30)),
    (Step(milestones=(0.25, 0.5, 0.75), gamma=0.5), lambda o: lr_scheduler.StepLR(o, STEPS // 4, 0.5)),
    (
        WSD(decay=0.25, final_ratio=0.1),
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.ConstantLR(o, factor=1.0), lr_scheduler.LinearLR(o, 1.0, 0.1, 30)], [90]
        ),
    ),
    (Step(), lambda o: lr_scheduler.MultiStepLR(o, [60, 90], 0.1)),
    (Step(milestones=(0.3, 0.6)), lambda o: lr_scheduler.MultiStepLR(o, [36, 72], 0.1)),
    (
        Cyclic(cycles=3, low_ratio=0.05),
        lambda o: lr_scheduler.CyclicLR(o, 0.05 * LR, LR, step_size_up=STEPS // 6, cycle_momentum=False),
    ),
    (
        OneCycle(),
        lambda o: lr_scheduler.OneCycleLR(o, LR, STEPS, pct_start=0.3, final_div_factor=1e4 / 25, cycle_momentum=False),
    ),
    (
        OneCycle(peak=0.45, initial_divisor=10, final_divisor=1000),
        lambda o: lr_scheduler.OneCycleLR(
            o, LR, STEPS, pct_start=0.45, div_factor=10, final_div_factor=100, cycle_momentum=False
        ),
    ),
]


@pytest.mark.parametrize(("schedule", "theirs"), SAME, ids=[repr(schedule) for schedule, _ in SAME])
@pytest.mark.filterwarnings("ignore:The epoch parameter in:UserWarning")
def test_schedule_equals_torchs(
    schedule: Schedule, theirs: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]
) -> None:
    assert _curve(schedule) == pytest.approx(_torch_curve(theirs), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("steps", "peak"), [(2, 0.3), (3, 0.3), (7, 0.3), (3, 0.9)])
def test_one_cycle_of_a_very_short_run_equals_torchs(steps: int, peak: float) -> None:
    def theirs(optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        return lr_scheduler.OneCycleLR(
            optimizer, LR, steps, pct_start=peak, final_div_factor=1e4 / 25, cycle_momentum=False
        )

    # torch's has no step after the last, and _torch_curve takes one
    curve = _torch_curve(theirs, steps - 1)
    assert _curve(OneCycle(peak=peak), steps)[:-1] == pytest.approx(curve, rel=1e-6)


@pytest.mark.parametrize("config", OPTIMIZERS, ids=lambda config: config.kind)
@pytest.mark.parametrize("steps", [3, STEPS])
def test_momentum_cycles_as_torchs_does(config: Optimizer, steps: int) -> None:
    model = build_network(CifarResNet(depth=8), 10)
    optimizers = [build_optimizer(config, model) for _ in range(2)]
    schedule = OneCycle(cycle_momentum=True, base_momentum=0.8)
    theirs = lr_scheduler.OneCycleLR(optimizers[0], LR, steps, pct_start=0.3, base_momentum=0.8)
    for step in range(steps - 1):  # torch's has no step after the last
        momentum = momentum_at(schedule, step, steps)
        assert momentum is not None
        set_rates(optimizers[1], LR, momentum)
        ours, given = ([group.get("betas", (group.get("momentum"),)) for group in o.param_groups] for o in optimizers)
        assert ours == [pytest.approx(betas) for betas in given]
        optimizers[0].step()
        theirs.step()
    assert momentum_at(OneCycle(), 0, steps) is momentum_at(Cosine(), 0, steps) is None


def test_a_milestone_is_met_despite_rounding() -> None:
    assert 0.55 * 100 > 55  # in floating point
    rates = [lr_at(Step(milestones=(0.55,)), LR, step, 100, PER_EPOCH, ()) for step in (54, 55)]
    assert rates == pytest.approx([LR, LR * 0.1])


losses = st.lists(st.one_of(st.floats(0, 10), st.just(math.nan), st.just(math.inf)), max_size=30)


@given(losses, st.integers(0, 4), st.sampled_from([0.1, 0.5]), st.sampled_from([0.0, 0.05, 0.3]))
def test_plateau_equals_torchs_at_every_epoch(history: list[float], patience: int, factor: float, low: float) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=LR)
    theirs = lr_scheduler.ReduceLROnPlateau(
        optimizer, patience=patience, factor=factor, min_lr=low * LR, threshold=1e-4, eps=0
    )
    schedule = Plateau(patience=patience, factor=factor, low_ratio=low)
    for epoch in range(len(history) + 1):
        expected = optimizer.param_groups[0]["lr"]
        for step in (epoch * PER_EPOCH, epoch * PER_EPOCH + PER_EPOCH - 1):
            steps = PER_EPOCH * (len(history) + 1)
            past = history[:epoch]
            assert lr_at(schedule, LR, step, steps, PER_EPOCH, past) == pytest.approx(expected)
            assert lr_at(schedule, LR, step, steps, PER_EPOCH, history) == pytest.approx(
                expected
            )  # the future is unread
        if epoch < len(history):
            theirs.step(history[epoch])


def test_plateau_ignores_a_gain_below_the_threshold() -> None:
    history = [1.0, 1.0 - 0.9e-4, 1.0 - 0.95e-4]
    assert lr_at(Plateau(patience=1), LR, 30, STEPS, PER_EPOCH, history) == pytest.approx(LR * 0.1)
    assert lr_at(Plateau(patience=1), LR, 30, STEPS, PER_EPOCH, [1.0, 1.0 - 2e-4, 1.0]) == LR


WARM: list[Any] = [Constant, Step, Cosine, Cyclic, Plateau]


@pytest.mark.parametrize("kind", WARM, ids=lambda kind: kind.__name__)
def test_warm_up_is_a_linear_factor(kind: Any) -> None:
    warm = _curve(kind(warmup=0.1))
    plain = _curve(kind())
    if kind is not Cosine:
        assert warm == pytest.approx([rate * min((step + 1) / 13, 1) for step, rate in enumerate(plain)])
    assert warm[0] > 0
    rising = [after - before for before, after in itertools.pairwise(warm[:13])]
    assert min(rising) > 0
    assert warm[12] == pytest.approx(plain[12] if kind is not Cosine else LR)


@given(
    st.sampled_from([k(warmup=w) for k in WARM for w in (0.0, 0.05, 0.5, 0.99)] + [OneCycle(), OneCycle(peak=0.01)]),
    st.integers(1, 300),
)
def test_rates_stay_within_bounds_and_go_beyond_the_end(schedule: Schedule, steps: int) -> None:
    for step in (0, 1, steps // 2, steps - 1, steps, steps + 5):
        rate = lr_at(schedule, LR, step, steps, PER_EPOCH, [1.0] * 50)
        assert 0 <= rate <= LR * (1 + 1e-12)
    assert lr_at(schedule, LR, steps + 5, steps, 10**6, ()) == lr_at(schedule, LR, steps, steps, 10**6, ())


@pytest.mark.parametrize(("step", "total", "per_epoch"), [(-1, 10, 5), (0, 0, 5), (0, 10, 0)])
def test_impossible_positions_are_refused(step: int, total: int, per_epoch: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        lr_at(Cosine(), LR, step, total, per_epoch, ())
