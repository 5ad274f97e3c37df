"""Trials of earlier studies: which ones the searcher is told of and as what, and that a journal replays them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from search.algorithms.schedulers.registry import build_scheduler
from search.algorithms.searchers.registry import build_searcher
from search.engine.driver import StudyDriver
from search.engine.warm_start import earlier_studies, warm_started
from search.journal.events import Event, SessionStarted, TrialSuggested, WarmStarted
from search.journal.log import Journal, read
from search.journal.records import Epoch, TrialRecord, TrialStatus
from search.journal.result import StudyResult
from search.journal.state import StudyState
from search.study.parse import parse_study
from search.study.spec import StudySpec
from tests.search.engine.test_driver import TREE, search_through
from tests.search.sample_study import sample_events, sample_spec, write_study
from trainables.config import ConfigError, parse_config

METRIC, LR = "val_accuracy", "optimizer.lr"
SPACE: dict[str, Any] = {"optimizer": {"lr": {"float": [1e-4, 1.0], "log": True}}}
BEST = 0.05  # the learning rate of the best trials


def study(name: str = "new", **changes: Any) -> StudySpec:
    tree = {**TREE, "study": name, "space": SPACE, "recipes": {}, "searcher": {"kind": "tpe"}}
    return parse_study({**tree, **changes})


def trial(
    number: int, lr: float, *curve: float, status: TrialStatus = TrialStatus.COMPLETED, epochs: int = 9, **config: Any
) -> TrialRecord:
    tree = {"model": {"kind": "synthetic"}, "optimizer": {"kind": "sgd", "lr": lr}, "epochs": epochs, **config}
    history = tuple(Epoch(epoch, {METRIC: value, "val_f1": value / 2}) for epoch, value in enumerate(curve, start=1))
    error = "boom" if status is TrialStatus.FAILED else None
    return TrialRecord(
        number, "random", None, parse_config(tree).model_dump(mode="json"), status, history=history, error=error
    )


def earlier(*trials: TrialRecord, fingerprint: str | None = None) -> StudyResult:
    return StudyResult(study("old"), list(trials), fingerprint=fingerprint)


CURVE = [0.1 * epoch for epoch in range(1, 10)]


def told(spec: StudySpec, *trials: TrialRecord, fingerprint: str | None = None) -> WarmStarted:
    good = trial(99, BEST, *CURVE)
    return warm_started(spec, [earlier(*trials, good)], fingerprint)


def test_trials_are_told_as_they_ended() -> None:
    found = told(
        study(),
        trial(0, 0.1, *CURVE),
        trial(1, 0.2, 0.1, 0.2, status=TrialStatus.STOPPED),
        trial(2, 0.3, 0.1, status=TrialStatus.DIVERGED),
        trial(3, 0.4, 0.1, 0.2, 0.3, status=TrialStatus.PAUSED),
        trial(4, 0.5, 0.1, status=TrialStatus.RUNNING),
    )
    assert [(t.trial, t.values[LR], t.status, len(t.history)) for t in found.trials] == [
        (0, 0.1, TrialStatus.COMPLETED, 9), (1, 0.2, TrialStatus.STOPPED, 2), (2, 0.3, TrialStatus.DIVERGED, 1),
        (3, 0.4, TrialStatus.STOPPED, 3), (4, 0.5, TrialStatus.STOPPED, 1), (99, BEST, TrialStatus.COMPLETED, 9),
    ]  # fmt: skip
    assert found.trials[1].history == {1: 0.1, 2: 0.2}
    assert found.lines == ("warm start: 6 of 6 trials of old are inside this space",)


def test_what_is_left_out_is_said_with_its_reason() -> None:
    found = told(
        study(),
        trial(0, 2.0, *CURVE),
        trial(1, 3.0, *CURVE),
        trial(2, 0.1, *CURVE, batch_size=64),
        trial(3, 0.1, *CURVE, optimizer={"kind": "adam", "lr": 0.1}),
        trial(4, 0.1, 0.1, status=TrialStatus.FAILED),
        trial(5, 0.1, status=TrialStatus.PENDING),
        trial(6, 0.1, *CURVE, seed=5, execution={"threads": 2}),  # which makes no other point of it
    )
    assert [t.trial for t in found.trials] == [6, 99]
    assert found.lines == (
        "warm start: 2 of 8 trials of old are inside this space; 6 left out: optimizer.lr "
        "outside 0.0001 to 1, log (2), batch_size 64, here 128 (1), optimizer.kind adam, here sgd (1), failed (1), "
        "no epoch trained (1)",
    )


def test_what_a_study_fixes_is_not_taken_for_what_a_trial_had() -> None:
    space = {**SPACE, "batch_size": {"choice": [64, 128]}}
    assert [t.trial for t in told(study(space=space), trial(0, 0.1, *CURVE, batch_size=64)).trials] == [0, 99]
    fixed = study(space=space, fixed={"batch_size": 128})
    assert [t.trial for t in told(fixed, trial(0, 0.1, *CURVE, batch_size=64)).trials] == [99]


def test_every_metric_may_be_the_objective_that_trials_have_reported() -> None:
    found = told(study(objective={"metric": "val_f1"}), trial(0, 0.1, *CURVE))
    assert (found.metric, found.trials[0].history[9]) == ("val_f1", 0.45)
    with pytest.raises(ConfigError, match=r"0 of 1 trials of old .*: no val_recall \(1\), got 'old'"):
        told(study(objective={"metric": "val_recall"}))


@pytest.mark.parametrize("epochs", [4, 27])
def test_of_trials_of_another_length_the_best_come_first_and_none_is_told(epochs: int) -> None:
    found = told(
        study(budget={"trials": 5, "epochs": epochs}, scheduler={"kind": "none"}),
        trial(0, 0.1, 0.1, 0.2, status=TrialStatus.STOPPED),
    )
    assert ([t.trial for t in found.first], found.trials) == ([99], ())
    assert found.lines[1] == f"warm start: old had 9 epochs instead of {epochs}: the best of such trials come first: 99"


def test_of_trials_on_other_data_the_three_best_come_first_and_none_is_told() -> None:
    other = told(study(), trial(0, 0.1, *CURVE, data={"train_samples": 100}), fingerprint=None)
    assert ([t.trial for t in other.first], [t.trial for t in other.trials]) == ([0], [99])
    assert other.lines[1].startswith("warm start: old had other data (1): ")
    better = [value * 1.1 for value in CURVE]
    stopped = trial(1, 0.2, 0.9, status=TrialStatus.STOPPED)
    images = told(
        study(), trial(0, 0.1, *better), stopped, trial(2, 0.3, *CURVE), trial(3, 0.4, *better), fingerprint="f00d"
    )
    assert ([t.trial for t in images.first], images.trials) == ([0, 3, 2], ())
    assert images.lines[1] == "warm start: old had other data: the best of such trials come first: 0, 3, 2"
    with pytest.raises(ConfigError, match=r"must name studies with completed trials inside .*: none, as they did not"):
        warm_started(study(), [earlier(stopped)], "f00d")
    moved = study(trial={"model": {"kind": "synthetic"}, "data": {"source": "imagefolder:/new"}})
    before = trial(0, 0.1, *CURVE, data={"source": "imagefolder:/old"})
    assert warm_started(moved, [earlier(before, fingerprint="f00d")], "f00d").trials[0].status is TrialStatus.COMPLETED


def test_a_point_that_is_tried_anyway_is_not_taken_again() -> None:
    recipe = {"mine": {"description": "d", "source": "s", "config": {"optimizer": {"lr": 0.1}}}}
    one, two = (earlier(trial(4, 0.1, *CURVE), trial(5, lr, *CURVE), trial(6, 0.3, *CURVE)) for lr in (0.2, 0.4))
    warm = warm_started(study(recipes=recipe), [one, two], "f00d")
    assert [(prior.trial, prior.values[LR]) for prior in warm.first] == [(5, 0.2), (6, 0.3), (5, 0.4)]


def test_they_come_behind_the_recipes_and_are_trials_like_others(tmp_path: Path) -> None:
    recipe = {"mine": {"description": "d", "source": "s", "config": {"optimizer": {"lr": 0.7}}}}
    spec = study(recipes=recipe, budget={"trials": 5, "epochs": 9})
    warm = warm_started(spec, [earlier(trial(4, 0.1, *CURVE), trial(5, BEST, *CURVE))], "f00d")
    drive(tmp_path, spec, warm)
    trials = StudyState.of(read(tmp_path / "journal")).trials
    assert [record.origin for record in trials] == ["recipe:mine", "old/4", "old/5", "tpe", "tpe"]
    assert [record.config["optimizer"]["lr"] for record in trials[:3]] == [0.7, 0.1, BEST]
    assert trials[1].values == {LR: 0.1}


def drive(
    tmp_path: Path, spec: StudySpec, warm: WarmStarted | None, session: int = 1, most: int = 10**9
) -> list[dict[str, Any]]:
    """Search, or continue, until `most` trials have been suggested; their values."""
    past: Sequence[Event] = list(read(tmp_path / "journal"))
    journal = Journal(tmp_path / "journal", session)
    state = StudyState()
    driver = StudyDriver(spec, journal, build_searcher(spec), build_scheduler(spec), state, now=lambda: 1000.0)
    driver.replay(past)
    driver.record(SessionStarted(session=session, versions={}, time=1000.0))
    if warm is not None:
        driver.record(warm)
    if most < spec.budget.trials:
        while len(state.records) < most:
            leg = driver.next_leg()
            assert leg is not None
            driver.on_result(leg.trial, 1, {METRIC: 0.5, "train_loss": 1.0}, last=True)
    else:
        search_through(driver)
    events = read(tmp_path / "journal")
    return [dict(event.values or {}) for event in events if isinstance(event, TrialSuggested)]


def peaked(count: int = 40) -> list[TrialRecord]:
    """Trials that are the better the nearer they are to `BEST`."""
    rates = [10 ** (-4 + 4 * i / (count - 1)) for i in range(count)]
    return [trial(i, lr, *[1 / (1 + 10 * abs(lr - BEST))] * 9) for i, lr in enumerate(rates)]


def test_suggestions_concentrate_where_earlier_trials_were_good(tmp_path: Path) -> None:
    spec = study(budget={"trials": 100, "epochs": 9}, scheduler={"kind": "none"})
    warm = warm_started(spec, [earlier(*peaked())], None)
    blind = drive(tmp_path / "blind", spec, None, most=10)
    guided = drive(tmp_path / "guided", spec, warm, most=10)

    def near(values: list[dict[str, Any]]) -> int:
        return sum(BEST / 5 < point[LR] < BEST * 5 for point in values)

    assert near(guided) >= 8
    assert near(blind) <= 6
    records = StudyState.of(read(tmp_path / "guided" / "journal")).trials
    assert [record.number for record in records] == list(range(10))  # the earlier ones are no trials


def test_a_killed_search_continues_without_the_earlier_study(tmp_path: Path) -> None:
    spec = study(budget={"trials": 12, "epochs": 9}, searcher={"kind": "tpe", "startup_trials": 3})
    warm = warm_started(spec, [earlier(*peaked())], None)
    whole = drive(tmp_path / "whole", spec, warm)
    assert len(whole) == 12
    first = StudyState.of(read(tmp_path / "whole" / "journal"))
    assert first.warm_start == warm
    lines = (tmp_path / "whole" / "journal" / "000001.jsonl").read_bytes().splitlines(keepends=True)
    for kept in (len(lines) // 3, len(lines) // 2):  # killed there
        folder = tmp_path / str(kept) / "journal"
        folder.mkdir(parents=True)
        (folder / "000001.jsonl").write_bytes(b"".join(lines[:kept]))
        assert drive(folder.parent, spec, None, session=2) == whole


class TestStudiesOnDisk:
    @pytest.fixture
    def out(self, tmp_path: Path) -> Path:
        spec = sample_spec("old", trials=6)
        (tmp_path / "old").mkdir()
        write_study(tmp_path / "old", spec, sample_events(spec))
        return tmp_path

    def begun(self, out: Path, name: str, warm: WarmStarted | None) -> StudySpec:
        spec = sample_spec(name).model_copy(update={"searcher": study().searcher})
        (out / name).mkdir()
        events = sample_events(spec)
        write_study(out / name, spec, [events[0], *([warm] if warm else []), *events[1:]])
        return spec

    def test_by_name_or_path_and_each_once(self, out: Path) -> None:
        spec = study()
        (found,) = earlier_studies(["old", str(out / "old")], spec, out)
        assert (found.folder, len(found.trials)) == (out / "old", 6)
        assert [study.folder for study in earlier_studies(out / "old", spec, out)] == [out / "old"]
        assert earlier_studies((), spec, out) == []

    def test_a_study_that_is_not_there_is_refused(self, out: Path) -> None:
        with pytest.raises(ConfigError, match=r"--warm-start: must be a study in .*: there are old"):
            earlier_studies(["older"], study(), out)

    @pytest.mark.parametrize("kind", ["random", "grid"])
    def test_a_searcher_that_does_not_learn_is_refused(self, out: Path, kind: str) -> None:
        with pytest.raises(ConfigError, match=f"--warm-start: must be left out with searcher {kind}"):
            earlier_studies(["old"], study(searcher={"kind": kind}), out)

    def test_a_study_is_continued_as_it_was_begun(self, out: Path) -> None:
        event = warm_started(sample_spec("new"), earlier_studies(["old"], study(), out), "f00d")
        warm, cold = self.begun(out, "warm", event), self.begun(out, "cold", None)
        shutil.rmtree(out / "old")
        assert earlier_studies(["old"], warm, out, resumed=True) == []
        assert earlier_studies((), warm, out, resumed=True) == []
        with pytest.raises(ConfigError, match=r"warm was begun with old: leave it out .*--fresh"):
            earlier_studies(["older"], warm, out, resumed=True)
        with pytest.raises(ConfigError, match=r"cold was begun with none: leave it out"):
            earlier_studies(["old"], cold, out, resumed=True)

    def test_the_journal_gives_the_event_back(self, out: Path) -> None:
        event = warm_started(sample_spec("new"), earlier_studies(["old"], study(), out), "f00d")
        assert [t.status for t in event.trials] == ["COMPLETED", "STOPPED", "DIVERGED", "COMPLETED", "STOPPED"]
        self.begun(out, "new", event)
        (again,) = (e for e in read(out / "new" / "journal") if isinstance(e, WarmStarted))
        assert json.loads(again.model_dump_json()) == json.loads(event.model_dump_json())
