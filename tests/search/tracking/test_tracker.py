"""The tracker: what the journal says arrives in MLflow whatever happens to it, and the search never waits for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from search.journal.events import TrialSuggested
from search.journal.log import Journal
from search.tracking.projection import RunProjection
from search.tracking.tracker import MLflowTracker, writer_lock
from search.tracking.uri import check_reachable, connect, default_uri
from tests.search.mlflow_contents import Server, contents, runs_of
from tests.search.sample_study import ENDINGS, sample_events, sample_spec
from trainables.config import ConfigError

SPEC = sample_spec()
EVENTS = sample_events(SPEC)


def track(uri: str, out: Path) -> None:
    projected = RunProjection(uri, SPEC, out / "mlartifacts", pytest.fail)
    for event in EVENTS:
        projected.take(event)
    projected.write()


def test_a_new_store_is_made_and_the_best_config_is_kept_with_the_search(tmp_path: Path) -> None:
    uri = default_uri(tmp_path)
    (tmp_path / "best_config.yaml").write_text("config: {}\n")
    tracker = MLflowTracker(uri, SPEC, tmp_path)
    for event in EVENTS:
        tracker(event)
    run_id = tracker.run_id(0)
    assert tracker.run_id(99) is None
    assert tracker.close([tmp_path / "best_config.yaml"])
    parent, children = runs_of(uri)
    assert (run_id, tracker.experiment_id) == (children[0].info.run_id, parent.info.experiment_id)
    names = [file.path for file in connect(uri).list_artifacts(parent.info.run_id)]
    assert sorted(names) == ["best_config.yaml", "leaderboard.md", "study.yaml"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best_config.yaml", "mlartifacts", "mlflow.db", "sample"]


def test_an_event_of_this_session_is_written_without_being_asked(store: str, tmp_path: Path) -> None:
    tracker = MLflowTracker(store, SPEC, tmp_path, interval=0.05)
    for event in EVENTS[:2]:
        tracker(event)
    time.sleep(0.5)
    assert connect(store).get_experiment_by_name("sample") is None  # a replay does not load MLflow yet
    live = EVENTS[1].model_copy(update={"trial": 1, "time": time.time()})
    assert isinstance(live, TrialSuggested)
    tracker(live)
    deadline = time.monotonic() + 60
    while tracker.experiment_id is None or len(runs_of(store)[1]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert tracker.close()


def test_an_outage_is_reported_once_and_caught_up_with(store: str, tmp_path: Path) -> None:
    lines: list[str] = []
    (tmp_path / "mlartifacts").write_text("in the way")
    tracker = MLflowTracker(store, SPEC, tmp_path, warn=lines.append, interval=0.05)
    for event in EVENTS[:10]:
        tracker(event)
    assert not tracker.flush()
    assert not tracker.flush()
    (tmp_path / "mlartifacts").unlink()
    for event in EVENTS[10:]:
        tracker(event)
    assert tracker.close()
    assert [("is away" in line, "caught up" in line) for line in lines] == [(True, False), (False, True)]
    parent, children = runs_of(store)
    assert (parent.info.status, len(children)) == ("FINISHED", len(ENDINGS))


def test_what_did_not_arrive_is_reported_and_no_password_leaves_the_uri(tmp_path: Path) -> None:
    lines: list[str] = []
    before = dict(os.environ)
    tracker = MLflowTracker("http://me:se%2Fcret@127.0.0.1:1", SPEC, tmp_path, warn=lines.append)
    for event in EVENTS:
        tracker(event)
    assert tracker.run_id(0) is None
    child = "import os; print(*os.environ.values())"
    started = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True).stdout
    begun = time.monotonic()
    assert not tracker.close(timeout=1)
    assert time.monotonic() - begun < 5
    assert len(lines) == 2
    assert "6 trials are incomplete" in lines[1]
    assert not any("cret" in text for text in [*lines, started, *os.environ.values()])
    tracker._thread.join(30)
    assert dict(os.environ) == before
    assert len(lines) == 2


DRIVER = """
import sys, time
from pathlib import Path
from search.journal.log import read
from search.tracking.tracker import MLflowTracker
from tests.search.sample_study import sample_spec

out = Path(sys.argv[1])
tracker = MLflowTracker(sys.argv[2], sample_spec(), out, interval=0.01)
for event in read(out / "journal"):
    tracker(event)
    tracker.flush()
    print("written", flush=True)
"""


@pytest.mark.parametrize("lines", [0, 7])
def test_a_killed_driver_leaves_a_store_that_the_next_one_uses(tmp_path: Path, lines: int) -> None:
    Journal(tmp_path / "journal", 1).append(*EVENTS)
    uri = default_uri(tmp_path)
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path), uri], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    assert driver.stdout is not None
    if not lines:  # while MLflow makes its tables
        while not list(tmp_path.glob(".mlflow-*/*.db")):
            time.sleep(0.02)
        time.sleep(0.2)
    for _ in range(lines):
        driver.stdout.readline()
    driver.kill()
    driver.wait()
    assert (tmp_path / "mlflow.db").exists() == bool(lines)
    track(uri, tmp_path)
    parent, children = runs_of(uri)
    assert (parent.info.status, sorted(children)) == ("FINISHED", list(range(len(ENDINGS))))


def test_two_do_not_write_one_study_at_once(store: str, tmp_path: Path) -> None:
    lines: list[str] = []
    other = writer_lock(tmp_path / "sample")
    with other:
        tracker = MLflowTracker(store, SPEC, tmp_path, warn=lines.append, interval=0.05)
        for event in EVENTS:
            tracker(event)
        assert not tracker.flush()
        assert connect(store).get_experiment_by_name("sample") is None
        refused = MLflowTracker(store, SPEC, tmp_path)  # by the study's lock: it has nothing to write
        assert refused.close(timeout=5)
    assert tracker.close()
    assert "another process writes this study" in lines[0]
    assert len(runs_of(store)[1]) == len(ENDINGS)
    with other:
        pass


def test_importing_it_is_quick() -> None:
    code = (
        "import sys, search.tracking.tracker, search.export, search.status, search.track\n"
        "print([m for m in ('mlflow', 'torch', 'ray', 'optuna', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow  # the server takes ten seconds to start, and it is started twice
def test_a_server_gone_in_the_middle_is_caught_up_with(server: Server, tmp_path: Path, store: str) -> None:
    lines: list[str] = []
    server.start()
    check_reachable(server.uri)
    tracker = MLflowTracker(server.uri, SPEC, tmp_path, warn=lines.append, interval=0.05)
    for event in EVENTS[:8]:
        tracker(event)
    assert tracker.flush()
    server.stop()
    for event in EVENTS[8:]:
        tracker(event)
    assert not tracker.flush()
    with pytest.raises(ConfigError, match="Connection refused"):
        check_reachable(server.uri)
    server.start()
    assert tracker.close()
    assert ["is away" in lines[0], "caught up" in lines[1], len(lines)] == [True, True, 2]
    track(store, tmp_path)
    assert json.dumps(contents(server.uri), sort_keys=True) == json.dumps(contents(store), sort_keys=True)
    track(server.uri, tmp_path)
    assert len(runs_of(server.uri)[1]) == len(ENDINGS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mlartifacts", "mlflow.db", "sample"]
