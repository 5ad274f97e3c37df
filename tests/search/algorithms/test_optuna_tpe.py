"""TPE learns from each ending what it should, and any search becomes an Optuna study."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import optuna
from optuna.trial import TrialState

from search.algorithms.optuna_export import optuna_study, readable_names
from search.algorithms.searchers.base import Searcher
from search.algorithms.searchers.optuna_tpe import OptunaSearcher, tpe_sampler
from search.algorithms.searchers.random import RandomSearcher
from search.journal.records import TrialStatus
from search.study.overrides import override
from search.study.parse import load_study
from search.testing.searchers import METRIC, SPACE, quality, record, run_trials
from spaces import Choice, Entry, Float, Space


def tpe(space: Space = SPACE, seed: int = 0, mode: Any = "max", startup_trials: int = 10) -> OptunaSearcher:
    sampler = partial(tpe_sampler, startup_trials=startup_trials)
    return OptunaSearcher(space, metric=METRIC, mode=mode, seed=seed, sampler=sampler)


def regret(searcher: Searcher, trials: int, of: Callable[[Mapping[str, Any]], float] = quality) -> float:
    best = -math.inf
    for number in range(trials):
        point = searcher.suggest(number)
        assert point is not None
        best = max(best, value := of(point.values))
        searcher.tell(record(number, point.values, TrialStatus.COMPLETED, value))
    return 0.95 - best


def test_tpe_finds_better_points_than_random_draws() -> None:
    seeds = range(4)
    guided = statistics.mean(regret(tpe(seed=seed), 50) for seed in seeds)
    blind = statistics.mean(regret(RandomSearcher(SPACE, seed), 50) for seed in seeds)
    assert guided < 0.6 * blind


def test_any_other_sampler_of_optuna_suggests_too() -> None:
    searcher = OptunaSearcher(SPACE, metric=METRIC, mode="max", seed=3, sampler=optuna.samplers.RandomSampler)
    done, _ = run_trials(searcher, 20)
    again = OptunaSearcher(SPACE, metric=METRIC, mode="max", seed=3, sampler=optuna.samplers.RandomSampler)
    assert [trial.values for trial in done] == [again.suggest(trial.number).values for trial in done]


def test_tpe_minimizes_where_the_mode_says_so() -> None:
    def suggested(mode: str, sign: float) -> list[Mapping[str, Any]]:
        searcher = tpe(mode=mode)
        for number in range(25):
            point = searcher.suggest(number)
            searcher.tell(record(number, point.values, TrialStatus.COMPLETED, sign * quality(point.values)))
        return [searcher.suggest(n).values for n in range(25, 28)]

    assert suggested("min", -1.0) == suggested("max", 1.0)
    assert suggested("min", 1.0) != suggested("max", 1.0)


def test_tpe_leaves_the_region_that_diverges() -> None:
    """As failed ones, the region would be suggested again and again: TPE ignores failed trials."""

    def late_share(ended_as: TrialStatus, seed: int) -> float:
        searcher, bad = tpe(seed=seed), 0
        for number in range(40):
            values = searcher.suggest(number).values
            if diverges := values["augment.strength"] > 0.55:
                searcher.tell(record(number, values, ended_as, math.nan))
            else:
                searcher.tell(record(number, values, TrialStatus.COMPLETED, quality(values)))
            bad += diverges and number >= 20
        return bad / 20

    seeds = range(4)
    assert statistics.mean(late_share(TrialStatus.DIVERGED, seed) for seed in seeds) < 0.4
    assert statistics.mean(late_share(TrialStatus.FAILED, seed) for seed in seeds) > 0.6


def test_tpe_ranks_a_diverged_trial_behind_every_stopped_one() -> None:
    space = Space((Entry("x", Float(0.0, 1.0)),))

    def mean_suggestion(late: TrialStatus) -> float:
        points = []
        for seed in range(20):
            searcher = tpe(space, seed, startup_trials=5)
            for number in range(10):
                searcher.tell(record(number, {"x": 0.05 + 0.04 * number}, TrialStatus.STOPPED, 0.5))
            searcher.tell(record(10, {"x": 0.9}, late, 0.4, 0.4, 0.4))  # Optuna ranks first what came farthest
            points.append(searcher.suggest(11).values["x"])
        return statistics.mean(points)

    assert mean_suggestion(TrialStatus.STOPPED) > 0.6
    assert mean_suggestion(TrialStatus.DIVERGED) < 0.4


def test_tpe_counts_a_paused_trial_by_what_it_has_shown() -> None:
    def suggested(status: TrialStatus) -> Mapping[str, Any]:
        searcher = tpe()
        for number in range(12):
            values = searcher.suggest(number).values
            searcher.tell(record(number, values, status, quality(values)))
        return searcher.suggest(12).values

    assert suggested(TrialStatus.PAUSED) == suggested(TrialStatus.STOPPED)
    assert suggested(TrialStatus.PAUSED) != suggested(TrialStatus.RUNNING)


def test_tpe_keeps_concurrent_trials_apart() -> None:
    space = Space((Entry("x", Float(0.0, 1.0)), Entry("y", Float(0.0, 1.0))))

    def spread(concurrent: bool) -> float:
        searcher = tpe(space)
        for number in range(20):
            x, y = (number * 0.37) % 1, (number * 0.61) % 1
            searcher.tell(record(number, {"x": x, "y": y}, TrialStatus.COMPLETED, -((x - 0.5) ** 2) - (y - 0.5) ** 2))
        points = []
        for number in range(20, 60):
            # A searcher that knows of no running trial is one that was given the ended ones only.
            points.append(searcher.suggest(number).values)
            if not concurrent:
                searcher.tell(record(number, points[-1], TrialStatus.FAILED))
        return statistics.pstdev(p["x"] for p in points) + statistics.pstdev(p["y"] for p in points)

    assert spread(concurrent=True) > 1.15 * spread(concurrent=False)


def test_tpe_learns_which_values_of_a_branch_go_together() -> None:
    branch = Space((Entry("x", Float(0.0, 1.0)), Entry("y", Float(0.0, 1.0))))
    space = Space((Entry("kind", Choice(("a", "b"), (branch, Space()))),))
    gaps = []
    for seed in range(12):
        searcher, draws = tpe(space, seed), RandomSearcher(branch, seed)
        for number in range(80):
            x, y = draws.suggest(number).values.values()
            values = {"kind": "a", "kind=a/x": x, "kind=a/y": y} if number % 4 else {"kind": "b"}
            searcher.tell(record(number, values, TrialStatus.COMPLETED, -abs(x - y) if number % 4 else -1.0))
        values = searcher.suggest(80).values
        gaps.append(abs(values["kind=a/x"] - values["kind=a/y"]))
    assert statistics.mean(gaps) < 0.12  # 1/3 for independent draws


def test_the_optuna_study_tells_how_each_trial_ended() -> None:
    study_spec = override(load_study("synthetic"), sets=["objective.metric=val_accuracy"])
    draws = RandomSearcher(study_spec.parsed_space, seed=0)
    values = [draws.suggest(number).values for number in range(6)]
    records = [
        record(0, None, TrialStatus.COMPLETED, 0.5, 0.6),
        replace(record(1, values[1], TrialStatus.COMPLETED, 0.5, math.nan, 0.7), started=1000.0, ended=1010.0),
        record(2, values[2], TrialStatus.STOPPED, 0.3, math.inf),
        record(3, values[3], TrialStatus.DIVERGED, 0.9, math.nan),
        record(4, values[4], TrialStatus.FAILED, 0.2),
        record(5, values[5], TrialStatus.RUNNING, 0.1),
    ]
    study = optuna_study(study_spec, reversed(records))
    trials = study.trials
    assert [t.state for t in trials] == [
        TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED, TrialState.FAIL,
        TrialState.RUNNING,
    ]  # fmt: skip
    assert [t.user_attrs["trial"] for t in trials] == [t.number for t in trials] == list(range(6))
    names = readable_names(study_spec.parsed_space)
    assert [t.params for t in trials] == [{}, *({names[key]: v for key, v in drawn.items()} for drawn in values[1:])]
    assert (trials[1].value, trials[1].intermediate_values) == (0.7, {1: 0.5, 3: 0.7})
    assert trials[1].duration is not None
    assert trials[1].duration.total_seconds() == 10
    assert trials[2].intermediate_values == {1: 0.3}
    [worst] = trials[3].intermediate_values.values()
    assert worst < 0.1
    assert math.isfinite(worst)
    assert trials[3].user_attrs["status"] == "DIVERGED"
    assert study.best_trial.number == 1


def test_a_dashboard_reads_paths_and_the_branch_only_where_it_must() -> None:
    sgd = Space((Entry("optimizer.lr", Float(0.1, 1.0)), Entry("optimizer.momentum", Float(0.8, 0.9))))
    adam = Space((Entry("optimizer.lr", Float(1e-4, 1e-2)),))
    space = Space((Entry("optimizer.kind", Choice(("sgd", "adam"), (sgd, adam))), Entry("seed", Choice((1, 2)))))
    assert list(readable_names(space).values()) == [
        "optimizer.kind", "optimizer.lr (sgd)", "optimizer.momentum", "optimizer.lr (adam)", "seed",
    ]  # fmt: skip
    # Branches of the same name below two choices: nothing but the whole keys tells them apart.
    twice = Space((Entry("a", Choice(("x", "y"), (adam, adam))), Entry("b", Choice(("x", "y"), (adam, adam)))))
    assert all(key == name for key, name in readable_names(twice).items())
