"""What a trial's MLflow run says, as plain values: status, parameters, tags and the summary row."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from search.journal.error_text import error_summary
from search.journal.events import WorkerLost
from search.journal.records import TrialRecord, TrialStatus
from trainables.config import flatten
from trainables.result import Mode

__all__ = ["MAX_TAG", "STATUSES", "parameters", "summary", "tags_of"]

# MLflow has five; the tag `trial_state` has ours. SCHEDULED is what waits for a worker or a promotion.
STATUSES = {
    TrialStatus.COMPLETED: "FINISHED",
    TrialStatus.STOPPED: "KILLED",
    TrialStatus.DIVERGED: "FAILED",
    TrialStatus.FAILED: "FAILED",
    TrialStatus.RUNNING: "RUNNING",
    TrialStatus.PENDING: "SCHEDULED",
    TrialStatus.PAUSED: "SCHEDULED",
}
MAX_PARAMETER, MAX_TAG = 6000, 5000  # characters, MLflow's limits


def parameters(tree: Mapping[str, Any]) -> dict[str, str]:
    """A nested dict as MLflow parameters: flat names, values as YAML would write them, cut at MLflow's limit."""
    return {name: _text(value)[:MAX_PARAMETER] for name, value in flatten(tree).items()}


def _text(value: object) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def tags_of(record: TrialRecord, lost: Mapping[int, WorkerLost]) -> dict[str, str]:
    """What distinguishes trials beside their numbers: where one came from, what happened to it, how it ended, why.

    `lost` has the end of each leg whose worker was lost. `legs`, `worker_losses` and `last_worker_error` are only
    there if the trial took more than one leg.
    """
    tags = {"origin": record.origin, "trial_state": str(record.status)}
    if record.leg > 1:
        tags["legs"] = str(record.leg)
    if lost:
        last = lost[max(lost)]
        tags["worker_losses"] = str(len(lost))
        tags["last_worker_error"] = f"{last.cause}: {error_summary(last.error)}"[:MAX_TAG]
    if record.stop_reason:
        tags["stop_reason"] = record.stop_reason
    if record.error:
        tags["error"] = record.error[:MAX_TAG]
    return tags


def summary(record: TrialRecord, metric: str, mode: Mode) -> dict[str, float]:
    """One row that says how a trial did, so that trials compare without their curves; empty before the first epoch.

    `objective` is `metric` at the last epoch and `epochs` how many it took; `best_` and `final_` of the objective,
    val_accuracy and val_loss; `generalization_gap` is train_accuracy - val_accuracy at the last epoch.
    """
    if not record.history:
        return {}
    last = record.history[-1].metrics
    row = {"objective": record.value(metric), "epochs": float(len(record.history))}
    better: dict[str, Callable[[Iterable[float]], float]] = {
        metric: max if mode == "max" else min,
        "val_accuracy": max,
        "val_loss": min,
    }
    for name, best in better.items():
        finite = [value for e in record.history if math.isfinite(value := e.metrics.get(name, math.nan))]
        if name in last and finite:
            row |= {f"best_{name}": best(finite), f"final_{name}": last[name]}
    if "train_accuracy" in last and "val_accuracy" in last:
        row["generalization_gap"] = last["train_accuracy"] - last["val_accuracy"]
    row["trial_seconds"] = sum(e.metrics.get("seconds", 0.0) for e in record.history)
    return row
