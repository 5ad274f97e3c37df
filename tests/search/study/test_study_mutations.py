"""Every study that ships, damaged in every way: read as another study, or refused in clear words, soon."""

from __future__ import annotations

from functools import partial
from importlib import resources
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.study.parse import load_study, parse_study
from search.study.spec import StudySpec
from spaces import read_study, study_names
from tests.mutations import damaged, mutated, read_or_refused
from trainables.config import parse_yaml

STUDIES = {name: read_study(name) for name in study_names()}
SMALL = {"study": "small", "trial": {"data": {"source": "digits"}}, "fixed": {"batch_size": 8}, "seed": 1,
         "space": {"optimizer": {"kind": {"choice": {"sgd": {"lr": {"float": [0.01, 1.0], "log": True}}}}}},
         "recipes": {"naive": {"config": {"optimizer": {"kind": "adam"}}}}, "objective": {"metric": "val_loss"},
         "searcher": {"kind": "tpe"}, "resources": {"prices": 1.0}, "budget": {"trials": 5, "epochs": 9}}  # fmt: skip
FILES = {name: resources.files("spaces").joinpath(f"{name}.yaml").read_bytes() for name in STUDIES}


def used(spec: StudySpec) -> None:
    """What a search does with a study first."""
    assert parse_study(parse_yaml(spec.dump(), "study.yaml")) == spec
    assert spec.difference(spec) == []
    spec.parsed_space.domains()
    for recipe in spec.recipes.values():
        read_or_refused(partial(spec.trial_config, recipe.config))


@given(st.sampled_from([SMALL, *STUDIES.values()]).flatmap(mutated))
def test_a_mutated_study_is_read_or_refused(tree: Any) -> None:
    spec = read_or_refused(lambda: parse_study(tree))
    if spec is not None:
        used(spec)


@given(content=st.sampled_from(list(FILES.values())).flatmap(damaged))
def test_a_damaged_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("study") / "mine.yaml"
    path.write_bytes(content)
    spec = read_or_refused(lambda: load_study(str(path)))
    if spec is not None:
        used(spec)
