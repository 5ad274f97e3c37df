"""docs/models.md: its example is trained, its configs are valid, and its table says what the networks are."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from search.study.parse import parse_study
from trainables.config import ConfigError, parse_config, parse_yaml
from trainables.config.plugins import allow_plugins
from trainables.data.images import load_splits
from trainables.models import build_model
from trainables.models.cost import batch_norm_problem, forward_gflops
from trainables.models.networks import build_network
from trainables.models.pretrained import check_pretrained
from trainables.models.protocol import head_name, stages
from trainables.training.loop import Run

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
ROWS = re.findall(r"\| `(\{.*?\})` \| ([\d.]+) \| (\d+) \| ([\d.]+) \|", PAGE)
TRIAL: dict[str, Any] = {
    "data": {"source": "synthetic", "train_samples": 32, "val_samples": 20}, "batch_size": 16, "epochs": 1,
    "optimizer": {"kind": "sgd", "lr": 0.05, "backbone_lr_ratio": 0.5}, "execution": {"device": "cpu"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def my_pkg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's example as an importable and allowed package, and a function that says nothing about itself."""
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    bare = "\n\ndef bare(num_classes):\n    return build(num_classes)\n"
    (tmp_path / "my_pkg.py").write_text(example + bare)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_pkg", raising=False)  # another test's
    allow_plugins(["my_pkg"])


def test_the_example_is_trained_frozen_and_given_weights_of_other_classes(tmp_path: Path) -> None:
    (line,) = re.findall(r"    model: (\{kind: \"my_pkg.*\})", PAGE)
    model = parse_yaml(line, "docs")
    config = parse_config({**TRIAL, "model": model})
    torch.save(build_network(config.model, 4).state_dict(), tmp_path / "weights.pt")
    model |= {"pretrained": str(tmp_path / "weights.pt"), "frozen_stages": 2}
    config = parse_config({**TRIAL, "model": model})
    loaded = check_pretrained(config.model, 10)
    assert loaded is not None
    assert loaded.new == ("fc",)
    run = Run(config, load_splits(config.data, tmp_path / "cache"))
    (result,) = run.epochs()
    assert result.last
    assert len(stages(run.network)) == 5
    before = torch.load(tmp_path / "weights.pt", weights_only=True)
    after = run.network.state_dict()
    assert {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])} == {
        "trunk_output", "fc",
    }  # fmt: skip
    assert not [name for name in before if "block1" in name and not torch.equal(before[name], after[name])]
    assert forward_gflops(config.model, 224) == pytest.approx(0.42, abs=0.02)
    one = config.model_copy(update={"batch_size": 1})
    problem = batch_norm_problem(one, 10, (32, 32))
    assert problem is not None
    assert "must be at least 2, or use data.resolution above 32: " in problem.rule


def test_a_function_without_attributes_is_a_network_without_stages_and_head(tmp_path: Path) -> None:
    config = parse_config({**TRIAL, "model": {"kind": "my_pkg:bare"}}).model
    model = build_model(config, 3, (32, 32))
    assert (stages(model), head_name(model)) == ([], None)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    frozen = config.model_copy(update={"pretrained": str(tmp_path / "weights.pt"), "frozen_stages": 1})
    with pytest.raises(ConfigError, match=r"must be at most 0, the number of stages that .* declares by `stages\(mod"):
        build_model(frozen, 3)


@pytest.mark.parametrize(("line", "millions", "side", "gflops"), ROWS)
def test_the_table_is_measured(line: str, millions: str, side: str, gflops: str) -> None:
    if "timm" in line:
        pytest.importorskip("timm", reason="timm is not installed: pip install 'resnet-search[timm]'")
    config = parse_config({"model": parse_yaml(line, "docs")}).model
    with torch.device("meta"):
        model = build_network(config, 10)
    assert f"{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.2f}" == millions
    assert f"{forward_gflops(config, int(side)):.2f}" == gflops


def test_the_other_configs_of_the_page_are_valid() -> None:
    pytest.importorskip("timm", reason="timm is not installed: pip install 'resnet-search[timm]'")
    assert len(ROWS) > 10
    lines = re.findall(r"^    model: (\{.*\})", PAGE, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        parse_config({"model": parse_yaml(line, "docs")})
    (space,) = re.findall(r"    space:\n(?:     .*\n)+", PAGE)
    tree = parse_yaml(textwrap.dedent(space), "docs")
    spec = parse_study({"study": "networks", "budget": {"trials": 4, "epochs": 2}, **tree})
    assert "model.kind=timm/model.drop_path" in spec.parsed_space.domains()
    (last,) = re.findall(r"`name: (\{choice: \{resnet18d.*\})`", PAGE)
    parse_study({
        "study": "networks", "budget": {"trials": 4, "epochs": 2},
        "trial": {"model": {"kind": "timm", "name": "resnet18d"}},
        "space": {"model": {"name": parse_yaml(last, "docs")}},
    })  # fmt: skip
