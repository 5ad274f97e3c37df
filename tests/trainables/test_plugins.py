"""Models and images of another package: those of docs/plugins.md, trained, resumed, and refused when they are wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from search.planning.preflight import check_inputs
from search.planning.typical import typical
from search.study.overrides import override
from search.study.parse import parse_study
from search.study.smoke import shrink
from search.study.trial_tree import has_key
from tests.trainables.image_files import write_folder
from trainables.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from trainables.config import ConfigError, PluginModel, dump_config, load_config, parse_config, parse_yaml
from trainables.config import plugins as registry
from trainables.data.images import load_splits
from trainables.evaluate import evaluate
from trainables.models import build_model
from trainables.models.networks import build_network
from trainables.models.protocol import head, stages, train_mode
from trainables.train import train
from trainables.trainable import build_trainable
from trainables.training.fused import FusedSteps
from trainables.training.loop import Run
from trainables.training.optim import build_optimizer

DOCS = Path(__file__).parents[2] / "docs" / "plugins.md"
EXAMPLES = "\n".join(re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL))
# What is wrong, or as little as there may be.
OTHERS = """
class Plain(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.last = nn.Linear(192, num_classes)

    def forward(self, images):
        return self.last(images.flatten(1))

def nothing(num_classes):
    return "a network"

def features(num_classes):
    return nn.Flatten()

class Ordinary(nn.Module):
    def __init__(self, width=32):
        super().__init__()

def mistaken(num_classes):
    return {}["width"]

def blind(num_classes):
    class Network(nn.Module):
        def forward(self, images):
            return images.pixels
    return Network()

class Elsewhere(Plain):
    def head(self):
        return nn.Linear(2, 2)

class Headless(Plain):
    def head(self):
        return self.final

def nested(num_classes):
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.Flatten(), nn.Sequential(nn.ReLU(), nn.Linear(512, num_classes)))

class Empty:
    def __init__(self, argument):
        pass

class Mislabeled(Stripes):
    def contents(self, downloads):
        return Contents(("one",), super().contents(downloads).rows, 200, 0)

number = 3
"""
TREE: dict[str, Any] = {
    "model": {"kind": "birds:Tiny", "settings": {"width": 4}}, "data": {"source": "birds:Stripes:3"},
    "optimizer": {"kind": "sgd", "lr": 0.05}, "batch_size": 32, "epochs": 2, "execution": {"device": "cpu"},
}  # fmt: skip

STUDY = {"study": "birds", "budget": {"trials": 9, "epochs": 4}, "trial": {"data": {"source": "birds:Stripes:3"}}}


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the package `birds`, which is importable and allowed."""
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "birds.py").write_text(EXAMPLES + OTHERS)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(DOCS.parents[1])]))
    monkeypatch.setattr(registry, "_allowed", {"birds": None})
    registry._entry_points.cache_clear()
    yield folder
    registry._entry_points.cache_clear()
    sys.modules.pop("birds", None)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def install(folder: Path) -> None:
    """Make `birds` an installed distribution with entry points."""
    info = folder / "birds-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: birds\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[resnet_search.models]\ntiny = birds:Tiny\n[resnet_search.data_sources]\nstripes = birds:Stripes\n"
    )
    registry._entry_points.cache_clear()


def refused(tree: dict[str, Any], cache: Path) -> str:
    """The one line that says what is wrong with a config, or with its trial."""
    with pytest.raises(ConfigError) as caught:
        build_trainable(parse_config({**TREE, **tree}), cache)
    (problem,) = caught.value.problems
    return str(problem)


def test_the_example_trains_and_resumes_in_another_process(tmp_path: Path, cache: Path) -> None:
    config = parse_config(TREE)
    assert config.model == PluginModel(kind="birds:Tiny", settings={"width": 4})
    assert len({config.model, PluginModel(kind="birds:Tiny", settings={"width": 4})}) == 1
    trial = build_trainable(config, cache)
    results = trial.epochs()
    next(results)
    save_checkpoint(trial.state_dict(), tmp_path / "trial.pt")
    whole = next(results)
    assert whole.last

    code = f"""
from pathlib import Path
from trainables.checkpoints.checkpoint import config_of, load_checkpoint
from trainables.config.plugins import allow_plugins
from trainables.train import train
from trainables.trainable import build_trainable
allow_plugins(["birds"])
state = load_checkpoint(Path({str(tmp_path / "trial.pt")!r}))
trial = build_trainable(config_of(state), Path({str(cache)!r}))
trial.load_state_dict(state)
print(next(trial.epochs()).val_loss)
"""
    resumed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert float(resumed.stdout) == whole.val_loss


