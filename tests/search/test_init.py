from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from search.init import init
from search.study.overrides import override
from search.study.parse import load_study, parse_study
from trainables.config import CifarResNet, ConfigError, parse_yaml
from trainables.models import build_model
from trainables.models.networks import build_network, check_logits


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """40 images of one class, 10 of another, of different sizes."""
    pixels = np.random.default_rng(0).integers(0, 256, (50, 90, 120, 3), dtype=np.uint8)
    for i, each in enumerate(pixels):
        folder = tmp_path / "photos of birds" / ("common" if i < 40 else "rare")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(each[: 80 + i % 3]).save(folder / f"{i}.png")
    return tmp_path / "photos of birds"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESNET_SEARCH_CACHE", str(tmp_path / "cache"))


def test_large_and_imbalanced_images(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    init(str(photos))
    spec = load_study("./photos_of_birds.yaml")
    config = spec.trial_config({})
    assert (config.model.kind, config.data.source) == ("torchvision_resnet", f"imagefolder:{photos}")
    assert config.data.resolution == 224
    assert spec.objective.metric == "val_f1"
    assert spec.space["regularization"]["imbalance"]
    assert list(spec.recipes) == ["one_cycle", "naive"]
    text = Path("photos_of_birds.yaml").read_text()
    assert "rare (10)" in text
    assert "python -m search.run photos_of_birds.yaml --dry-run" in capsys.readouterr().out


@pytest.mark.parametrize(("folder", "name"), [("2024", "2024"), ("on", "on"), ("Ärzte -x", "rzte_-x")])
def test_folders_of_any_name_give_a_study_a_name(photos: Path, folder: str, name: str) -> None:
    photos.rename(photos.with_name(folder))
    init(folder, model="wrn-16-2")
    spec = load_study(f"./{name}.yaml")
    assert (spec.study, spec.trial_config({}).data.resolution) == (name, 64)
    assert spec.trial["data"]["source"] == f"imagefolder:{Path(folder).absolute()}"


def test_small_images_and_a_chosen_network() -> None:
    init("digits", to=Path("a.yaml"))
    small = load_study("./a.yaml").trial_config({})
    assert (small.model.kind, small.data.resolution, small.augment.flip) == ("cifar_resnet", None, False)
    init("digits", to=Path("b.yaml"), model="resnet18", name="b")
    assert yaml.safe_load(Path("b.yaml").read_text())["trial"]["model"] == {
        "kind": "torchvision_resnet", "depth": 18, "small_images": True,
    }  # fmt: skip


def test_networks_by_their_own_names() -> None:
    init("digits", to=Path("wrn.yaml"), model="WRN-16-4", name="wrn")
    model = load_study("./wrn.yaml").trial_config({}).model
    assert (model.kind, model.depth, model.width) == ("wide_resnet", 16, 4)
    init("digits", to=Path("timm.yaml"), model="resnet18d", name="timm")
    model = load_study("./timm.yaml").trial_config({}).model
    assert (model.kind, model.name, model.small_images) == ("timm", "resnet18d", True)
    with pytest.raises(ConfigError, match=r"model\.name: must be a model of timm .* did you mean resnet18d"):
        init("digits", to=Path("bad.yaml"), model="resnet18dd", name="bad")


def test_the_network_of_the_quickstart_and_its_width(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "quickstart.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    Path("my_net.py").write_text(code)
    monkeypatch.syspath_prepend(Path.cwd())
    init(str(photos), model="my_net:Net", name="mine")
    text = Path("mine.yaml").read_text()
    assert "search.run mine.yaml --dry-run --plugin my_net says" in text
    assert "model" not in load_study("./mine.yaml").space
    spec = parse_study(parse_yaml(text.replace("#model: {settings", "model: {settings"), "mine.yaml"))
    widths = spec.space["model"]["settings"]["width"]["choice"]
    assert widths == [16, 32, 64]
    for width in widths:
        config = spec.trial_config({"model": {"settings": {"width": width}}}).model
        check_logits(build_network(config, 2), config, 2, (224, 224))
    other = build_network(spec.trial_config({}).model, 10)  # its head is for other classes
    torch.save(other.state_dict(), "pre.pt")
    init(str(photos), model="my_net:Net", weights="pre.pt", name="fine")
    fine = load_study("./fine.yaml")
    assert fine.space["model"]["frozen_stages"] == {"int": [0, 5]}
    config = fine.trial_config({"model": {"frozen_stages": 5}}).model
    trained = [name for name, weight in build_model(config, 2).named_parameters() if weight.requires_grad]
    assert trained == ["fc.weight", "fc.bias"]


def test_arguments_are_proposed_where_the_network_takes_both_ends(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("wide_net.py").write_text(
        "from torch import nn\n\n"
        "def net(num_classes, channels=3, width=6, groups=3, drop=0.0, pretrained=False):\n"
        "    assert not pretrained\n"
        "    return nn.Sequential(nn.Conv2d(channels, width, 3, groups=groups), nn.Dropout(drop),\n"
        "        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))\n"
    )
    monkeypatch.syspath_prepend(Path.cwd())
    init(str(photos), model="wide_net:net", name="wide")
    assert "arguments of wide_net:net as well (width, drop), remove the # before `model:` in wide.yaml" in (
        capsys.readouterr().out
    )
    assert "  #model: {settings: {width: {choice: [3, 6, 12]}, drop: {float: [0, 0.5]}}}\n" in (
        Path("wide.yaml").read_text()
    )


def test_a_class_without_num_classes_is_refused_before_a_study_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("plain_net.py").write_text(
        "from torch import nn\n\nclass Net(nn.Module):\n    def __init__(self, classes):\n        pass\n"
    )
    monkeypatch.syspath_prepend(Path.cwd())
    with pytest.raises(ConfigError, match=r"Net takes none.*def build\(num_classes\): return Net\("):
        init("digits", model="plain_net:Net", name="mine", plugin=["plain_net"])
    assert not Path("mine.yaml").exists()


def test_weights_are_fine_tuned(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    init(str(photos))
    assert "few images for a network from scratch: --weights FILE" in capsys.readouterr().out
    torch.save(build_network(CifarResNet(depth=56), 10).state_dict(), "mine.pt")
    init(str(photos), model="resnet56", weights="mine.pt", name="fine")
    printed = capsys.readouterr().out
    assert "--weights" not in printed
    assert "freeze depth" not in printed
    assert re.search(r"tensors of mine\.pt loaded.*\nweights: .*; newly initialized: fc; input: ", printed)
    spec = load_study("./fine.yaml")
    assert spec.trial["model"]["pretrained"] == str(Path("mine.pt").absolute())
    assert spec.space["model"]["frozen_stages"] == {"int": [0, 4]}
    assert list(spec.recipes) == ["naive"]
    assert list(override(spec).recipes) == ["fine_tune", "linear_probe", "naive"]


def test_weights_that_are_not_there_or_do_not_fit_are_refused_before_a_study_is_written() -> None:
    with pytest.raises(ConfigError, match=r"model\.pretrained: must be the path of a readable file .*there is none"):
        init("digits", weights="nofile.pt")
    torch.save(build_network(CifarResNet(depth=8), 10).state_dict(), "shallow.pt")
    with pytest.raises(ConfigError, match=r"it holds a CIFAR ResNet-8; take others or set model\.kind, depth"):
        init("digits", weights="shallow.pt")
    assert not Path("digits.yaml").exists()


def test_a_network_without_stages_is_said_to_be_frozen_nowhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = "nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes))"
    code = f"from torch import nn\n\ndef build(num_classes):\n    return {network}\n"
    Path("flat_net.py").write_text(code)
    monkeypatch.syspath_prepend(Path.cwd())
    torch.save({"1.weight": torch.ones(10, 192), "1.bias": torch.ones(10)}, "flat.pt")
    init("digits", model="flat_net:build", weights="flat.pt", plugin=["flat_net"])
    line = "freeze depth is not searched: flat_net:build declares no stages (docs/models.md)"
    assert line in capsys.readouterr().out
    assert "model" not in load_study("./digits.yaml").space


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"images": "./nowhere"}, "IMAGES: there is no such folder or file"),
        (
            {"images": "nowhere"},
            "IMAGES: there is no such folder or file: name a folder of images.* cifar10, .*'nowhere'",
        ),
        ({"images": "my_pkg:Birds"}, "source: .*runs only if you allow it: --plugin my_pkg"),
        ({"images": "digits", "model": "resnet21"}, "model.depth"),
        ({"images": "digits", "model": "nowhere:build"}, "model.kind: names the module nowhere, and there is none"),
        ({"images": "digits", "to": Path("there.yaml")}, r"--to: there\.yaml already exists: give another --name or"),
        ({"images": "digits", "name": "there"}, r"--name: there\.yaml already exists: give another --name or --to"),
    ],
)
def test_bad_input_is_refused_by_name(options: dict[str, str], named: str) -> None:
    Path("there.yaml").touch()
    with pytest.raises(ConfigError, match=named):
        init(**options)
    assert not Path("digits.yaml").exists()
