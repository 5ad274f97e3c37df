"""The networks against the paper, against torchvision's, and under freezing."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Literal

import pytest
import torch
import torchvision
from torch import Tensor, nn

from trainables.config import CifarResNet, ConfigError, SyntheticCurve, TorchvisionResNet, WideResNet
from trainables.models import build_model
from trainables.models.networks import build_network
from trainables.models.protocol import head, stages, train_mode
from trainables.models.resnet import BasicBlockA

FROZEN_KINDS = [CifarResNet(depth=8), WideResNet(depth=10, width=1), TorchvisionResNet(depth=18, small_images=True)]
Staged = CifarResNet | TorchvisionResNet | WideResNet


def _images(count: int = 4, side: int = 32, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def _frozen(config: Staged, count: int, folder: Path) -> nn.Module:
    path = folder / "weights.pt"
    torch.save(build_network(config, 10).state_dict(), path)
    return build_model(config.model_copy(update={"pretrained": str(path), "frozen_stages": count}), 10)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("depth", "millions"), [(20, "0.27"), (32, "0.46"), (44, "0.66"), (56, "0.85"), (110, "1.7"), (1202, "19.4")]
)
def test_parameter_counts_of_the_paper(depth: int, millions: str) -> None:
    with torch.device("meta"):
        model = build_network(CifarResNet(depth=depth), 10)
    decimals = len(millions.partition(".")[2])
    assert f"{_parameters(model) / 1e6:.{decimals}f}" == millions
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in model.modules()) == depth


@pytest.mark.numeric
@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_torchvision_networks_have_torchvisions_weights_and_logits(depth: Literal[18, 34, 50, 101, 152]) -> None:
    if depth <= 50:
        theirs = torchvision.models.get_model(f"resnet{depth}").double().eval()
        ours = build_network(TorchvisionResNet(depth=depth), 1000).double().eval()
        ours.load_state_dict(theirs.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(ours(_images(2, 64).double()), theirs(_images(2, 64).double()))
    else:
        with torch.device("meta"):
            theirs, ours = (
                torchvision.models.get_model(f"resnet{depth}"),
                build_network(TorchvisionResNet(depth=depth), 1000),
            )
    shapes = [{name: value.shape for name, value in net.state_dict().items()} for net in (ours, theirs)]
    assert shapes[0] == shapes[1]


def test_shortcut_a_subsamples_and_pads_with_zero_channels() -> None:
    block = BasicBlockA(4, 8, 2, nn.BatchNorm2d).eval()
    nn.init.zeros_(block.bn2.get_parameter("weight"))  # leaves the shortcut alone
    x = torch.rand(2, 4, 7, 7)
    out = block(x)
    assert out.shape == (2, 8, 4, 4)
    torch.testing.assert_close(out[:, 2:6], x[:, :, ::2, ::2])
    assert not out[:, :2].any()
    assert not out[:, 6:].any()


def test_cifar_resnet_has_he_initialization_from_the_seed_alone() -> None:
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(build_model(CifarResNet(depth=20), 10))
    model, again = models
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 5000:
            expected = math.sqrt(2 / (module.in_channels * 9))
            assert module.weight.std().item() == pytest.approx(expected, rel=0.05), name
            assert abs(module.weight.mean().item()) < 0.1 * expected, name
    assert not head(model).bias.any()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("config", "side"),
    [
        (CifarResNet(depth=8, norm="group", dropout=0.5), 8),
        (CifarResNet(depth=8), 33),
        (TorchvisionResNet(depth=18, small_images=True), 8),
        (TorchvisionResNet(depth=50, norm="group"), 64),
        (TorchvisionResNet(depth=50, variant="resnext_32x4d", small_images=True), 8),
        (WideResNet(depth=10, width=2, dropout=0.3), 33),
        (WideResNet(depth=10, width=1, norm="group"), 8),
    ],
    ids=str,
)
def test_trains_at_any_size_in_any_memory_format(config: Staged, side: int, memory_format: torch.memory_format) -> None:
    model = build_model(config, 5).to(memory_format=memory_format)
    logits = model(_images(4, side).contiguous(memory_format=memory_format))
    assert logits.shape == (4, 5)
    logits.logsumexp(1).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.numeric
def test_channels_last_changes_nothing_but_the_layout() -> None:
    model, images = build_model(CifarResNet(depth=8), 10).double().eval(), _images().double()
    layouts: list[bool] = []
    for block in model.modules():
        if isinstance(block, BasicBlockA):
            block.register_forward_hook(
                lambda _m, _i, out: layouts.append(out.is_contiguous(memory_format=torch.channels_last))
            )
    with torch.no_grad():
        expected = model(images)
        layouts.clear()
        last = model.to(memory_format=torch.channels_last)
        actual = last(images.contiguous(memory_format=torch.channels_last))
    assert layouts == [True, True, True]
    torch.testing.assert_close(actual, expected)


def test_small_images_keep_their_resolution_in_the_stem() -> None:
    sides = []
    for small in (True, False):
        model = build_model(TorchvisionResNet(depth=18, small_images=small), 10)
        stages(model)[1][0].register_forward_hook(lambda _m, inputs, _o: sides.append(inputs[0].shape[-1]))
        model(_images(2))
    assert sides == [32, 8]


@pytest.mark.parametrize(("asked", "of_16", "of_64"), [(1, 1, 1), (12, 8, 8), (100, 16, 64)])
def test_group_norm_takes_the_largest_divisor(asked: int, of_16: int, of_64: int) -> None:
    model = build_model(CifarResNet(depth=8, norm="group", norm_groups=asked), 10)
    norms = [module for module in model.modules() if isinstance(module, nn.GroupNorm)]
    assert len(norms) == 7
    assert (norms[0].num_groups, norms[-1].num_groups) == (of_16, of_64)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize("config", [CifarResNet(dropout=0.5), TorchvisionResNet(depth=18, dropout=0.5)], ids=str)
def test_dropout_stands_before_the_head_and_only_in_training(config: CifarResNet | TorchvisionResNet) -> None:
    model = build_model(config, 3)
    changed: list[float] = []
    model.dropout.register_forward_hook(lambda _m, ins, out: changed.append((ins[0] != out).float().mean().item()))
    model(_images(2))
    model.eval()(_images(2))
    assert changed[0] > 0.3
    assert changed[1] == 0
    plain = build_network(config.model_copy(update={"dropout": 0.0}), 3)
    assert list(plain.state_dict()) == list(model.state_dict())


@pytest.mark.parametrize(
    "network",
    [CifarResNet(zero_init_residual=True), TorchvisionResNet(depth=18, zero_init_residual=True, norm="group")],
)
def test_zero_init_residual_makes_blocks_identities(network: CifarResNet | TorchvisionResNet) -> None:
    model = build_model(network, 10)
    x = torch.rand(2, 16 if isinstance(network, CifarResNet) else 64, 8, 8)
    (layer1,) = stages(model)[1]
    torch.testing.assert_close(layer1(x), x)


@pytest.mark.parametrize("config", FROZEN_KINDS, ids=lambda config: config.kind)
def test_frozen_stages_do_not_move_and_the_others_do(config: Staged, tmp_path: Path) -> None:
    last = 5 if isinstance(config, TorchvisionResNet) else 4
    for count in range(last + 1):
        model = _frozen(config, count, tmp_path)
        frozen = {id(m) for stage in stages(model)[:count] for top in stage for m in top.modules()}
        before = copy.deepcopy(model.state_dict())
        model.eval()
        train_mode(model)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        model(_images()).logsumexp(1).sum().backward()
        optimizer.step()
        for path, module in model.named_modules():
            still = id(module) in frozen
            assert module.training is not still
            for name, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                assert torch.equal(value, before[f"{path}.{name}"]) is still, f"{count} frozen: {path}.{name}"
            assert all(p.requires_grad is not still for p in module.parameters(recurse=False))


def test_a_copy_stays_frozen_and_frozen_stages_record_no_graph(tmp_path: Path) -> None:
    model = copy.deepcopy(_frozen(CifarResNet(depth=8), 3, tmp_path))
    train_mode(model)
    assert [model.training, model.bn1.training, model.fc.training] == [True, False, True]
    recorded = {}
    for name, module in model.named_children():
        module.register_forward_hook(lambda _m, _i, out, name=name: recorded.update({name: out.requires_grad}))
    model(_images())
    assert recorded == {
        "conv1": False, "bn1": False, "pool": False, "layer1": False, "layer2": False, "layer3": True,
        "dropout": True, "fc": True,
    }  # fmt: skip


@pytest.mark.numeric
@pytest.mark.parametrize("count", [0, 2])
def test_compiles_into_one_graph(count: int, tmp_path: Path) -> None:
    model = (
        _frozen(CifarResNet(depth=8, dropout=0.1), count, tmp_path) if count else build_model(CifarResNet(depth=8), 10)
    )
    model, images = model.double(), _images().double()
    compiled: nn.Module = torch.compile(model, backend="aot_eager", fullgraph=True)  # type: ignore[assignment]
    train_mode(compiled)
    assert model.get_submodule("layer1").training is (count < 2)
    compiled(images).sum().backward()
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(compiled(images), model(images))
    assert head(compiled) is model.fc
    assert len(stages(compiled)) == 4


@pytest.mark.parametrize("config", [CifarResNet(depth=20, dropout=0.1), TorchvisionResNet(depth=50)], ids=str)
def test_nothing_waits_for_the_data(config: CifarResNet | TorchvisionResNet) -> None:
    with torch.device("meta"):  # holds no data: whatever asked for a value would raise
        model = build_network(config, 10)
        model(torch.empty(2, 3, 64, 64)).sum().backward()


def test_a_synthetic_curve_is_no_network() -> None:
    with pytest.raises(ConfigError, match=r"model\.kind: must be a network"):
        build_model(SyntheticCurve(), 10)


@pytest.mark.numeric
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_shortcuts_gradient_is_that_of_slicing_and_padding_in_its_layout(
    layout: torch.memory_format,
) -> None:
    block = BasicBlockA(4, 10, 2, nn.BatchNorm2d)
    for convolution in (block.conv1, block.conv2):
        nn.init.zeros_(convolution.weight)
    nn.init.ones_(block.bn2.bias)  # the shortcut alone passes the last ReLU, and all of it that is above -1
    images = _images(3, 7)[:, [0, 1, 2, 0]].contiguous(memory_format=layout)
    found, expected = (images.clone().requires_grad_() for _ in range(2))
    seen: list[Tensor] = []
    between = found * 1
    between.register_hook(seen.append)
    weights = torch.randn(3, 10, 4, 4, generator=torch.Generator().manual_seed(1))
    (block(between) * weights).sum().backward()
    (torch.relu(nn.functional.pad(expected[:, :, ::2, ::2], (0, 0, 0, 0, 3, 3)) + 1) * weights).sum().backward()
    assert found.grad is not None
    assert expected.grad is not None
    torch.testing.assert_close(found.grad, expected.grad, rtol=0, atol=0)
    assert seen[0].is_contiguous(memory_format=layout)
