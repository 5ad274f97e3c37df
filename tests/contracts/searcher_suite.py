"""What every searcher must do. Inherit `SearcherSuite` in a test module and override the fixture `make`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import pytest

from search.algorithms.searchers.base import Searcher
from search.journal.records import Epoch, TrialRecord, TrialStatus
from spaces import Choice, Entry, Fixed, Float, Int, Space
from spaces.space import Point, check, walk

Mode = Literal["max", "min"]
Make = Callable[[Space, int, Mode], Searcher]
METRIC = "val_accuracy"

SPACE = Space(
    (
        Entry(
            "optimizer.kind",
            Choice(
                ("sgd", "adamw", None),
                (
                    Space(
                        (
                            Entry("optimizer.lr", Float(1e-3, 1.0, log=True)),
                            Entry("optimizer.nesterov", Choice((True, False))),
                        )
                    ),
                    Space((Entry("optimizer.lr", Float(1e-5, 0.1, log=True)), Entry("optimizer.beta1", Fixed(0.9)))),
                    Space(),
                ),
            ),
        ),
        Entry("augment.strength", Float(0.1, 1.0, step=0.1)),
        Entry("model.depth", Int(8, 20, step=6)),
        Entry("batch_size", Int(16, 256, log=True)),
    )
)


def quality(values: Mapping[str, Any]) -> float:
    """A known optimum: AdamW, lr 0.01, strength 0.6, depth 20; in 0..1."""
    kind = values["optimizer.kind"]
    lr = math.log10(values.get(f"optimizer.kind={kind}/optimizer.lr", 1e-5))
    loss = 0.1 * (kind != "adamw") + 0.02 * (lr + 2) ** 2 + 0.2 * (values["augment.strength"] - 0.6) ** 2
    return 0.95 - loss - 0.01 * (20 - values["model.depth"]) / 6


def record(number: int, values: Mapping[str, Any] | None, status: TrialStatus, *curve: float) -> TrialRecord:
    """A trial whose objective took the values of `curve` from epoch 1 on."""
    history = tuple(Epoch(epoch, {METRIC: value}) for epoch, value in enumerate(curve, start=1))
    error = "it broke" if status is TrialStatus.FAILED else None
    return TrialRecord(number, "searched", values, {}, status, history=history, error=error)


def ended(number: int, values: Mapping[str, Any]) -> TrialRecord:
    """How the trial of these values ends: by its number in one of every way, most often by running to the end."""
    value = quality(values)
    if number % 10 == 3:
        return record(number, values, TrialStatus.DIVERGED, value / 2, math.nan)
    if number % 10 == 5:
        return record(number, values, TrialStatus.FAILED)
    if number % 10 in (7, 8, 9):
        return record(number, values, TrialStatus.STOPPED, *([value / 2] * (number % 3 + 1)))
    return record(number, values, TrialStatus.COMPLETED, value / 4, value / 2, value)


def search(searcher: Searcher, trials: int, concurrent: int = 1) -> tuple[list[TrialRecord], list[TrialRecord]]:
    """Run trials, ended ones told oldest first but every third one late; returns the ended and the running ones."""
    done: list[TrialRecord] = []
    under_way: list[TrialRecord] = []
    for number in range(trials):
        if len(under_way) == concurrent:
            last = under_way.pop(1 if concurrent > 1 and number % 3 == 0 else 0)
            done.append(ended(last.number, last.values or {}))
            searcher.tell(done[-1])
        point = searcher.suggest(number)
        assert point is not None
        under_way.append(record(number, point.values, TrialStatus.RUNNING))
        searcher.tell(under_way[-1])
    return done, under_way


def following(searcher: Searcher, first: int, count: int = 3) -> list[Point | None]:
    """The next points, nothing told between them."""
    return [searcher.suggest(number) for number in range(first, first + count)]


class SearcherSuite:
    """Subclasses override `make`; `seeded` says whether the seed changes anything."""

    seeded = True

    @pytest.fixture
    def make(self) -> Make:
        raise NotImplementedError

    def test_every_point_lies_in_the_space(self, make: Make) -> None:
        searcher = make(SPACE, 0, "max")
        done, running = search(searcher, 40, concurrent=3)
        for trial in done + running:
            assert trial.values is not None
            assert check(SPACE, trial.values) == []
            values = trial.values
            assert walk(SPACE, lambda key, _, values=values: values[key]).values == values

    def test_the_tree_belongs_to_the_values(self, make: Make) -> None:
        for number in range(20):
            point = make(SPACE, number, "max").suggest(number)
            assert point is not None
            assert point == walk(SPACE, lambda key, _, point=point: point.values[key])

    def test_values_survive_json_unchanged(self, make: Make) -> None:
        for point in following(make(SPACE, 0, "max"), 0, 20):
            assert point is not None
            again = json.loads(json.dumps(point.values))
            assert {key: (type(v), v) for key, v in again.items()} == {
                key: (type(v), v) for key, v in point.values.items()
            }

    def test_asked_again_it_gives_the_same_point(self, make: Make) -> None:
        searcher = make(SPACE, 0, "max")
        search(searcher, 25)
        assert searcher.suggest(25) == searcher.suggest(25)
        assert searcher.suggest(26) != searcher.suggest(25)

    def test_the_seed_decides(self, make: Make) -> None:
        def points(seed: int) -> list[Point | None]:
            searcher = make(SPACE, seed, "max")
            search(searcher, 30, concurrent=2)
            return following(searcher, 30)

        assert points(1) == points(1)
        assert (points(1) != points(2)) == self.seeded

    @pytest.mark.parametrize(("trials", "concurrent"), [(1, 1), (12, 1), (31, 1), (33, 4)])
    def test_told_its_records_again_it_goes_on_as_if_never_stopped(
        self, make: Make, trials: int, concurrent: int
    ) -> None:
        uninterrupted = make(SPACE, 5, "max")
        done, running = search(uninterrupted, trials, concurrent)
        expected = following(uninterrupted, trials)

        in_order, shuffled = make(SPACE, 5, "max"), make(SPACE, 5, "max")
        for trial in sorted(done + running, key=lambda trial: trial.number):
            in_order.tell(trial)
        for trial in [*running[::-1], *done[::2], *done[1::2]]:
            shuffled.tell(trial)
        assert following(in_order, trials) == expected
        assert following(shuffled, trials) == expected

    def test_records_that_come_late_count_as_if_in_order(self, make: Make) -> None:
        done, _ = search(make(SPACE, 5, "max"), 40)
        in_order, late = make(SPACE, 3, "max"), make(SPACE, 3, "max")
        for trial in done[:30:2]:
            late.tell(trial)
        ahead = late.suggest(30)
        assert ahead is not None
        for trial in done[1:30:2]:
            late.tell(trial)
        for trial in done[:30]:
            in_order.tell(trial)
        in_order.tell(record(30, ahead.values, TrialStatus.RUNNING))
        assert following(late, 31) == following(in_order, 31)

    def test_what_was_tried_counts_not_what_was_suggested(self, make: Make) -> None:
        done, _ = search(make(SPACE, 5, "max"), 40)
        asked, told = make(SPACE, 3, "max"), make(SPACE, 3, "max")
        for trial in done[:30]:
            asked.suggest(trial.number)
            asked.tell(trial)
            told.tell(trial)
        assert following(asked, 30) == following(told, 30)

    def test_a_record_told_in_stages_counts_as_it_ended(self, make: Make) -> None:
        at_once, in_stages = make(SPACE, 0, "max"), make(SPACE, 0, "max")
        for searcher in (at_once, in_stages):
            search(searcher, 20)
        values = at_once.suggest(20)
        assert values is not None
        in_stages.suggest(20)
        final = record(20, values.values, TrialStatus.COMPLETED, 0.1, 0.2, 0.99)
        in_stages.tell(replace(final, status=TrialStatus.RUNNING, history=()))
        in_stages.tell(replace(final, status=TrialStatus.PAUSED, history=final.history[:1]))
        in_stages.tell(replace(final, status=TrialStatus.RUNNING, history=final.history[:2]))
        in_stages.tell(replace(final, status=TrialStatus.PAUSED, history=final.history[:2]))
        in_stages.tell(final)
        at_once.tell(final)
        assert following(in_stages, 21) == following(at_once, 21)

    @pytest.mark.parametrize("mode", ["max", "min"])
    def test_no_value_breaks_it(self, make: Make, mode: Mode) -> None:
        searcher = make(SPACE, 0, mode)
        curves: list[tuple[float, ...]] = [(), (math.nan,), (math.inf, -math.inf), (0.5, math.nan), (1e308, -1e308)]
        number = 0
        for status in (TrialStatus.COMPLETED, TrialStatus.STOPPED, TrialStatus.DIVERGED, TrialStatus.FAILED):
            for curve in curves:
                point = searcher.suggest(number)
                assert point is not None
                assert check(SPACE, point.values) == []
                searcher.tell(record(number, point.values, status, *curve))
                number += 1
        assert searcher.suggest(number) is not None

    def test_recipes_inside_and_outside_the_space_are_accepted(self, make: Make) -> None:
        searcher = make(SPACE, 0, "max")
        inside = {"optimizer.kind": None, "augment.strength": 0.3, "model.depth": 14, "batch_size": 100}
        for number, values in enumerate([inside, None]):
            recipe = replace(record(number, values, TrialStatus.RUNNING), origin="recipe:known")
            searcher.tell(recipe)
            searcher.tell(replace(recipe, status=TrialStatus.COMPLETED, history=(Epoch(1, {METRIC: 0.9}),)))
        assert all(point is not None for point in following(searcher, 2, 10))

    def test_an_empty_space_has_one_point(self, make: Make) -> None:
        assert make(Space(), 0, "max").suggest(0) == Point({}, {})

    def test_it_warns_and_prints_nothing(
        self, make: Make, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
    ) -> None:
        search(make(SPACE, 0, "max"), 15, concurrent=2)
        assert capfd.readouterr() == ("", "")
        assert [str(w.message) for w in recwarn] == []