def test_entry_points_need_no_permission(
    package: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(package)
    monkeypatch.setattr(registry, "_allowed", {})
    config = parse_config({**TREE, "model": {"kind": "tiny"}, "data": {"source": "stripes:3"}})
    assert config.model.settings == {"width": 8}  # recorded with its defaults
    path, checkpoint = tmp_path / "config.yaml", tmp_path / "trained.pt"
    path.write_text(dump_config(config))
    assert load_config(path) == config
    train(path, cache=cache, checkpoint=checkpoint)
    evaluate([checkpoint], cache=cache, split="test")
    assert "test split of stripes:3: 30 images" in capsys.readouterr().out


def test_verbs_allow_packages_by_name(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, copy = tmp_path / "config.yaml", tmp_path / "copy.yaml"
    for file in (path, copy):
        file.write_text(dump_config(parse_config({**TREE, "epochs": 1})))
    command = [sys.executable, "-m", "trainables.compare", path, copy, "--seeds", "2", "--cache", cache]
    compared = subprocess.run([*command, "--plugin", "birds"], capture_output=True, text=True, check=True, timeout=300)
    assert "copy.yaml and config.yaml have the same val_accuracy with every seed" in compared.stdout
    for verb, subject in ((train, path), (evaluate, [path])):
        monkeypatch.setattr(registry, "_allowed", {})
        with pytest.raises(ConfigError, match=r"model\.kind: names code of .*--plugin birds, got 'birds:Tiny'"):
            verb(subject, cache=cache)  # type: ignore[operator]
    with pytest.raises(ConfigError, match="must name weights"):  # the config was read
        evaluate([path], cache=cache, plugin=["birds"])


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            {"model": {"kind": "cifar_resnt", "depth": 8}},
            "model.kind: must be one of 'cifar_resnet', 'wide_resnet', 'torchvision_resnet', 'timm', 'synthetic', or a",
        ),
        ({"model": {"kind": "resnet50"}}, "did you mean {kind: torchvision_resnet, depth: 50}?, got 'resnet50'"),
        ({"model": {"kind": "resnet50d"}}, "did you mean {kind: timm, name: resnet50d}?, got 'resnet50d'"),
        ({"model": {"depth": 8}}, "model.kind: is required, one of 'cifar_resnet'"),
        ({"model": {"kind": "other:Net"}}, "model.kind: names code of the package other, which runs only if you"),
        ({"model": {"kind": "birds:Tinny"}}, "names `Tinny`, and birds has no such name; did you mean `Tiny`?, got"),
        ({"model": {"kind": "birds:qqq"}}, "has no such name; it defines: "),
        ({"model": {"kind": "birds.red:Tiny"}}, "names the module birds.red, and there is none in the current folder"),
        ({"model": {"kind": "birds:number"}}, "model.kind: must name a class or function"),
        ({"model": {"kind": "birds:Tiny", "settings": {"widht": 4}}}, "model.settings.widht: unknown key, did you"),
        ({"model": {"kind": "birds:Tiny", "settings": {"width": "x"}}}, "model.settings.width: must be a valid int"),
        ({"model": {"kind": "birds:Plain", "settings": {"width": 4}}}, "settings.width: unknown key, valid keys: none"),
        ({"model": {"kind": "birds:Tiny", "settngs": {}}}, "model.settngs: unknown key, did you mean `settings`?"),
        ({"model": {"kind": "birds:Tiny", "frozen_stages": 1}}, "model.frozen_stages: must be 0 unless"),
        ({"data": {"source": "strips"}}, "synthetic, imagefolder:PATH, parquet:PATH, or a plug-in: its entry point"),
        ({"data": {"source": "other:Birds:3"}}, "which runs only if you allow it: --plugin other"),
        ({"data": {"source": "birds:Strips"}}, "data.source: must be one of cifar10"),
        ({"data": {"source": "birds:number"}}, "data.source: must name a plug-in's class"),
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_name_or_setting_is_one_line(tree: dict[str, Any], message: str, cache: Path) -> None:
    assert message in refused(tree, cache)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"model": {"kind": "birds:nothing"}}, "a torch.nn.Module, and nothing(num_classes=2) returned a str"),
        (
            {"model": {"kind": "birds:Ordinary"}},
            "model.kind: must take an argument num_classes, and Ordinary takes none: name a function that builds it, "
            "def build(num_classes): return Ordinary(...)",
        ),
        ({"model": {"kind": "birds:mistaken"}}, "mistaken(num_classes=2) fails: KeyError: 'width', birds.py line "),
        ({"model": {"kind": "birds:blind"}}, "fails on them (AttributeError: 'Tensor' object has no attribute"),
        ({"model": {"kind": "birds:Headless"}}, "must return modules of the network, and fail: AttributeError"),
        ({"model": {"kind": "birds:features"}}, "must return logits [b, 2], and returned [2, 192] for b = 2"),
        (
            {"model": {"kind": "birds:Plain"}, "data": {"source": "birds:Stripes", "resolution": 16}},
            "must take images [b, 3, 16, 16], and fails on them",
        ),
        ({"model": {"kind": "birds:Elsewhere"}}, "head(model) must be modules of the network, and a Linear is not"),
        (
            {"model": {"kind": "birds:Plain"}, "optimizer": {"kind": "sgd", "backbone_lr_ratio": 0.1}},
            "optimizer.backbone_lr_ratio: must be 1",
        ),
        ({"data": {"source": "birds:Empty"}}, "data.source: must name a source of images"),
        ({"data": {"source": "birds:Mislabeled"}}, "must label each image with a class from 0 to 0, and image 1 has 1"),
    ],
    ids=str,
)  # fmt: skip
def test_a_plug_in_that_breaks_its_contract_is_one_line(tree: dict[str, Any], message: str, cache: Path) -> None:
    assert message in refused(tree, cache)


