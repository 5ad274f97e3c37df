"""Files as the programs that published them write them: the right encoder is loaded, and what was not is said."""

from __future__ import annotations

import argparse
import json
import pathlib
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from trainables.config import CifarResNet, ConfigError, TorchvisionResNet
from trainables.models import build_model
from trainables.models.families import FAMILIES
from trainables.models.networks import build_network
from trainables.models.pretrained import Loaded, check_pretrained

Weights = dict[str, Tensor]
Network = CifarResNet | TorchvisionResNet
EIGHT, CIFAR_STEM = CifarResNet(depth=8), TorchvisionResNet(depth=18, small_images=True)


def _weights(seed: int, network: Network = EIGHT) -> Weights:
    torch.manual_seed(seed)
    return {name: value.clone() for name, value in build_network(network, 10).state_dict().items()}


W, OTHER, DEEPER = _weights(1), _weights(2), _weights(3, CifarResNet(depth=14))
BODY, OTHER_BODY = ({k: v for k, v in w.items() if not k.startswith("fc.")} for w in (W, OTHER))


def _in(prefix: str, weights: Weights) -> Weights:
    return {prefix + name: value for name, value in weights.items()}


def _mlp(prefix: str, *sizes: int) -> Weights:
    layers = enumerate(zip((64, *sizes), sizes, strict=False))
    return {f"{prefix}.{2 * i}.weight": torch.randn(after, before) for i, (before, after) in layers}


def _head(prefix: str) -> Weights:
    return {f"{prefix}.{part}": W[f"fc.{part}"] for part in ("weight", "bias")}


def _renamed(weights: Weights, *pairs: tuple[str, str]) -> Weights:
    renamed = {}
    for name, value in weights.items():
        for old, new in pairs:
            if name.startswith(old):
                name = new + name.removeprefix(old)
        renamed[name] = value
    return renamed


CHILDREN = [("conv1.", "0."), ("bn1.", "1."), *((f"layer{i}.", f"{i + 3}.") for i in (1, 2, 3))]

