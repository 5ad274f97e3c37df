"""The recipes that a study gets with pretrained weights, and weights that are searched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.engine.study_folder import continued
from search.planning.preflight import check_inputs, check_weights, possible_configs
from search.study.overrides import override
from search.study.parse import load_study, parse_study, study_tree
from search.study.spec import StudySpec
from search.study.transfer import FINE_TUNE, LINEAR_PROBE, transfer_notes
from spaces import study_names, walk
from trainables.config import ConfigError, parse_yaml

WEIGHTS = "model.pretrained=/w/resnet.pt"


def with_weights(name: str, *sets: str) -> StudySpec:
    return override(study_tree(name), sets=[WEIGHTS, *sets])


def searching(*options: str, **changes: Any) -> dict[str, Any]:
    tree = study_tree("cifar10_resnet20") | changes
    tree["space"]["model"]["pretrained"] = {"choice": list(options)}
    return tree


@pytest.mark.parametrize("name", ["cifar10_resnet20", "cifar10_resnet110"])
def test_with_weights_both_are_tried_first_and_are_points_of_the_space(name: str) -> None:
    own = list(load_study(name).recipes)
    spec = with_weights(name)
    assert list(spec.recipes) == [FINE_TUNE, LINEAR_PROBE, *own]
    assert all(spec.locate(spec.recipes[recipe].config) is not None for recipe in (FINE_TUNE, LINEAR_PROBE))
    probe, tuned = (spec.trial_config(spec.recipes[recipe].config) for recipe in (LINEAR_PROBE, FINE_TUNE))
    assert probe.model.frozen_stages == 4
    assert tuned.model.frozen_stages == 0
    assert tuned.optimizer.lr * tuned.optimizer.backbone_lr_ratio == pytest.approx(0.01)
    assert tuned.augment.cutout == tuned.augment.mixup == tuned.augment.cutmix == 0
    assert tuned.augment.policy == "none"
    assert {probe.batch_size, tuned.batch_size} == {spec.trial_config(spec.recipes["he2015"].config).batch_size}
    assert parse_study(parse_yaml(spec.dump(), "study.yaml")) == spec  # they are part of what is recorded
    assert not list(transfer_notes(spec))


def test_a_study_without_weights_stays_as_it_is() -> None:
    for name in study_names():
        spec = load_study(name)
        if spec.trial["model"].get("pretrained", "none") == "none":
            assert override(study_tree(name)) == spec
        elif name.startswith("imagefolder"):
            assert override(override(study_tree(name)), sets=["model.pretrained=none"]).recipes == spec.recipes


def test_a_recipe_of_the_studys_own_stays_and_the_probe_follows_it() -> None:
    own = load_study("imagefolder_resnet50").recipes
    spec = override(study_tree("imagefolder_resnet50"))
    assert list(spec.recipes) == [FINE_TUNE, LINEAR_PROBE, "naive", "progressive"]
    assert spec.recipes[FINE_TUNE] == own[FINE_TUNE]
    probe = spec.recipes[LINEAR_PROBE].config
    assert (probe["model"]["frozen_stages"], probe["batch_size"]) == (5, own[FINE_TUNE].config["batch_size"])


@pytest.mark.parametrize(
    ("fixed", "missing", "why"),
    [
        ("model.frozen_stages=0", {LINEAR_PROBE}, "it needs model.frozen_stages 4, and that is set to 0"),
        ("optimizer.kind=adamw", {LINEAR_PROBE, FINE_TUNE}, "it needs optimizer.kind sgd"),
        ("model.frozen_stages=2", {LINEAR_PROBE}, "it needs model.frozen_stages 4, and that is set to 2"),
        ("optimizer.lr=0.1", set(), ""),
        ("batch_size=8", set(), ""),
    ],
)
def test_what_the_user_fixed_wins_and_a_recipe_that_it_makes_another_is_left_out(
    fixed: str, missing: set[str], why: str
) -> None:
    spec = with_weights("cifar10_resnet20", fixed)
    assert {FINE_TUNE, LINEAR_PROBE} - spec.recipes.keys() == missing
    notes = list(transfer_notes(spec))
    assert len(notes) == len(missing)
    assert all(why in note for note in notes)


def test_rates_that_destroy_weights_are_warned_about() -> None:
    notes = list(transfer_notes(with_weights("cifar10_resnet20", "optimizer.backbone_lr_ratio=1.0")))
    assert not any(note.startswith("warning") for note in notes)  # the space reaches down to .03
    note = list(transfer_notes(with_weights("digits_resnet8", "optimizer.lr=0.5")))[-1]
    assert note.startswith("warning: the lowest rate of pretrained layers in the space, 0.5 with sgd")


def test_nothing_is_added_where_nothing_is_searched() -> None:
    tree = {"study": "one", "trial": {"model": {"pretrained": "/w/a.pt"}}, "budget": {"trials": 1, "epochs": 3},
            "scheduler": {"kind": "none"}}  # fmt: skip
    assert override(tree).recipes == {}


def test_a_study_that_was_begun_without_them_continues_without_them(tmp_path: Path) -> None:
    spec = with_weights("cifar10_resnet20")
    begun = spec.model_copy(update={"recipes": load_study("cifar10_resnet20").recipes})
    (tmp_path / "study.yaml").write_text(begun.dump())
    assert list(continued(spec, tmp_path).recipes) == list(begun.recipes)
    assert continued(spec, tmp_path).identity() == begun.identity()
    (tmp_path / "study.yaml").write_text(spec.dump())
    assert continued(spec, tmp_path) == spec


# --- weights that are searched


def test_what_requires_weights_hangs_on_each_choice_of_them() -> None:
    spec = override(searching("none", "/w/a.pt", "/w/b.pt"))
    below = {key for key in spec.parsed_space.domains() if key.startswith("model.pretrained=")}
    assert below == {
        f"model.pretrained=/w/{file}.pt/{path}"
        for file in "ab"
        for path in ("model.frozen_stages", "optimizer.backbone_lr_ratio")
    }
    assert list(spec.recipes)[:2] == [FINE_TUNE, LINEAR_PROBE]
    for name in (FINE_TUNE, LINEAR_PROBE):
        assert spec.trial_config(spec.recipes[name].config).model.pretrained == "/w/a.pt"
        assert spec.locate(spec.recipes[name].config) is not None
    configs = list(possible_configs(spec))
    assert {config.model.pretrained for config in configs} == {"none", "/w/a.pt", "/w/b.pt"}
    assert {config.model.frozen_stages for config in configs if config.model.pretrained == "none"} == {0}
    one = override(searching("none", "/w/a.pt"), sets=["model.pretrained=/w/a.pt"])
    assert {"model.frozen_stages", "optimizer.backbone_lr_ratio"} <= one.parsed_space.domains().keys()
    point = walk(one.parsed_space, lambda _, domain: getattr(domain, "options", (getattr(domain, "low", 0),))[0])
    assert "pretrained" not in point.tree["model"]


def test_a_chain_of_requirements_is_refused_by_name() -> None:
    tree = searching("none", "/w/a.pt")
    tree["space"]["model"]["frozen_stages"] = {"choice": [0, 4], "requires": "model.pretrained"}
    ratio = tree["space"]["optimizer"]["backbone_lr_ratio"]
    ratio["requires"] = "model.frozen_stages"
    rule = "backbone_lr_ratio.requires: must not require something searched in turn, model.pretrained: .* below its"
    with pytest.raises(ConfigError, match=rule):
        override(tree)
    below = {key.rpartition("/")[2] for key in override(tree, sets=["model.pretrained=/w/a.pt"]).parsed_space.domains()}
    assert "optimizer.backbone_lr_ratio" in below  # once the weights are fixed, it hangs on a choice alone


def test_every_file_that_is_missing_is_named_before_the_search(tmp_path: Path) -> None:
    tree = searching("none", "/absent/a.pt", "/absent/b.pt", trial={"data": {"source": "digits"}})
    spec = override(tree | {"recipes": {}})
    stores = check_inputs(spec, tmp_path)
    with pytest.raises(ConfigError) as caught:
        check_weights(spec, stores, tmp_path)
    assert [problem.value for problem in caught.value.problems] == ["/absent/a.pt", "/absent/b.pt"]


def test_the_lines_of_each_file_say_how_its_input_is_scaled(tmp_path: Path, weights_dir: Path) -> None:
    file = weights_dir / "resnet20-12fca82f.th"
    spec = override(searching("none", str(file), trial={"data": {"source": "digits"}}) | {"recipes": {}})
    first, second = check_weights(spec, check_inputs(spec, tmp_path), tmp_path)
    assert "tensors of resnet20-12fca82f.th loaded" in first
    assert "; input: ImageNet's mean and std, by its first layer: off by " in second