def test_pretrained_weights_stages_and_head_of_a_plug_in(tmp_path: Path) -> None:
    config = PluginModel(kind="birds:Tiny")
    trained = build_network(config, 5).state_dict()
    torch.save({"model": {f"module.{name}": value for name, value in trained.items()}}, tmp_path / "weights.pt")
    config = PluginModel(kind="birds:Tiny", pretrained=str(tmp_path / "weights.pt"), frozen_stages=1)
    model = build_model(config, 10)
    assert torch.equal(model.get_parameter("conv.weight"), trained["conv.weight"])
    assert head(model) is model.fc
    train_mode(model)
    assert [module.training for module in (model, *stages(model)[0])] == [True, False, False]
    groups = build_optimizer(parse_config(TREE).optimizer, model).param_groups
    assert [(group["name"], len(group["params"])) for group in groups] == [("head", 2)]
    with pytest.raises(ConfigError, match=r"model\.frozen_stages: must be at most 1, the number of stages"):
        build_model(config.model_copy(update={"frozen_stages": 2}), 10)
    with pytest.raises(
        ConfigError, match=r"a network of the plug-in birds:Tiny.*set model\.kind and settings to match"
    ):
        build_model(config.model_copy(update={"settings": {"width": 3}}), 10)


@pytest.mark.parametrize("change", ["other classes", "another layer too"])
def test_weights_of_other_classes_ask_for_a_head(change: str, tmp_path: Path) -> None:
    config = PluginModel(kind="birds:nested", pretrained=str(tmp_path / "weights.pt"))
    trained = build_network(config, 6).state_dict()
    if change == "another layer too":
        trained["0.weight"] = trained["0.weight"][:4]
    torch.save(trained, tmp_path / "weights.pt")
    with pytest.raises(ConfigError) as caught:
        build_model(config, 4)
    asked = "the last layer, 2.1 (6 classes in the file, 4 here): declare it, so that it is replaced, "
    asked += "`nested.head = lambda network: network[2][1]`; and in the same way `stages`, if freeze"
    assert (asked in str(caught.value)) == (change == "other classes")


def test_a_checkpoint_of_a_plug_in_says_first_how_it_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, needed = tmp_path / "trial.pt", r"^checkpoint: needs --plugin birds \(its"
    for part, value in (("model", {"kind": "birds:Tiny"}), ("data", {"source": "birds:Stripes:3"})):
        config = parse_config({part: value}).model_dump(mode="json")
        save_checkpoint({"config": config, "epoch": 1, "step": 0}, path)
        monkeypatch.setattr(registry, "_allowed", {})
        with pytest.raises(ConfigError, match=needed):
            load_checkpoint(path)
        registry.allow_plugins(["birds"])