# What is saved, where it is loaded from (in the first line), what is ignored or newly initialized (in the second).
FORMS: dict[str, tuple[object, str, str]] = {
    "torchvision": (W, "44 of 44 tensors of", "ignored nothing; newly initialized: none"),
    "torchvision's scripts": (
        {"model": OTHER, "model_ema": {"n_averaged": torch.tensor(9), **_in("module.", W)},
            "args": argparse.Namespace()},
        "from model_ema / module, not from model (averaged weights",
        "n_averaged (1 tensor), model (44 tensors); newly initialized: none"),
    "timm": ({"state_dict": OTHER, "state_dict_ema": W, "arch": "resnet"}, "from state_dict_ema", "state_dict (44"),
    "lightning": (
        {"state_dict": {**_in("model.", W), "criterion.weight": torch.ones(10, 64)}, "global_step": 1},
        "from state_dict / model", "ignored criterion (1 tensor); newly initialized: none"),
    "lightning, ema in one": ({"state_dict": _in("net.", OTHER) | _in("ema_net.", W)}, "/ ema_net, not", "net (44"),
    "weight averaging": (
        {"state_dict": _in("model.", W), "current_model_state": _in("model.", OTHER)}, "from state_dict / model", ""),
    "moco v1": (
        {"state_dict": _in("module.encoder_k.", OTHER) | _in("module.encoder_q.", W)
            | {"module.queue": torch.ones(9, 9)}},
        "module.encoder_q, not from state_dict / module.encoder_k (MoCo v1",
        "encoder_k (44 tensors), fc (2 tensors), queue (1 tensor); "),
    "moco v2": (
        {"state_dict": _in("module.encoder_q.", BODY | _mlp("fc", 64, 10)) | _in("module.encoder_k.", OTHER_BODY)},
        "module.encoder_q", "fc (2 tensors, a head of 2 layers)"),
    "moco v3": (
        {"state_dict": _in("module.base_encoder.", BODY | _mlp("fc", 64, 64, 10)) | _mlp("module.predictor", 10)
            | _in("module.momentum_encoder.", OTHER_BODY)},
        "module.base_encoder",
        "(3 tensors, a head of 3 layers), predictor (1 tensor), momentum_encoder (42 tensors); newly initialized: fc"),
    "simclr": ({"state_dict": _in("backbone.", BODY | _mlp("fc", 64, 10))}, "/ backbone", "newly initialized: fc"),
    "simclr with a projector": (_in("encoder.", BODY) | _mlp("projector", 64, 10), "from encoder", "projector (2"),
    "simsiam": ({"state_dict": _in("module.encoder.", W) | _mlp("module.predictor", 10)}, "module.encoder", "ized: fc"),
    "swav": (
        _in("module.", BODY | _mlp("projection_head", 10) | {"prototypes.weight": torch.ones(10, 64)}),
        "from module (SwAV)", "projection_head (1 tensor), prototypes (1 tensor); newly initialized: fc"),
    "dino": (
        {"student": _in("module.backbone.", OTHER_BODY), "teacher": _in("backbone.", BODY) | _mlp("head.mlp", 10)},
        "from teacher / backbone, not from student / module.backbone (DINO)", "student (42 tensors)"),
    "byol": (
        _in("target_network.encoder.", OTHER_BODY) | _in("online_network.encoder.", BODY),
        "from online_network.encoder", "target_network (42 tensors)"),
    "byol of lucidrains": (
        _in("net.", W) | _in("online_encoder.net.", W) | _in("target_encoder.net.", OTHER), "(BYOL)", "target_encoder"),
    "byol of sthalles": (
        {"target_network_state_dict": _in("encoder.", _renamed(OTHER_BODY, *CHILDREN)),
            "online_network_state_dict": _in("encoder.", _renamed(BODY, *CHILDREN))},
        "from online_network_state_dict / encoder", "target_network_state_dict (42 tensors)"),
    "barlow twins": (
        {"model": _in("module.backbone.", BODY) | _mlp("module.projector", 64, 10)
            | {"module.bn.running_var": torch.ones(9)}},
        "module.backbone (Barlow Twins", "projector (2 tensors), bn (1 tensor)"),
    "solo-learn": (
        {"state_dict": _in("momentum_backbone.", OTHER_BODY) | _in("backbone.", BODY) | _head("classifier")},
        "/ backbone, not from state_dict / momentum_backbone", "newly initialized: none"),
    "lightly": (_in("backbone.", _renamed(BODY, *CHILDREN)) | _mlp("projection_head", 9), "from backbone", "ized: fc"),
    "fastai": (_in("0.", _renamed(BODY, *CHILDREN)) | {"1.4.weight": torch.ones(3, 9)}, "from 0", "ignored 1 (1"),
    "vissl": (
        {"classy_state_dict": {"base_model": {"model": {"trunk": _in("_feature_blocks.", BODY), "heads": {}}}}},
        "base_model / model / trunk / _feature_blocks (VISSL)", ""),
    "mmpretrain": ({"meta": {}, "state_dict": _in("backbone.", BODY) | _head("head.fc")}, "/ backbone", "ized: none"),
    "compiled": (_in("_orig_mod.module.", W), "from _orig_mod.module", "initialized: none"),
    "stages compiled": (
        _in("module.", _renamed(W, ("layer1.", "layer1._orig_mod."), ("layer3.0.", "layer3.0._fsdp_wrapped_module."))),
        "44 of 44", "initialized: none"),
    "deepspeed": ({"module": W, "ds_version": "0.15"}, "from module (DeepSpeed)", "initialized: none"),
    "a linear probe": ({"state_dict": _in("module.", BODY) | _head("module.linear")}, "44 of 44", "initialized: none"),
    "stem in layer0": (_renamed(W, ("conv1.", "layer0.0."), ("bn1.", "layer0.1.")), "44 of 44", ""),
    "a key nobody knows": ({"weights": {"nested": W}}, "from weights / nested", "ignored nothing"),
    "a number beside": ({"model": {**W, "epoch": 3}}, "44 of 44 tensors", ""),
    "half": ({k: v.half() if v.is_floating_point() else v for k, v in W.items()}, "converted from float16", ""),
    "bfloat16": ({k: v.bfloat16() if v.is_floating_point() else v for k, v in W.items()}, "from bfloat16", ""),
    "two heads": ({**BODY, "a.weight": W["fc.weight"], "b.weight": W["fc.weight"]}, "42 of 44", "a (1 tensor), b (1"),
}  # fmt: skip


