"""Trials as one Arrow table: what trials.parquet holds and `StudyResult.table()` returns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from search.journal.records import TrialRecord
from trainables.config import flatten
from trainables.result import METRICS

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["column", "rows"]


def rows(records: Iterable[TrialRecord]) -> pa.Table:
    """A row per trial and epoch, ordered by both; a trial without epochs has one row whose `epoch` is null.

    Columns: `trial_id`, `epoch` (int64); `status`, `stop_reason`, `origin` (string); every metric (float64), those of
    `EpochResult` first and always; the config flattened under `config.`. A config key that a trial's optimizer or
    schedule does not have is null, and one whose values differ in type over the trials is a string.
    """
    import pyarrow as pa  # here, since most of what reads records writes no table

    ordered = sorted(records, key=lambda record: record.number)
    lines = [(index, epoch) for index, record in enumerate(ordered) for epoch in record.history or (None,)]
    owner = pa.array([index for index, _ in lines], pa.int64())
    fixed: dict[str, pa.Array] = {
        "trial_id": pa.array([record.number for record in ordered], pa.int64()).take(owner),
        "status": pa.array([str(record.status) for record in ordered], pa.string()).take(owner),
        "stop_reason": pa.array([record.stop_reason for record in ordered], pa.string()).take(owner),
        "origin": pa.array([record.origin for record in ordered], pa.string()).take(owner),
        "epoch": pa.array([epoch.epoch if epoch else None for _, epoch in lines], pa.int64()),
    }
    reported = {name for record in ordered for epoch in record.history for name in epoch.metrics}
    names = [*METRICS, *sorted(reported - set(METRICS) - set(fixed))]
    metrics = {
        name: pa.array([epoch.metrics.get(name) if epoch else None for _, epoch in lines], pa.float64())
        for name in names
    }
    configs = [flatten(record.config) for record in ordered]
    keys = dict.fromkeys(key for config in configs for key in config)
    settings = {f"config.{key}": column([config.get(key) for config in configs]).take(owner) for key in keys}
    return pa.table(fixed | metrics | settings)


def column(values: list[Any]) -> pa.Array:
    """The values as an array of one type: booleans, integers or floats where all are, else strings."""
    import pyarrow as pa

    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present}
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds and kinds <= {int, float} and all(abs(value) < 2**63 for value in present if type(value) is int):
        if kinds == {int}:
            return pa.array(values, pa.int64())
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    return pa.array([None if value is None else str(value) for value in values], pa.string())
