"""Which folder a search gets."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from search.engine.study_folder import study_folder
from tests.search.sample_study import sample_spec


def test_fresh_searches_that_start_at_once_each_get_a_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: study_folder(sample_spec(), tmp_path, fresh=True)[0].study, range(8)))
    assert sorted(found) == ["sample", *(f"sample-{number}" for number in range(2, 9))]
