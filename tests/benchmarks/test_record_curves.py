"""Recording curves: what a row holds, how a table is continued, and what is looked up in it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.record_curves import SCHEMA, Table, missing, record, recorded_study
from benchmarks.recorded import Recorded
from search.algorithms.searchers.random import RandomSearcher
from search.study.spec import StudySpec
from spaces import Scalar

STUDY = """
study: small
trial:
  model: {kind: cifar_resnet, depth: 8}
  data: {source: digits, train_samples: 64, val_samples: 32}
space:
  optimizer:
    kind:
      choice:
        sgd: {lr: {float: [0.01, 0.1], log: true}}
        adamw: {lr: {float: [0.001, 0.01], log: true}}
  batch_size: {choice: [16, 32]}
budget: {trials: 4, epochs: 2}
"""


@pytest.fixture
def spec(tmp_path: Path) -> StudySpec:
    path = tmp_path / "small.yaml"
    path.write_text(STUDY)
    return recorded_study(str(path), None, "cpu")


def row(run: int, seed: int, values: dict[str, Scalar], *accuracies: float) -> dict[str, object]:
    curves = {name: list(accuracies) for name in ("val_accuracy", "val_loss", "ema_accuracy", "ema_loss", "seconds")}
    return {"run": run, "seed": seed, "values": json.dumps(values), **curves, "machine": "one", "date": "2026-01-01"}


def point(spec: StudySpec, run: int) -> dict[str, Scalar]:
    found = RandomSearcher(spec.parsed_space, spec.seed).suggest(run)
    assert found is not None
    return found.values


def test_a_row_holds_both_curves_of_the_configuration_that_random_search_suggests(
    spec: StudySpec, tmp_path: Path
) -> None:
    found = record(spec, 3, 5, tmp_path / "cache")
    assert found.keys() == set(SCHEMA.names)
    assert (found["run"], found["seed"]) == (3, 5)
    assert json.loads(found["values"]) == point(spec, 3)
    for name in ("val_accuracy", "val_loss", "ema_accuracy", "ema_loss", "seconds"):
        assert len(found[name]) == 2
    assert found["ema_loss"] != found["val_loss"]
    assert found["val_loss"] != record(spec, 3, 6, tmp_path / "cache")["val_loss"]


def test_a_table_is_continued_and_the_best_are_run_again(spec: StudySpec, tmp_path: Path) -> None:
    path = tmp_path / "curves.parquet"
    for run, final in ((0, 0.5), (2, 0.7)):
        Table(path, spec).add(row(run, 0, point(spec, run), 0.2, final))
    table = Table(path, spec)
    assert missing(table, spec, 4, 2) == [(1, 0), (3, 0)]
    table.add(row(1, 0, point(spec, 1), 0.3))  # it diverged in its second epoch
    table.add(row(3, 0, point(spec, 3), 0.3, 0.9))
    assert missing(table, spec, 4, 2) == [(3, 1), (2, 1)]
    table.add(row(3, 1, point(spec, 3), 0.3, 0.8))
    assert missing(Table(path, spec), spec, 4, 2) == [(2, 1)]
    assert [(r["run"], r["seed"]) for r in table.rows] == [(0, 0), (1, 0), (2, 0), (3, 0), (3, 1)]
    assert json.loads(pq.read_schema(path).metadata[b"study"])["epochs"] == 2


def test_a_table_of_another_study_is_refused(spec: StudySpec, tmp_path: Path) -> None:
    path = tmp_path / "curves.parquet"
    Table(path, spec).add(row(0, 0, point(spec, 0), 0.2, 0.5))
    other = spec.model_copy(update={"seed": 1})
    with pytest.raises(SystemExit, match="another version"):
        Table(path, other)


def test_what_is_looked_up_is_the_nearest_run_with_the_end_of_its_second_seed(spec: StudySpec, tmp_path: Path) -> None:
    path = tmp_path / "curves.parquet"
    table = Table(path, spec)
    low: dict[str, Scalar] = {"optimizer.kind": "sgd", "optimizer.kind=sgd/optimizer.lr": 0.01, "batch_size": 16}
    high = {**low, "optimizer.kind=sgd/optimizer.lr": 0.1}
    table.add(row(0, 0, low, 0.1, 0.5))
    table.add(row(0, 1, low, 0.1, 0.4))
    table.add(row(1, 0, high, 0.2))
    family = Recorded(path, spec.parsed_space, "small")
    found = family.curve({**low, "optimizer.kind=sgd/optimizer.lr": 0.02}, 0)
    assert found.reported == pytest.approx((0.1, 0.5))
    assert found.final == pytest.approx(0.4)
    diverged = family.curve(high, 0)
    assert (diverged.reported, diverged.diverged) == (pytest.approx((0.2, 0.1)), 2)
    # Nothing with AdamW was recorded: the curve of the closest stands in.
    assert family.curve({"optimizer.kind": "adamw", "optimizer.kind=adamw/optimizer.lr": 0.01, "batch_size": 16}, 0)
    even, odd = (Recorded(path, spec.parsed_space, "small", half) for half in (0, 1))
    assert (even.points, odd.points) == ([low], [high])
