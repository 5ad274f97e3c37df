"""MLflow as a projection: what it holds equals the journal, however often and in whatever pieces it is replayed."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest
from mlflow.exceptions import MlflowException

from search.journal.events import (
    Decided,
    EpochReported,
    Event,
    SessionEnded,
    SessionStarted,
    TestScored,
    TrialEnded,
    TrialSuggested,
)
from search.journal.records import Epoch, TrialRecord
from search.tracking.projection import RunProjection
from search.tracking.uri import VIEW_TAG, connect, default_uri
from search.tracking.values import parameters, summary
from tests.search.mlflow_contents import contents, runs_of
from tests.search.sample_study import (
    ENDINGS,
    EPOCHS,
    IMAGES,
    START,
    metrics,
    priced_events,
    refit_events,
    sample_events,
    sample_spec,
    troubled_events,
)
from trainables.config import load_config, parse_config
from trainables.result import METRICS, ClassReport

SPEC = sample_spec()
EVENTS = sample_events(SPEC)
TROUBLED = troubled_events(SPEC)  # with pauses, promotions, lost workers and two sessions
INTERRUPTED = next(i for i, event in enumerate(TROUBLED) if isinstance(event, SessionEnded)) + 1
PROMOTED = next(i for i, e in enumerate(TROUBLED) if isinstance(e, Decided) and e.action == "promote")


def projection(
    uri: str, out: Path, events: Sequence[Event] = (), warn: Callable[[str], None] = pytest.fail
) -> RunProjection:
    projected = RunProjection(uri, SPEC, out / "mlartifacts", warn)
    for event in events:
        projected.take(event)
    return projected


def track(uri: str, out: Path, events: Sequence[Event]) -> None:
    projection(uri, out, events).write()


@pytest.fixture
def other(tmp_path: Path, store: str, empty_store: Path) -> tuple[str, Path]:
    """Another store, and where its search keeps its results."""
    out = tmp_path / "other"
    out.mkdir()
    shutil.copy(empty_store, out / "mlflow.db")
    return default_uri(out), out


def test_every_trial_is_a_run_under_the_search(store: str, tmp_path: Path) -> None:
    track(store, tmp_path, EVENTS)
    parent, children = runs_of(store)
    assert sorted(children) == list(range(len(ENDINGS)))
    assert (parent.info.run_name, parent.info.status) == ("sample", "FINISHED")
    assert parent.data.metrics == {"best_val_accuracy": metrics(4, EPOCHS)["val_accuracy"]}
    wanted = {
        "resnet_search.git": "abc123", "resnet_search.fingerprint": "f00d",
        "resnet_search.images": "\n".join(IMAGES),
        "resnet_search.weights": "weights: 44 of 44", "resnet_search.version.torch": "2.14.1",
        "resnet_search.best_trial": "4", "resnet_search.best_run_id": children[4].info.run_id,
    }  # fmt: skip
    assert wanted.items() <= parent.data.tags.items()
    assert [run.info.run_name for _, run in sorted(children.items())][:4] == [
        "0000 recipe:naive", "0001 random, stopped at epoch 2", "0002 random, diverged at epoch 1",
        "0003 random, failed",
    ]  # fmt: skip
    assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in children.values())
    assert (children[1].info.start_time, children[1].info.end_time) == (int((START + 1) * 1e3), int((START + 2) * 1e3))
    endings = [
        (
            run.info.status,
            *(run.data.tags.get(f"resnet_search.{tag}") for tag in ("trial_state", "stop_reason", "error")),
        )
        for _, run in sorted(children.items())
    ]
    assert endings[:4] == [
        ("FINISHED", "COMPLETED", "epochs", None), ("FINISHED", "STOPPED", "rung 2", None),
        ("FAILED", "DIVERGED", "diverged", None), ("FAILED", "FAILED", None, "RuntimeError: boom"),
    ]  # fmt: skip


def test_parameters_metrics_and_config_are_the_trials_own(store: str, tmp_path: Path) -> None:
    track(store, tmp_path, EVENTS)
    _, children = runs_of(store)
    client, run = connect(store), children[4]
    assert run.data.params == {"optimizer.lr": "0.005"}  # what is searched, and nothing else
    for name in METRICS:
        history = client.get_metric_history(run.info.run_id, name)
        assert {m.step: m.value for m in history} == {e: metrics(4, e)[name] for e in range(1, EPOCHS + 1)}
    assert run.data.metrics.keys() - METRICS == {"epochs", "generalization_gap", "trial_seconds"}
    assert math.isnan(children[2].data.metrics["train_loss"])
    config = Path(client.download_artifacts(run.info.run_id, "config.yaml"))
    suggested = next(event for event in EVENTS if isinstance(event, TrialSuggested) and event.trial == 4)
    assert load_config(config) == parse_config(suggested.config)


def test_a_trial_with_patience_shows_its_best_epoch_and_what_it_gets_right(store: str, tmp_path: Path) -> None:
    report = ClassReport.of(["cat", "<dog>"], [[3, 1], [0, 4]], 0.25)
    more = {"best_epoch": EPOCHS - 1, "report": report}
    last = [event for event in EVENTS if isinstance(event, EpochReported) and event.last]
    track(store, tmp_path, [event.model_copy(update=more) if event in last else event for event in EVENTS])
    parent, children = runs_of(store)
    client, run = connect(store), children[4]
    for name in ("val_accuracy", "val_loss"):  # one rises from epoch to epoch, the other falls
        assert run.data.metrics[name] == metrics(4, EPOCHS - 1)[name]
        assert len(client.get_metric_history(run.info.run_id, name)) == EPOCHS + 1
    assert run.data.metrics["calibration_error"] == 0.25
    assert run.data.tags["resnet_search.best_epoch"] == str(EPOCHS - 1)
    for shown in (run, parent):
        files = {file.path for file in client.list_artifacts(shown.info.run_id)}
        assert {"classes.csv", "confusion_matrix.csv", "confusion_matrix.svg"} <= files
    folder = Path(client.download_artifacts(run.info.run_id, ""))
    assert (folder / "classes.csv").read_text().splitlines() == [
        "class,images,predicted,precision,recall,f1", "cat,4,3,1.0000,0.7500,0.8571", "<dog>,4,5,0.8000,1.0000,0.8889",
    ]  # fmt: skip
    assert (folder / "confusion_matrix.csv").read_text() == "class / taken for,cat,<dog>\ncat,3,1\n<dog>,0,4\n"
    drawn = ElementTree.parse(folder / "confusion_matrix.svg")  # noqa: S314 (our own)
    assert [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")] == [
        "cat", "cat", "3", "1", "<dog>", "<dog>", "4",
    ]  # fmt: skip


def test_the_runs_of_a_comparison_are_apart_and_get_their_test_scores_later(
    store: str, tmp_path: Path, other: tuple[str, Path]
) -> None:
    events = refit_events(SPEC)
    at = max(i for i, event in enumerate(events) if isinstance(event, EpochReported) and event.trial == 7)
    events[at] = events[at].model_copy(update={"best_epoch": EPOCHS - 1})
    scored = next(i for i, event in enumerate(events) if isinstance(event, TestScored))
    for end in (scored, len(events), len(events)):
        track(store, tmp_path, events[:end])
    track(*other, events)
    assert contents(store) == contents(other[0])
    parent, children = runs_of(store)
    tags = parent.data.tags
    assert (tags["resnet_search.best_trial"], tags["resnet_search.refit_winner"]) == ("4", "trial-4")
    assert parent.data.metrics["best_val_accuracy"] == metrics(4, EPOCHS)["val_accuracy"]  # refit's runs are higher
    note = tags["mlflow.note.content"]
    assert "**Refit 1: trial-4 wins**\n\n| arm | runs | mean val_accuracy | mean test accuracy |\n" in note
    assert "| trial-4 | 1 | 0.6600 | 0.6000 |\n| naive | 1 | 0.6450 | 0.7000 |" in note
    experiment = connect(store).get_experiment(parent.info.experiment_id)
    assert "against naive.** Refit: trial-4 wins. [Leaderboard" in experiment.tags["mlflow.note.content"]
    assert [run.data.tags["resnet_search.phase"] for _, run in sorted(children.items())] == ["search"] * 6 + [
        "refit"
    ] * 2
    assert [children[n].info.run_name for n in (6, 7)] == ["0006 refit:trial-4 seed 1000", "0007 refit:naive seed 1000"]
    assert [children[n].data.params for n in (6, 7)] == [{"optimizer.lr": "0.005"}, {"optimizer.lr": "0.01"}]
    assert [children[n].data.metrics["test_accuracy"] for n in (6, 7)] == pytest.approx([0.6, 0.7])
    tested = [connect(store).get_metric_history(children[n].info.run_id, "test_accuracy") for n in (6, 7)]
    assert [[point.step for point in points] for points in tested] == [[EPOCHS], [EPOCHS - 1]]


def test_the_experiment_opens_on_the_answer(store: str, tmp_path: Path) -> None:
    track(store, tmp_path, EVENTS[:6])
    client = connect(store)
    experiment = client.get_experiment_by_name("sample")
    assert experiment is not None
    view = json.loads(experiment.tags[VIEW_TAG])
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`val_accuracy`", False)
    assert view["selectedColumns"] == ["metrics.`val_accuracy`", "metrics.`epochs`", "params.`optimizer.lr`"]
    shown = client.search_runs(
        [experiment.experiment_id], view["searchFilter"], order_by=[f"{view['orderByKey']} DESC"]
    )
    track(store, tmp_path, EVENTS)
    parent, children = runs_of(store)
    assert [run.info.run_id for run in shown] == [children[0].info.run_id]
    best = children[4].info.run_id
    for note in (
        client.get_experiment(experiment.experiment_id).tags["mlflow.note.content"],
        parent.data.tags["mlflow.note.content"],
    ):
        assert note.startswith(f"**Best: trial [4](#/experiments/{experiment.experiment_id}/runs/{best}?")
        assert ", val_accuracy 0.6400, +0.0400 against naive.**" in note
    leaderboard = Path(client.download_artifacts(parent.info.run_id, "leaderboard.md")).read_text().splitlines()
    assert leaderboard[0] == "| trial | from | epochs | val_accuracy | vs naive | optimizer.lr |"
    assert [line.split("]")[0] for line in leaderboard[2:]] == [f"| [{n}" for n in (4, 0, 5, 1, 2, 3)]
    assert leaderboard[2].endswith("| random | 4 | 0.6400 | +0.0400 | 0.005 |")


def test_what_a_user_wrote_about_an_experiment_stays(store: str, tmp_path: Path) -> None:
    client = connect(store)
    location, tags = (tmp_path / "mlartifacts" / "sample").as_uri(), {"mlflow.note.content": "a sample"}
    made = client.create_experiment("sample", artifact_location=location, tags=tags)  # as an older version did
    track(store, tmp_path, EVENTS)
    assert client.get_experiment(made).tags["mlflow.note.content"].startswith("**Best: trial [4]")
    client.set_experiment_tag(made, "mlflow.note.content", "mine")
    track(store, tmp_path, EVENTS)
    assert client.get_experiment(made).tags["mlflow.note.content"] == "mine"
    assert VIEW_TAG in client.get_experiment(made).tags


def test_a_running_trial_is_written_epoch_by_epoch(store: str, tmp_path: Path) -> None:
    projected, client = projection(store, tmp_path, EVENTS[:1]), connect(store)
    for event in EVENTS[1:5]:
        projected.take(event)
        projected.write()
        run = client.get_run(projected.run_ids[0])
        assert run.info.status == "RUNNING"
        if isinstance(event, EpochReported):
            assert run.data.metrics["val_loss"] == event.metrics["val_loss"]


def test_each_state_of_a_study_is_shown(store: str, tmp_path: Path) -> None:
    track(store, tmp_path, TROUBLED[:PROMOTED])
    _, children = runs_of(store)
    assert [(run.info.status, run.data.tags["resnet_search.trial_state"]) for _, run in sorted(children.items())] == [
        ("FINISHED", "COMPLETED"), ("SCHEDULED", "PAUSED"), ("SCHEDULED", "PAUSED"), ("FAILED", "FAILED"),
    ]  # fmt: skip
    track(store, tmp_path, TROUBLED[: PROMOTED + 2])
    promoted = runs_of(store)[1][1]
    assert (promoted.info.status, promoted.data.tags["resnet_search.trial_state"]) == ("RUNNING", "RUNNING")
    track(store, tmp_path, TROUBLED[:INTERRUPTED])
    parent, children = runs_of(store)
    assert parent.info.status == "KILLED"
    assert (children[1].info.status, children[1].data.tags["resnet_search.trial_state"]) == ("SCHEDULED", "PENDING")
    track(store, tmp_path, TROUBLED[: INTERRUPTED + 1])
    assert runs_of(store)[0].info.status == "RUNNING"
    track(store, tmp_path, TROUBLED)
    parent, children = runs_of(store)
    assert parent.info.status == "FINISHED"
    assert [run.info.status for _, run in sorted(children.items())] == [
        "FINISHED", "FINISHED", "FINISHED", "FAILED", "FINISHED",
    ]  # fmt: skip
    tags = [
        tuple(run.data.tags.get(f"resnet_search.{name}") for name in ("legs", "worker_losses", "last_worker_error"))
        for _, run in sorted(children.items())
    ]
    assert tags == [
        (None, None, None), ("3", None, None), ("3", "2", "timeout: no epoch for 60 min"),
        ("2", "2", "error: ValueError: boom [1]"), (None, None, None),
    ]  # fmt: skip
    assert children[1].data.metrics["epochs"] == 4
    sessions = [
        [run.data.tags[name] for name in ("resnet_search.session", "resnet_search.version.torch")]
        for run in (children[1], children[4], parent)
    ]
    assert sessions == [["1", "2.14.1"], ["2", "2.15.0"], ["2", "2.15.0"]]


def test_writing_at_each_event_and_at_once_give_the_same(store: str, tmp_path: Path, other: tuple[str, Path]) -> None:
    priced = priced_events(SPEC)
    projected = projection(store, tmp_path)
    for event in priced:
        projected.take(event)
        projected.write()
    track(*other, priced[: len(priced) // 2])
    track(*other, [event for event in priced for _ in range(2)])
    assert contents(store) == contents(other[0])
    parent, _ = runs_of(store)
    times = [event.time for event in priced if isinstance(event, SessionStarted | SessionEnded)]
    spent = 0.36 * (times[1] - START) / 3600 + 3.6 * (times[3] - times[2]) / 3600
    assert parent.data.metrics["cost"] == pytest.approx(spent)
    history = connect(store).get_metric_history(parent.info.run_id, "cost")
    ended = sum(isinstance(event, TrialEnded) for event in priced)
    assert len(history) == ended + 2
    assert [point.value for point in sorted(history, key=lambda point: (point.timestamp, point.step))] == sorted(
        point.value for point in history
    )


@pytest.mark.parametrize("cut", [1, PROMOTED, INTERRUPTED, len(TROUBLED) - 1])
def test_a_killed_writer_is_caught_up_with(store: str, tmp_path: Path, other: tuple[str, Path], cut: int) -> None:
    track(store, tmp_path, TROUBLED[:cut])
    track(store, tmp_path, TROUBLED)
    track(store, tmp_path, TROUBLED)
    track(*other, TROUBLED)
    assert contents(store) == contents(other[0])


def test_searches_of_one_name_are_separate_and_a_deleted_experiment_is_restored(store: str, tmp_path: Path) -> None:
    track(store, tmp_path, EVENTS)
    client = connect(store)
    experiment = client.get_experiment_by_name("sample")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    later = [e.model_copy(update={"time": START + 500}) if isinstance(e, SessionStarted) else e for e in EVENTS]
    track(store, tmp_path, later)
    assert len(client.search_runs([experiment.experiment_id])) == 2 * (len(ENDINGS) + 1)


def test_a_trial_that_mlflow_refuses_does_not_hold_up_the_others(store: str, tmp_path: Path) -> None:
    lines: list[str] = []
    odd = [
        e.model_copy(update={"metrics": {"no such / name?": 1.0}})
        if isinstance(e, EpochReported) and e.trial == 1
        else e
        for e in EVENTS
    ]
    projected = projection(store, tmp_path, odd, lines.append)
    with pytest.raises(MlflowException, match="no such"):
        projected.write()
    for _ in range(2):
        projected.forget()
        projected.write()
    _, children = runs_of(store)
    assert sum("refuses trial 1" in line for line in lines) == 1
    assert [n for n, run in sorted(children.items()) if run.info.status == "RUNNING"] == [1]


def test_a_summary_has_what_the_curves_do_not_show() -> None:
    history = tuple(
        Epoch(e, {"val_accuracy": v, "train_accuracy": 0.9, "seconds": 2.0}) for e, v in enumerate((0.5, 0.7, 0.6), 1)
    )
    row = summary(TrialRecord(0, "random", {}, {}, history=history))
    assert row == pytest.approx({"epochs": 3, "generalization_gap": 0.3, "trial_seconds": 6.0})
    assert summary(TrialRecord(0, "random", {}, {})) == {}


def test_parameters_are_text_at_their_paths() -> None:
    tree = {"a": {"b": None, "c": True, "d": 1e-5, "e": "x" * 9000}, "f": 1}
    found = parameters(tree, ["f", "a.b", "a.c", "a.d", "a.e", "a.none", "f.none"])
    assert found == {"f": "1", "a.b": "null", "a.c": "true", "a.d": "1e-05", "a.e": "x" * 6000}
