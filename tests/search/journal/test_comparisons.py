from __future__ import annotations

from search.journal.comparisons import Comparison
from search.journal.events import Arm, ComparisonStarted
from trainables.config import parse_config


def started(folds: int | None) -> tuple[Comparison, Arm]:
    arm = Arm(name="trial 3", role="finalist", config=parse_config({"data": {"split_seed": 7}}).model_dump(mode="json"))
    event = ComparisonStarted(
        comparison=1, kind="refit", arms=(arm,), first_seed=100, most_runs=20, folds=folds, time=0.0
    )  # fmt: skip
    return Comparison(event), arm


def test_runs_differ_in_seed_alone() -> None:
    comparison, arm = started(None)
    configs = [parse_config(comparison.config(arm, index)) for index in range(4)]
    assert [config.seed for config in configs] == [100, 101, 102, 103]
    assert len({config.data for config in configs}) == 1


def test_runs_validate_on_every_fold_before_other_folds_are_drawn() -> None:
    comparison, arm = started(3)
    data = [parse_config(comparison.config(arm, index)).data for index in range(7)]
    assert [(d.fold, d.repeat) for d in data] == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (0, 2)]
    assert {(d.folds, d.split_seed) for d in data} == {(3, 7)}  # the seed decides which images are test
