"""The Python API, as a notebook or a script uses it."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import search
from search.algorithms.schedulers.none import NoStopping
from search.algorithms.searchers.random import RandomSearcher
from search.journal.events import EpochReported, Event, SessionEnded, WarmStarted
from search.journal.log import read
from search.study.overrides import override
from search.tune.adapters import TuneContext
from tests.search.mlflow_contents import statuses

ROOT = Path(__file__).parents[2]
METRICS = {"val_accuracy": 0.5, "train_loss": 1.0}


def three_trials(context: TuneContext) -> None:
    """Stands for Ray: an interrupt comes when the last trial has been suggested and the first one has ended."""
    for _ in range(3):
        context.driver.next_leg()
    context.driver.on_result(0, 1, METRICS)
    context.driver.on_result(0, 2, METRICS, last=True, stop_reason="epochs")


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.tune.session.connect", lambda: None)
    monkeypatch.setattr("search.tune.session.run_trials", three_trials)


def started(tmp_path: Path, **options: object) -> search.StudyResult:
    spec = override(search.load_study("synthetic"), trials=3, epochs=4)
    return search.run_study(spec, out=tmp_path, progress=False, **options)  # type: ignore[arg-type]


def test_an_interrupted_study_is_reported_as_such_by_every_view(tmp_path: Path, without_ray: None) -> None:
    result = started(tmp_path)
    assert (result.finished, result.trouble, result.folder) == (False, None, tmp_path / "synthetic")
    events = list(read(tmp_path / "synthetic" / "journal"))
    assert isinstance(events[-1], SessionEnded)
    assert events[-1].reason == "interrupted"
    states = ["COMPLETED", "PENDING", "PENDING"]
    assert [record.status.value for record in result.trials] == states
    assert search.open_study("synthetic", out=tmp_path) == result
    rows = result.table().to_pydict()
    assert set(zip(rows["trial_id"], rows["status"], strict=True)) == set(enumerate(states))
    assert "RUNNING" not in statuses(f"sqlite:///{tmp_path}/mlflow.db", "synthetic")


def test_a_study_that_differs_is_not_continued(tmp_path: Path, without_ray: None) -> None:
    started(tmp_path)
    before = [path.read_bytes() for path in sorted((tmp_path / "synthetic" / "journal").glob("*.jsonl"))]
    with pytest.raises(search.ConfigError, match=r"seed: 0 -> 7.*--fresh"):
        started(tmp_path, seed=7)
    with pytest.raises(search.ConfigError, match=r"searcher\.kind: tpe -> instance"):
        started(tmp_path, searcher=RandomSearcher(search.load_study("synthetic").parsed_space, 0))
    assert [path.read_bytes() for path in sorted((tmp_path / "synthetic" / "journal").glob("*.jsonl"))] == before


def test_a_warm_start_is_recorded_and_outlives_the_earlier_study(tmp_path: Path, without_ray: None) -> None:
    started(tmp_path)
    spec = override(search.load_study("synthetic"), trials=3, epochs=4)
    line = "warm start: 1 of 3 trials of synthetic are inside this space; 2 left out: "
    planned = search.plan_study(spec, out=tmp_path, warm_start="synthetic").prior
    assert planned == (f"{line}optimizer.kind outside sgd, adamw (1), no epoch trained (1)",)
    assert started(tmp_path, warm_start=["synthetic"], fresh=True).folder == tmp_path / "synthetic-2"
    shutil.rmtree(tmp_path / "synthetic")
    again = spec.model_copy(update={"study": "synthetic-2"})
    result = search.run_study(again, out=tmp_path, warm_start="synthetic", progress=False)
    events = list(read(tmp_path / "synthetic-2" / "journal"))
    (warm,) = (event for event in events if isinstance(event, WarmStarted))
    assert (events[1], warm.lines) == (warm, planned)
    assert [record.number for record in result.trials] == [0, 1, 2]
    assert len(statuses(f"sqlite:///{tmp_path}/mlflow.db", "synthetic-2")) == 4  # the search and its own trials
    with pytest.raises(search.ConfigError, match=r"--warm-start: .* was begun with synthetic: leave it out"):
        search.run_study(again, out=tmp_path, warm_start="other", progress=False)


def test_fresh_starts_beside_what_is_there(tmp_path: Path, without_ray: None) -> None:
    for name in ("synthetic", "synthetic-2"):
        assert started(tmp_path, fresh=True).folder == tmp_path / name
        assert (tmp_path / name / "best_config.yaml").exists()


def test_objects_are_used_and_recorded_by_their_class(tmp_path: Path, without_ray: None) -> None:
    space = search.load_study("synthetic").parsed_space
    result = started(tmp_path, searcher=RandomSearcher(space, 5), scheduler=NoStopping())
    assert result.trials[2].values == RandomSearcher(space, 5).suggest(2).values
    assert "class: search.algorithms.searchers.random.RandomSearcher" in (result.folder / "study.yaml").read_text()  # type: ignore[operator]
    with pytest.raises(search.ConfigError, match="instance -> tpe"):
        started(tmp_path)
    again = started(tmp_path, searcher=RandomSearcher(space, 5), scheduler=NoStopping())
    assert len(again.trials) == 3


def test_a_model_or_images_passed_as_objects_are_recorded_by_their_path(
    tmp_path: Path, without_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "given_model.py").write_text(
        "from torch import nn\ndef build(settings, classes):\n    return nn.Linear(1, 1)\n"
    )
    given = importlib.import_module("given_model")
    with pytest.raises(search.ConfigError, match=r"logits \[b, classes\]|must return|given_model"):
        search.run_study("digits_resnet8", out=tmp_path, progress=False, model=given.build)
    with pytest.raises(search.ConfigError, match="that the workers can import"):
        search.run_study("digits_resnet8", out=tmp_path, progress=False, model=lambda settings, classes: None)
    with pytest.raises(search.ConfigError, match="that the workers can import"):
        search.run_study("digits_resnet8", out=tmp_path, progress=False, images=lambda argument: None)


def test_bad_input_raises_before_anything_starts(tmp_path: Path) -> None:
    for study, options in (
        ("sinthetic", {}), ("synthetic", {"trials": 0}), ("synthetic", {"sets": ["optimizer.lrr=1"]}),
        ("synthetic", {"tracking_uri": "http://127.0.0.1:9"}),
    ):  # fmt: skip
        with pytest.raises(search.ConfigError):
            search.run_study(study, out=tmp_path, progress=False, **options)  # type: ignore[arg-type]
    with pytest.raises(search.ConfigError, match="there is none"):
        search.open_study("synthetic", out=tmp_path)


def test_every_name_is_there() -> None:
    assert all(getattr(search, name) is not None for name in search.__all__)
    assert dir(search) == sorted(search.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Session'"):
        _ = search.Session  # type: ignore[attr-defined]


@pytest.mark.slow
def test_from_a_thread_it_searches_listens_and_continues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = dict(os.environ)
    events: list[Event] = []
    results: list[search.StudyResult] = []

    def work(trials: int) -> None:
        options = {"epochs": 3, "trials": trials, "concurrent": 2}
        found = search.run_study("synthetic", out=tmp_path, listeners=[events.append], progress=False, **options)  # type: ignore[arg-type]
        results.append(found)

    for trials in (2, 3):
        thread = threading.Thread(target=work, args=(trials,))
        thread.start()
        thread.join()
    assert [len(result.trials) for result in results] == [2, 3]
    assert all(result.finished for result in results)
    reported = sum(isinstance(event, EpochReported) for event in events)
    assert reported == results[1].table().num_rows == sum(map(len, results[1].curves().values()))
    assert results[1]._repr_html_().count("<tr>") == 4
    assert repr(search.open_study("synthetic", out=tmp_path).trials) == repr(results[1].trials)  # NaN equals nothing
    assert capsys.readouterr().out == ""
    assert dict(os.environ) == before  # a notebook's own


def test_the_example_of_the_documentation_runs(tmp_path: Path) -> None:
    known = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    example = ROOT / "docs" / "api_example.py"
    done = subprocess.run(
        [sys.executable, "-P", str(example)], cwd=tmp_path, env=known, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "trial_id" in done.stdout