@pytest.mark.parametrize(
    ("package", "message"),
    [
        ("my_net.py", "must be a package's name without path, .py or module: --plugin my_net, got 'my_net.py'"),
        ("src/my_net.py", "module: --plugin my_net, got"),
        ("my_pkg.nets:build", "module: --plugin my_pkg, got"),
        ("my-net", "or module, got 'my-net'"),
    ],
)  # fmt: skip
def test_only_packages_are_allowed(package: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        registry.allow_plugins([package])
    assert message in str(caught.value)


def test_a_plug_in_may_say_that_it_is_fusible(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = parse_config(TREE)
    runs = [Run(config.model_copy(update={"seed": seed}), load_splits(config.data, cache)) for seed in range(2)]
    assert runs[0].fusion is None
    monkeypatch.setattr(sys.modules["birds"].Tiny, "fusible", True, raising=False)
    runs = [Run(config.model_copy(update={"seed": seed}), load_splits(config.data, cache)) for seed in range(2)]
    assert runs[0].fusion == runs[1].fusion is not None
    assert FusedSteps().advance(runs) == [None, None]


def test_the_images_of_two_arguments_are_two(cache: Path, tmp_path: Path) -> None:
    sources = ["birds:Stripes", "birds:Stripes:3", "birds:Stripes:4"]
    stores = [load_splits(parse_config({**TREE, "data": {"source": source}}).data, cache).store for source in sources]
    assert len({store.fingerprint for store in stores}) == 3
    write_folder(tmp_path / "birds", {"Stripes": 3, "b": 3})  # a path that looks like a plug-in's name stays a path
    assert load_splits(parse_config({**TREE, "data": {"source": f"imagefolder:{tmp_path}/birds"}}).data, cache)


def test_a_study_searches_over_plug_ins_and_their_settings() -> None:
    [written] = re.findall(r"    space:\n(?:     .*\n)+", DOCS.read_text(encoding="utf-8"))
    space = parse_yaml(textwrap.dedent(written).replace("my_pkg", "birds"), "docs")["space"]
    space["batch_size"] = {"choice": [16, 32]}
    spec = parse_study(STUDY | {"space": space})
    drawn = {"batch_size": 32, "model": {"kind": "birds:Tiny", "settings": {"width": 9}}}
    assert spec.trial_config(drawn).model == PluginModel(kind="birds:Tiny", settings={"width": 9})
    tiny = "model.kind=birds:Tiny/model.settings.width"
    assert spec.locate(drawn) == {"batch_size": 32, "model.kind": "birds:Tiny", tiny: 9}
    assert spec.trial["data"]["source"] == "birds:Stripes:3"
    assert parse_study(spec.model_dump()) == spec
    assert shrink(spec).trial["data"]["train_samples"] == 185  # what a ResNet-20 costs at 64 pixels is the most
    fixed = override(spec, sets=["model.kind=birds:Tiny", "model.settings.width=9"])
    assert fixed.trial_config({}).model == PluginModel(kind="birds:Tiny", settings={"width": 9})

    assert not has_key(spec.trial, "model.settings.width")
    assert not has_key({"model": {"kind": "birds:Tiny"}}, "model.depth")


def test_a_search_tries_every_plug_in_before_a_trial_starts(cache: Path) -> None:
    spec = parse_study(STUDY | {"space": {"model": {"kind": {"choice": ["birds:Tiny", "birds:features"]}}}})
    with pytest.raises(ConfigError, match=r"must return logits \[b, 2\].*got 'birds:features'"):
        check_inputs(spec, cache)
    widths = {"kind": {"choice": {"birds:Tiny": {"settings": {"width": {"choice": [4, -1, 8]}}}}}}
    with pytest.raises(ConfigError, match=r"Tiny\(num_classes=2, width=-1\) fails: RuntimeError: .*birds\.py line"):
        check_inputs(parse_study(STUDY | {"space": {"model": widths}}), cache)


def test_the_plan_calls_a_plug_in_by_its_kind(cache: Path) -> None:
    widths = {"kind": {"choice": {"birds:Tiny": {"settings": {"width": {"choice": [4, 8]}}}}}}
    spec = parse_study(STUDY | {"space": {"model": widths}})
    assert typical(spec, check_inputs(spec, cache))[1] == "birds:Tiny"


def test_a_module_that_cannot_be_imported_is_one_line(package: Path, cache: Path) -> None:
    (package / "broken.py").write_text("from torch import nn\nwidths = 1 / 0\n")
    registry.allow_plugins(["broken"])
    message = "model.kind: cannot be loaded (ZeroDivisionError: division by zero, broken.py line 2), got 'broken:build'"
    assert refused({"model": {"kind": "broken:build"}}, cache) == message
