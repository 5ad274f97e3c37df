"""Which folder a search gets."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from search.engine.study_folder import continued, study_folder
from search.planning.resources import resolved_execution
from tests.search.sample_study import sample_spec
from trainables.config import ConfigError
from trainables.files import write_text


def test_fresh_searches_that_start_at_once_each_get_a_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: study_folder(sample_spec(), tmp_path, fresh=True)[0].study, range(8)))
    assert sorted(found) == ["sample", *(f"sample-{number}" for number in range(2, 9))]


def test_a_study_keeps_the_precision_that_it_was_begun_with(tmp_path: Path) -> None:
    begun = resolved_execution(sample_spec(), True, 1, lambda _: "fp32")
    write_text(tmp_path / "study.yaml", begun.dump())
    again = resolved_execution(continued(sample_spec(), tmp_path), True, 1, lambda _: "bf16")
    assert again.trial["execution"] == begun.trial["execution"]
    assert begun.trial["execution"]["precision"] == "fp32"


def test_a_study_keeps_the_weights_by_which_it_was_begun_to_compare(tmp_path: Path) -> None:
    begun = sample_spec().dump()
    assert "rung_weights: averaged" in begun
    write_text(tmp_path / "study.yaml", begun.replace("  rung_weights: averaged\n", ""))  # as earlier versions did
    with pytest.raises(ConfigError, match=r"objective\.rung_weights: current -> averaged"):
        continued(sample_spec(), tmp_path)
