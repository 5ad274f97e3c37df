from __future__ import annotations

import logging
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from search.algorithms.schedulers.registry import build_scheduler
from search.algorithms.searchers.registry import build_searcher
from search.engine.driver import StudyDriver
from search.journal.events import SessionStarted
from search.journal.log import Journal
from search.journal.state import StudyState
from search.planning.resources import resolved_execution
from search.storage.remote import local_storage
from search.study.parse import parse_study
from search.tune.adapters import TuneContext
from search.tune.run import run_trials
from tests.search.killed_search import synthetic_study
from trainables.files import write_text


@pytest.mark.slow
@pytest.mark.usefixtures("two_cpus")
def test_a_search_runs_in_a_thread_and_leaves_nothing_changed(tmp_path: Path) -> None:
    def state() -> tuple[Any, ...]:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
        return dict(os.environ), handlers, logging.getLogger("ray.tune").level

    spec = resolved_execution(parse_study(synthetic_study("asha", trials=3, epochs=3)), False, 1)
    write_text(tmp_path / "study.yaml", spec.dump())
    journal = Journal(tmp_path / "journal", 1)
    driver = StudyDriver(spec, journal, build_searcher(spec), build_scheduler(spec), StudyState())
    driver.record(SessionStarted(session=1, time=0.0, versions={}))
    lines: list[str] = []
    context = TuneContext(
        driver, tmp_path, local_storage(tmp_path), 1, spec.resources, 2, tmp_path / "cache", 0, lines.append
    )
    before = state()
    thread = threading.Thread(target=run_trials, args=(context,))
    thread.start()
    thread.join(120)
    journal.close()
    assert (driver.finished, driver.trouble, lines) == (True, None, [])
    assert [record.status.ended for record in driver.records.values()] == [True] * 3
    assert state() == before
