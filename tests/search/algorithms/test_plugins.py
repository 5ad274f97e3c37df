"""Searchers and schedulers of other packages: named by a study, or passed as objects."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from search.algorithms.schedulers.none import NoStopping
from search.algorithms.schedulers.registry import build_scheduler
from search.algorithms.searchers.random import RandomSearcher
from search.algorithms.searchers.registry import build_searcher
from search.study.overrides import override
from search.study.parse import load_study, parse_study
from search.study.settings import InstanceSettings
from search.study.spec import StudySpec
from trainables.config import ConfigError, parse_yaml, plugins

PACKAGE = "plugged_in"
CODE = """
from pydantic import BaseModel, ConfigDict
from search.algorithms.schedulers.none import NoStopping
from search.algorithms.searchers.random import RandomSearcher

class Shifted(RandomSearcher):
    class Settings(BaseModel):
        model_config = ConfigDict(extra="forbid")
        by: int
        often: bool = False

    def __init__(self, study, settings):
        super().__init__(study.parsed_space, study.seed + settings.by)

class Patient(NoStopping):
    def __init__(self, study, settings):
        assert settings is None

class Useless:
    def __init__(self, study, settings):
        self.suggest = print
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed distribution with plug-ins, of a package that dotted paths are allowed into."""
    (tmp_path / f"{PACKAGE}.py").write_text(CODE)
    info = tmp_path / f"{PACKAGE}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: {PACKAGE}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[resnet_search.searchers]\nshifted = {PACKAGE}:Shifted\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_allowed", {PACKAGE: None})
    plugins._entry_points.cache_clear()
    yield
    plugins._entry_points.cache_clear()
    sys.modules.pop(PACKAGE, None)


def study(**sections: Any) -> StudySpec:
    return parse_study({**load_study("synthetic").model_dump(), **sections})


@pytest.mark.parametrize("kind", ["shifted", f"{PACKAGE}:Shifted"])
def test_a_study_names_a_searcher_of_another_package(kind: str) -> None:
    spec = study(searcher={"kind": kind, "settings": {"by": 3}})
    expected = RandomSearcher(spec.parsed_space, spec.seed + 3)
    assert build_searcher(spec).suggest(5) == expected.suggest(5)
    again = parse_study(parse_yaml(spec.dump(), "study.yaml"))
    assert again == spec
    assert again.searcher.model_dump() == {"kind": kind, "settings": {"by": 3, "often": False}}
    assert spec.difference(override(spec, sets=["searcher.settings.by=4"])) == ["searcher.settings.by: 3 -> 4"]


def test_a_study_names_a_scheduler_of_another_package() -> None:
    assert isinstance(build_scheduler(study(scheduler={"kind": f"{PACKAGE}:Patient"})), NoStopping)


@pytest.mark.parametrize(
    ("searcher", "path", "rule"),
    [
        ({"kind": "shiftd"}, "searcher.kind", "did you mean `shifted`? must be one of 'random', 'grid', 'tpe', or a"),
        ({"kind": "shifted"}, "searcher.settings.by", "is required"),
        ({"kind": "shifted", "settings": {"by": "x"}}, "searcher.settings.by", "must be a valid integer"),
        ({"kind": "shifted", "settings": {"by": 1, "ofen": 1}}, "searcher.settings.ofen", "did you mean `often`?"),
        ({"kind": "shifted", "by": 1}, "searcher.by", "unknown key, valid keys: kind, settings"),
        ({"kind": f"{PACKAGE}:Patient", "settings": {"by": 1}}, "searcher.settings", "must be empty"),
        ({"kind": f"{PACKAGE}:Nothing"}, "searcher.kind", "has no such name; it defines: Shifted"),
        ({"kind": "os:system"}, "searcher.kind", "runs only if you allow it: --plugin os"),
        ({"kind": "instance"}, "searcher.class", "is required"),
    ],
)
def test_a_mistake_is_named(searcher: dict[str, Any], path: str, rule: str) -> None:
    with pytest.raises(ConfigError) as refused:
        study(searcher=searcher)
    assert path in [problem.path for problem in refused.value.problems]
    assert rule in str(refused.value)


def test_a_plug_in_that_is_gone_when_the_study_is_resumed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = study(searcher={"kind": f"{PACKAGE}:Shifted", "settings": {"by": 3}})
    text = spec.dump()
    monkeypatch.setattr(plugins, "_allowed", {})
    with pytest.raises(ConfigError, match=rf"searcher\.kind: names code of the package {PACKAGE}"):
        parse_study(parse_yaml(text, "study.yaml"))
    with pytest.raises(ConfigError, match=rf"searcher\.kind: names code of the package {PACKAGE}"):
        build_searcher(spec)


def test_what_is_no_searcher_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"must be a Searcher, but has no tell, got 'plugged_in\.Useless'"):
        build_searcher(study(searcher={"kind": f"{PACKAGE}:Useless"}))


def test_an_object_must_be_passed_again() -> None:
    passed = NoStopping()
    spec = study(scheduler=InstanceSettings.of(passed).model_dump())
    recorded = {"kind": "instance", "class": "search.algorithms.schedulers.none.NoStopping"}
    assert parse_yaml(spec.dump(), "study.yaml")["scheduler"] == recorded
    assert build_scheduler(spec, passed) is passed
    for given in (None, RandomSearcher(spec.parsed_space, 0)):
        with pytest.raises(ConfigError, match=r"scheduler\.class: .* pass scheduler=\.\.\. of this class again"):
            build_scheduler(spec, given)  # type: ignore[arg-type]