def _loaded(path: Path, network: Network = EIGHT, weights: Weights = W) -> Loaded:
    """What was said, after a look at whether the trunk of the model is that of `weights`."""
    config = network.model_copy(update={"pretrained": str(path)})
    loaded = check_pretrained(config, 10)
    assert loaded is not None
    state = build_model(config, 10).state_dict()
    for name, value in weights.items():
        if not name.startswith("fc.") or not loaded.new:
            assert torch.allclose(state[name].float(), value.float(), atol=1e-2), name
    return loaded


def _refused(path: Path, network: Network = EIGHT) -> str:
    with pytest.raises(ConfigError) as caught:
        check_pretrained(network.model_copy(update={"pretrained": str(path)}), 10)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 800
    return str(caught.value)


@pytest.mark.parametrize("form", FORMS)
def test_each_family_gives_its_own_encoder(form: str, tmp_path: Path) -> None:
    content, origin, rest = FORMS[form]
    torch.save(content, tmp_path / "w.pth")
    first, second = _loaded(tmp_path / "w.pth").lines
    assert origin in first
    assert rest in second


def test_a_key_without_content_is_no_mark(tmp_path: Path) -> None:
    torch.save({"model": W, "ema": None, "ema_steps": 0}, tmp_path / "w.pth")
    assert _loaded(tmp_path / "w.pth").lines[0] == "weights: 44 of 44 tensors of w.pth loaded, from model"


def test_every_row_has_a_source() -> None:
    assert all("https://" in family.source for family in FAMILIES)
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def _of_transformers(name: str) -> str:
    """As models/resnet/modeling_resnet.py of transformers names it."""
    kinds = {"conv": "convolution", "bn": "normalization"}
    if name.startswith("layer"):
        stage, block, layer, *rest = name.split(".")
        inner = f"resnet.encoder.stages.{int(stage[5:]) - 1}.layers.{block}"
        if layer == "downsample":
            return f"{inner}.shortcut.{('convolution', 'normalization')[int(rest[0])]}.{rest[1]}"
        return f"{inner}.layer.{int(layer[-1]) - 1}.{kinds[layer[:-1]]}.{rest[0]}"
    if name.startswith("fc."):
        return name.replace("fc.", "classifier.1.")
    return f"resnet.embedder.embedder.{kinds[name.split('1')[0]]}.{name.split('.')[1]}"


