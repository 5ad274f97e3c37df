"""Studies found by name and by path."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.journal.study_folder import find_study, read_study
from tests.search.sample_study import sample_events, sample_spec, write_study
from trainables.config import ConfigError


def searched(folder: Path) -> Path:
    spec = sample_spec(folder.name)
    return write_study(folder, spec, sample_events(spec))


def test_by_name_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = searched(tmp_path / "runs" / "one")
    monkeypatch.chdir(tmp_path)
    assert find_study("one", Path("runs")).absolute() == folder
    assert find_study("runs/one/", Path("elsewhere")) == folder
    assert find_study("./runs/one", Path("elsewhere")) == folder
    monkeypatch.chdir(folder)
    assert find_study(".", Path("elsewhere")) == folder
    spec, events = read_study(folder)
    assert (spec, repr(events)) == (sample_spec("one"), repr(sample_events(spec)))  # NaN is not equal to itself


@pytest.mark.parametrize(
    ("study", "says"),
    [
        ("none", "there are one, two, got 'none'"),
        ("", "there are one, two, got ''"),
        ("runs/none", "there are one, two, got 'runs/none'"),
        ("begun", "there are one, two, got 'begun'"),
        ("nowhere/one", "there is none; --out names the folder of another search, got 'nowhere/one'"),
    ],
)
def test_what_is_no_study_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study: str, says: str) -> None:
    searched(tmp_path / "runs" / "one")
    searched(tmp_path / "runs" / "two")
    (tmp_path / "runs" / "begun" / "journal").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        find_study(study, Path("runs"))
    assert says in str(error.value)
