"""What every searcher must do: inherit `SearcherSuite` and define `make`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from search.algorithms.searchers.base import Searcher
from search.algorithms.searchers.random import RandomSearcher
from search.journal.records import Epoch, TrialRecord, TrialStatus
from spaces import Choice, Entry, Fixed, Float, Int, Space
from spaces.space import Point, check, walk
from trainables.result import Mode

__all__ = ["METRIC", "SPACE", "Mode", "SearcherSuite", "ended", "following", "quality", "record", "run_trials"]

METRIC = "val_accuracy"  # the objective of every record

SGD = Space((Entry("optimizer.lr", Float(1e-3, 1.0, log=True)), Entry("optimizer.nesterov", Choice((True, False)))))
ADAMW = Space((Entry("optimizer.lr", Float(1e-5, 0.1, log=True)), Entry("optimizer.beta1", Fixed(0.9))))
SPACE = Space(
    (
        Entry("optimizer.kind", Choice(("sgd", "adamw", None), (SGD, ADAMW, Space()))),
        Entry("augment.strength", Float(0.1, 1.0, step=0.1)),
        Entry("model.depth", Int(8, 20, step=6)),
        Entry("batch_size", Int(16, 256, log=True)),
    )
)


def quality(values: Mapping[str, Any]) -> float:
    """A function of `SPACE` with a known optimum: AdamW, lr 0.01, strength 0.6, depth 20; in 0..1."""
    kind = values["optimizer.kind"]
    lr = math.log10(values.get(f"optimizer.kind={kind}/optimizer.lr", 1e-5))
    loss = 0.1 * (kind != "adamw") + 0.02 * (lr + 2) ** 2 + 0.2 * (values["augment.strength"] - 0.6) ** 2
    return float(0.95 - loss - 0.01 * (20 - values["model.depth"]) / 6)


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


def run_trials(searcher: Searcher, trials: int, concurrent: int = 1) -> tuple[list[TrialRecord], list[TrialRecord]]:
    """Run trials that end oldest first, but every third one late; returns the ended and the running ones."""
    done: list[TrialRecord] = []
    running: list[TrialRecord] = []
    for number in range(trials):
        if len(running) == concurrent:
            last = running.pop(1 if concurrent > 1 and number % 3 == 0 else 0)
            done.append(ended(last.number, last.values or {}))
            searcher.tell(done[-1])
        running.append(record(number, suggested(searcher, number).values, TrialStatus.RUNNING))
        searcher.tell(running[-1])
    return done, running


def suggested(searcher: Searcher, number: int) -> Point:
    """A suggestion, in `SPACE`."""
    point = searcher.suggest(number)
    assert point is not None
    assert check(SPACE, point.values) == []
    return point


def following(searcher: Searcher, first: int, count: int = 3) -> list[Point | None]:
    """The next points, with no record between them."""
    return [searcher.suggest(number) for number in range(first, first + count)]


SMALL = {  # spaces with an end, and how many combinations they have
    "choices": (Space((Entry("x", Choice((1, 2))), Entry("y", Choice(("a", "b", None))))), 6),
    "branches": (Space((Entry("x", Choice(("a", "b"), (Space((Entry("y", Int(0, 2)),)), Space()))),)), 4),
    "ranges": (Space((Entry("x", Float(0.0, 1.0, step=0.5)), Entry("y", Int(1, 2, log=True)))), 6),
}


class SearcherSuite:
    """Subclasses define `make`; `seeded` says whether the seed changes anything, `repeats` whether a point may be
    suggested to two trials: the second one then gets another seed.
    """

    seeded = True
    repeats = False

    def make(self, space: Space, seed: int, mode: Mode) -> Searcher:
        """A fresh searcher that `mode`-imizes `METRIC`."""
        raise NotImplementedError

    def test_every_point_lies_in_the_space_and_survives_json(self) -> None:
        done, running = run_trials(self.make(SPACE, 0, "max"), 40, concurrent=3)
        fresh = [suggested(self.make(SPACE, seed, "max"), seed) for seed in range(20)]
        for values in [*(trial.values or {} for trial in done + running), *(point.values for point in fresh)]:
            again = json.loads(json.dumps(values))
            assert {key: (type(v), v) for key, v in again.items()} == {key: (type(v), v) for key, v in values.items()}
        for point in fresh:
            assert point == walk(SPACE, lambda key, _: point.values[key])  # noqa: B023 (called here)
        assert self.make(Space(), 0, "max").suggest(0) == Point({}, {})

    def test_called_again_it_gives_the_same_point(self) -> None:
        searcher = self.make(SPACE, 0, "max")
        run_trials(searcher, 25)
        assert searcher.suggest(25) == searcher.suggest(25)
        assert searcher.suggest(26) != searcher.suggest(25)

    def test_the_seed_decides(self) -> None:
        def points(seed: int) -> list[Point | None]:
            searcher = self.make(SPACE, seed, "max")
            run_trials(searcher, 30, concurrent=2)
            return following(searcher, 30)

        assert points(1) == points(1)
        assert (points(1) != points(2)) == self.seeded

    def test_given_its_records_again_it_continues_as_if_never_stopped(self) -> None:
        for trials, concurrent in ((1, 1), (12, 1), (31, 1), (33, 4)):
            uninterrupted, in_order, shuffled = (self.make(SPACE, 5, "max") for _ in range(3))
            done, running = run_trials(uninterrupted, trials, concurrent)
            expected = following(uninterrupted, trials)
            for trial in sorted(done + running, key=lambda trial: trial.number):
                in_order.tell(trial)
            for trial in [*running[::-1], *done[::2], *done[1::2]]:
                shuffled.tell(trial)
            assert following(in_order, trials) == expected
            assert following(shuffled, trials) == expected

    def test_records_that_come_late_count_as_if_in_order(self) -> None:
        done, _ = run_trials(self.make(SPACE, 5, "max"), 40)
        in_order, late = self.make(SPACE, 3, "max"), self.make(SPACE, 3, "max")
        for trial in done[:30:2]:
            late.tell(trial)
        ahead = suggested(late, 30)
        for trial in done[1:30:2]:
            late.tell(trial)
        for trial in done[:30]:
            in_order.tell(trial)
        in_order.tell(record(30, ahead.values, TrialStatus.RUNNING))
        assert following(late, 31) == following(in_order, 31)

    def test_what_was_tried_counts_not_what_was_suggested(self) -> None:
        done, _ = run_trials(self.make(SPACE, 5, "max"), 40)
        called, replayed = self.make(SPACE, 3, "max"), self.make(SPACE, 3, "max")
        for trial in done[:30]:
            called.suggest(trial.number)
            called.tell(trial)
            replayed.tell(trial)
        assert following(called, 30) == following(replayed, 30)

    def test_a_trial_counts_as_it_ended_however_often_it_paused(self) -> None:
        at_once, in_stages = self.make(SPACE, 0, "max"), self.make(SPACE, 0, "max")
        for searcher in (at_once, in_stages):
            run_trials(searcher, 20)
        final = record(20, suggested(at_once, 20).values, TrialStatus.COMPLETED, 0.1, 0.2, 0.99)
        in_stages.suggest(20)
        for status, epochs in ((TrialStatus.RUNNING, 0), (TrialStatus.PAUSED, 1), (TrialStatus.RUNNING, 2)):
            in_stages.tell(replace(final, status=status, history=final.history[:epochs]))
        in_stages.tell(final)
        at_once.tell(final)
        assert following(in_stages, 21) == following(at_once, 21)

    def test_a_small_space_is_tried_whole_and_nothing_twice(self) -> None:
        for space, combinations in SMALL.values() if not self.repeats else ():
            searcher = self.make(space, 0, "max")
            last = walk(space, lambda _, domain: domain.options[-1] if isinstance(domain, Choice) else domain.high)
            trials = [replace(record(0, last.values, TrialStatus.RUNNING), origin="recipe:known")]
            searcher.tell(trials[0])
            while (point := searcher.suggest(len(trials))) is not None:
                assert point.values not in [trial.values for trial in trials]
                resumed = self.make(space, 0, "max")
                for trial in reversed(trials):
                    resumed.tell(trial)
                assert resumed.suggest(len(trials)) == point
                trials.append(record(len(trials), point.values, TrialStatus.COMPLETED, 0.5))
                searcher.tell(trials[-1])
            assert len(trials) == combinations

    def test_trials_of_earlier_studies_are_knowledge_alone(self) -> None:
        last = suggested(self.make(SPACE, 7, "max"), 0).values
        known = [ended(number, suggested(RandomSearcher(SPACE, 9), number).values) for number in range(20)]
        prior = [replace(trial, number=trial.number - 21, origin="prior:old") for trial in known]
        prior.append(replace(record(-1, last, TrialStatus.COMPLETED, 0.1), origin="prior:old"))
        first, continued = self.make(SPACE, 5, "max"), self.make(SPACE, 5, "max")
        for trial in prior:
            first.tell(trial)
        assert first.suggest(0) == first.suggest(0)
        done, running = run_trials(first, 20, concurrent=2)
        for trial in [*running, *reversed(done), *reversed(prior)]:
            continued.tell(trial)
        assert following(continued, 20) == following(first, 20)
        for space, combinations in SMALL.values():
            searcher = self.make(space, 0, "max")
            points = [point for point in following(self.make(space, 0, "max"), 0, combinations) if point is not None]
            for number, point in enumerate(points):
                values, status = point.values, TrialStatus.COMPLETED
                searcher.tell(replace(record(number - len(points), values, status, 0.5), origin="prior:old"))
            assert None not in following(searcher, 0, combinations)  # each point may be tried here as well

    def test_no_value_breaks_it(self) -> None:
        curves = ((), (math.nan,), (math.inf, -math.inf), (0.5, math.nan), (1e308, -1e308))
        statuses = (TrialStatus.COMPLETED, TrialStatus.STOPPED, TrialStatus.DIVERGED, TrialStatus.FAILED)
        for searcher in (self.make(SPACE, 0, "max"), self.make(SPACE, 0, "min")):
            for number, (status, curve) in enumerate((status, curve) for status in statuses for curve in curves):
                searcher.tell(record(number, suggested(searcher, number).values, status, *curve))
            suggested(searcher, 20)

    def test_recipes_inside_and_outside_the_space_are_accepted(self) -> None:
        searcher = self.make(SPACE, 0, "max")
        inside = {"optimizer.kind": None, "augment.strength": 0.3, "model.depth": 14, "batch_size": 100}
        for number, values in enumerate([inside, None]):
            recipe = replace(record(number, values, TrialStatus.RUNNING), origin="recipe:known")
            searcher.tell(recipe)
            searcher.tell(replace(recipe, status=TrialStatus.COMPLETED, history=(Epoch(1, {METRIC: 0.9}),)))
        for number in range(2, 12):
            suggested(searcher, number)

    def test_it_warns_and_prints_nothing(self, capfd: Any, recwarn: Any) -> None:
        run_trials(self.make(SPACE, 0, "max"), 15, concurrent=2)
        assert capfd.readouterr() == ("", "")
        assert [str(warning.message) for warning in recwarn] == []