@pytest.mark.parametrize(
    ("rename", "network"),
    [
        (lambda name: name.replace("downsample.", "shortcut.").replace("fc.", "linear."), CIFAR_STEM),  # pytorch-cifar
        (_of_transformers, TorchvisionResNet(depth=18)),
        (_of_transformers, TorchvisionResNet(depth=50)),
    ],
)
def test_other_names_of_the_same_layers(rename: Callable[[str], str], network: Network, tmp_path: Path) -> None:
    weights = _weights(4, network)
    torch.save({"net": {rename(name): value for name, value in weights.items()}, "acc": 95.1}, tmp_path / "w.pth")
    assert "ignored nothing; newly initialized: none" in _loaded(tmp_path / "w.pth", network, weights).lines[1]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"net_a": W, "net_b": OTHER}, "holds 2 that differ: net_a, net_b; save the one you mean: python -c"),
        (_in("first.", W) | _in("second.", OTHER), "w = torch.load('w.pth', weights_only=True); p = 'first.'; torch"),
        (_in("encoder_q.", dict([*BODY.items()][:9])) | _in("encoder_k.", OTHER_BODY), "missing: layer1.0.bn1.run"),
        ({"teacher": _in("backbone.", DEEPER), "student": _in("backbone.", W)}, "layer1.1.conv1.weight, "),
        (_in("visual.", BODY | {"conv2.weight": torch.ones(1)}), "it has layers that this network lacks"),
        ({"state_dict": W, "state_dict_ema": {k: v * torch.nan for k, v in W.items()}}, "not finite numbers: conv1"),
    ],
)  # fmt: skip
def test_never_another_encoder_than_the_one_that_is_meant(content: object, named: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    assert named in _refused(tmp_path / "w.pth")


def _resnet(**change: Any) -> Weights:
    from torchvision.models import ResNet
    from torchvision.models.resnet import Bottleneck

    with torch.device("cpu"):
        return ResNet(Bottleneck, [3, 4, 6, 3], num_classes=2, **change).state_dict()


@pytest.mark.parametrize(
    ("weights", "network", "named"),
    [
        (_resnet, EIGHT, "it holds a ResNet-50 with an ImageNet stem (7x7)"),
        (_resnet, EIGHT, "(kind: torchvision_resnet, depth: 50, norm: batch, small_images: false)"),
        (_resnet, TorchvisionResNet(depth=50, small_images=True), "small_images to match (kind: torchvision_resnet"),
        (_resnet, TorchvisionResNet(depth=101), "missing: layer3.6.conv1.weight"),
        (lambda: _resnet(groups=32, width_per_group=4), TorchvisionResNet(depth=50), "false, variant: resnext_32x4d"),
        (lambda: _resnet(groups=16, width_per_group=4), TorchvisionResNet(depth=50), "(ResNeXt, 16 groups); take"),
        (lambda: _resnet(width_per_group=128), TorchvisionResNet(depth=50), "small_images: false, variant: wide)"),
        (lambda: _weights(1, CIFAR_STEM), TorchvisionResNet(depth=18), "a ResNet-18 with a CIFAR stem (3x3)"),
        (lambda: DEEPER, EIGHT, "it holds a CIFAR ResNet-14; take others or set model.kind, depth, norm to match (k"),
        (lambda: _weights(1, CifarResNet(depth=8, norm="group")), EIGHT, "without batch norm's statistics"),
        (lambda: {**BODY, "layer2.0.downsample.0.weight": torch.ones(32, 16, 1, 1)}, EIGHT, "shortcuts (option B)"),
        (lambda: _renamed(BODY, ("conv1.", "conv1.0.")), EIGHT, "missing: conv1.weight; unexpected: conv1.0.weight"),
        (lambda: {**BODY, "layer1.0.se.fc1.weight": torch.ones(1)}, EIGHT, "attention in its blocks"),
        (lambda: {**BODY, "conv1.weight": torch.ones(16, 1, 3, 3)}, EIGHT, "a stem for images of 1 channels"),
        (lambda: {"cls_token": torch.ones(1), "blocks.0.attn.qkv.weight": torch.ones(9, 3)}, EIGHT, "(ViT)"),
        (lambda: {"features.denseblock1.denselayer1.norm1.weight": torch.ones(3)}, EIGHT, "holds a DenseNet"),
        (lambda: {"a.b": torch.ones(1)}, EIGHT, "tensors of other names (a.b)"),
    ],
)  # fmt: skip
def test_another_network_is_told_by_what_it_looks_like(
    weights: Callable[[], Weights], network: Network, named: str, tmp_path: Path
) -> None:
    torch.save(weights(), tmp_path / "w.pth")
    assert named in _refused(tmp_path / "w.pth", network)


class AttributeDict(dict[str, Any]):
    """As Lightning's, which pickles under this name of its own module."""


AttributeDict.__module__ = "pytorch_lightning.utilities.parsing"


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "beside",
    [
        argparse.Namespace(lr=0.1, path=pathlib.PurePosixPath("/d")), pathlib.PosixPath("/data"), np.float64(91.2),
        np.arange(3), defaultdict(list, a=[1]), {1, 2}, frozenset("ab"), OrderedDict(a=1), torch.device("cpu"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_plain_data_beside_the_weights_is_skipped(beside: object, legacy: bool, tmp_path: Path) -> None:
    content = {"options": beside, "state_dict": W, "more": [beside]}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    _loaded(tmp_path / "w.pth")


def _save_with(
    path: Path, name: str, members: dict[str, Any], monkeypatch: pytest.MonkeyPatch, bases: tuple[type, ...] = (object,)
) -> None:
    """Save weights beside an object of a class that does not exist where the file is read."""
    import sys
    import types

    module, _, last = name.rpartition(".")
    made = type(last, bases, {"__module__": module})
    one = made()
    if isinstance(one, dict):
        one.update(members)
    else:
        one.__dict__.update(members)
    with monkeypatch.context() as patch:
        for i in range(1, module.count(".") + 2):
            package = ".".join(module.split(".")[:i])
            patch.setitem(sys.modules, package, types.ModuleType(package))
        setattr(sys.modules[module], last, made)
        torch.save({"state_dict": W, "hyper_parameters": one}, path)


@pytest.mark.parametrize(
    ("name", "bases"),
    [
        ("omegaconf.dictconfig.DictConfig", (object,)),
        ("pytorch_lightning.utilities.parsing.AttributeDict", (dict,)),
        ("mmengine.logging.history_buffer.HistoryBuffer", (object,)),
        ("yacs.config.CfgNode", (dict,)),
    ],
)
def test_options_of_other_libraries_need_not_be_installed(
    name: str, bases: tuple[type, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _save_with(tmp_path / "w.pth", name, {"lr": 0.1}, monkeypatch, bases)
    _loaded(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["my_project.config.TrainConfig", "models.resnet.ResNet", "apex.amp.Scaler"])
def test_classes_of_a_program_are_named_with_the_line_that_saves_the_weights(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _save_with(tmp_path / "w.pth", name, {"lr": 0.1}, monkeypatch)
    message = _refused(tmp_path / "w.pth")
    assert f"objects beside tensors ({name})" in message
    assert "torch.save(c['state_dict'], 'weights.pt')" in message


def test_a_whole_model_is_named(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Linear(2, 2)), tmp_path / "w.pth")
    assert "a whole pickled model (torch.nn.modules." in (message := _refused(tmp_path / "w.pth"))
    assert "torch.save(c.state_dict(), 'weights.pt')" in message
    torch.save({"model": nn.Linear(2, 2), "epoch": 3}, tmp_path / "w.pth")
    assert "torch.save(c['model'].state_dict(), 'weights.pt')" in _refused(tmp_path / "w.pth")


def _shards(folder: Path, save: Callable[[Weights, Path], None], name: str) -> None:
    items = list(W.items())
    parts = {f"{name}-00001-of-00002": dict(items[:20]), f"{name}-00002-of-00002": dict(items[20:])}
    ending = ".safetensors" if name == "model" else ".bin"
    for part, weights in parts.items():
        save(weights, folder / (part + ending))
    places = {key: part + ending for part, weights in parts.items() for key in weights}
    (folder / f"{name}{ending}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def _safe(weights: Weights, path: Path) -> None:
    safetensors.torch.save_file(weights, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("fill", "read"),
    [
        (lambda folder: _safe(W, folder / "model.safetensors"), "model.safetensors"),
        (lambda folder: torch.save(W, folder / "pytorch_model.bin"), "pytorch_model.bin"),
        (lambda folder: _shards(folder, _safe, "model"), "model.safetensors.index.json"),
        (lambda folder: _shards(folder, torch.save, "pytorch_model"), "pytorch_model.bin.index.json"),
        (lambda folder: torch.save(W, folder / "best.ckpt"), "best.ckpt"),
        (lambda folder: (folder / "snapshots/1f").mkdir(parents=True)
            or _safe(W, folder / "snapshots/1f/model.safetensors"), "model.safetensors"),
    ],
)  # fmt: skip
def test_a_folder_of_a_hub(fill: Callable[[Path], object], read: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "README.md").write_text("A model.")
    fill(tmp_path)
    assert f"of {read} loaded" in _loaded(tmp_path).lines[0]


def test_folders_without_the_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert "a folder without any (in it: config.json)" in _refused(tmp_path)
    _shards(tmp_path, _safe, "model")
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    assert "2 shards beside it, and lacks model-00002-of-00002.safetensors: download" in _refused(tmp_path)
    (tmp_path / "two").mkdir()
    for name in ("a.pt", "b.pt"):
        torch.save(W, tmp_path / "two" / name)
    assert "a folder with 2 of them: give one of a.pt, b.pt" in _refused(tmp_path / "two")
    (tmp_path / "two" / "__0_0.distcp").write_bytes(b"\0")
    assert "dcp_to_torch" in _refused(tmp_path / "two")
