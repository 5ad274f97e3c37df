"""A best_config.yaml that was edited: trained again and compared with, or refused in clear words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.export import export_config
from search.journal.log import Journal
from tests.mutations import COSTLY, ODD, check_clear, damaged, mutated, read_or_refused
from tests.search.sample_study import EPOCHS, sample_events, sample_spec
from trainables.config import ConfigError, dump_yaml, load_config, parse_yaml
from trainables.files import write_text
from trainables.train import train


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, spec = tmp_path_factory.mktemp("sample"), sample_spec()
    write_text(folder / "study.yaml", spec.dump())
    Journal(folder / "journal", 1).append(*sample_events(spec))
    return folder


def uri(folder: Path) -> str:
    return f"sqlite:///{folder / 'none.db'}"


@pytest.fixture(scope="module")
def best(study: Path) -> dict[str, Any]:
    text, _ = export_config(study, uri(study))
    tree = parse_yaml(text, "best_config.yaml")
    assert tree["provenance"]["stop_epoch"] == EPOCHS
    return dict(tree)


def trained(path: Path) -> bool:
    train(path, data=None, seed=None, device=None, full=False, checkpoint=None, cache=None)
    return True


@COSTLY
@given(data=st.data())
def test_an_edited_record_is_compared_with_or_refused(
    tmp_path_factory: pytest.TempPathFactory, best: dict[str, Any], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("best") / "best_config.yaml"
    part = data.draw(st.sampled_from(["provenance", "metrics"]))
    tree = {**best, "provenance": {**best["provenance"]}}
    if part == "metrics":
        tree["provenance"]["metrics"] = data.draw(mutated(best["provenance"]["metrics"]))
    else:
        tree["provenance"] = data.draw(mutated(best["provenance"], ODD | st.integers(-1, 5), most=2))
    try:
        path.write_text(dump_yaml(tree))
    except ValueError:  # more digits than Python writes
        path.write_bytes(b"config: {}\nprovenance: {stop_epoch: 1" + b"0" * 9000 + b"}")
    read_or_refused(lambda: trained(path))


@pytest.mark.parametrize(
    ("provenance", "rule"),
    [
        ({"stop_epoch": 0}, r"provenance\.stop_epoch: must be a whole number from 1 to 4"),
        ({"stop_epoch": 5}, "stop_epoch"),
        ({"stop_epoch": True}, "stop_epoch"),
        ({"stop_epoch": "2"}, "stop_epoch"),
        ({"metrics": {"val_loss": "1"}}, r"provenance\.metrics\.val_loss: must be a number"),
        ({"metrics": {"val_loss": None}}, "must be a number"),
        ({"metrics": {"val_loss": 10**400}}, "must be a number"),
    ],
)
def test_a_record_that_is_none_is_refused_before_training(
    tmp_path: Path, best: dict[str, Any], provenance: dict[str, Any], rule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "best_config.yaml"
    path.write_text(dump_yaml({**best, "provenance": {**best["provenance"], **provenance}}))
    with pytest.raises(ConfigError, match=rule) as caught:
        trained(path)
    check_clear(caught.value)
    assert "epoch" not in capsys.readouterr().out


@COSTLY
@given(data=st.data())
def test_a_damaged_study_is_exported_or_refused(
    tmp_path_factory: pytest.TempPathFactory, study: Path, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("export")
    (folder / "journal").mkdir()
    broken = data.draw(st.sampled_from(["study.yaml", "journal/000001.jsonl"]))
    for name in ("study.yaml", "journal/000001.jsonl"):
        content = (study / name).read_bytes()
        (folder / name).write_bytes(data.draw(damaged(content)) if name == broken else content)
    exported = read_or_refused(lambda: export_config(folder, uri(folder)))
    if exported is not None:
        write_text(folder / "best_config.yaml", exported[0])
        load_config(folder / "best_config.yaml")
