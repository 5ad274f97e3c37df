"""What a trial's MLflow run says, as plain values: name, status, parameters, tags and the summary row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from search.journal.error_text import error_summary
from search.journal.events import SessionStarted, WorkerLost
from search.journal.records import TrialRecord, TrialStatus
from spaces.space import value_at

__all__ = [
    "OWN", "STATUSES", "lines_of", "made_with", "parameters", "phase", "run_name", "source_of", "summary", "tags_of",
]  # fmt: skip

OWN = "resnet_search."  # the prefix of our tags
# MLflow has five; the tag `trial_state` has ours. A trial that its scheduler stopped is no failure, and has no red
# cross. SCHEDULED is what waits for a worker or a promotion.
STATUSES = {
    TrialStatus.COMPLETED: "FINISHED",
    TrialStatus.STOPPED: "FINISHED",
    TrialStatus.DIVERGED: "FAILED",
    TrialStatus.FAILED: "FAILED",
    TrialStatus.RUNNING: "RUNNING",
    TrialStatus.PENDING: "SCHEDULED",
    TrialStatus.PAUSED: "SCHEDULED",
}
MAX_PARAMETER, MAX_TAG = 6000, 5000  # characters, within MLflow's limits


def phase(record: TrialRecord) -> str:
    """What the trial is for: `search`, or the comparison that it is a run of, `refit` or `explain`."""
    return "search" if record.arm is None else record.origin.partition(":")[0]


def run_name(record: TrialRecord) -> str:
    """Number and origin, what tells the runs of a comparison apart, and how the trial ended unless it completed."""
    name = f"{record.number:04d} {record.origin}"
    if record.arm is not None:
        fold = record.config["data"].get("fold")
        name += f" seed {record.config['seed']}" + ("" if fold is None else f" fold {fold}")
    if record.status in (TrialStatus.STOPPED, TrialStatus.DIVERGED, TrialStatus.FAILED):
        at = f" at epoch {record.last_epoch}" if record.history else ""
        name += f", {record.status.lower()}{at}"
    return name


def parameters(config: Mapping[str, object], paths: Iterable[str]) -> dict[str, str]:
    """What a trial's config holds at these paths, as YAML would write it; without those that it does not have."""
    found: dict[str, str] = {}
    for path in paths:
        try:
            value = value_at(config, path)
        except LookupError:
            continue
        plain = json.dumps(value) if value is None or isinstance(value, bool) else str(value)
        found[path] = plain[:MAX_PARAMETER]
    return found


def tags_of(record: TrialRecord, lost: Mapping[int, WorkerLost]) -> dict[str, str]:
    """What distinguishes trials beside their numbers: where one came from, what happened to it, how it ended, why.

    `lost` has the end of each leg whose worker was lost. `legs`, `worker_losses` and `last_worker_error` are only
    there if the trial took more than one leg. All names begin with `OWN`.
    """
    tags = {"origin": record.origin, "phase": phase(record), "trial_state": str(record.status)}
    if record.leg > 1:
        tags["legs"] = str(record.leg)
    if lost:
        last = lost[max(lost)]
        tags["worker_losses"] = str(len(lost))
        tags["last_worker_error"] = f"{last.cause}: {error_summary(last.error)}"[:MAX_TAG]
    if record.stop_reason:
        tags["stop_reason"] = record.stop_reason
    if record.status.ended and record.collapsed:  # from one such epoch trials recover, and no tag is ever removed
        tags["collapsed"] = record.collapsed
    if record.best_epoch is not None:
        tags["best_epoch"] = str(record.best_epoch)
    if record.error:
        tags["error"] = record.error[:MAX_TAG]
    return {OWN + name: value for name, value in tags.items()}


def summary(record: TrialRecord) -> dict[str, float]:
    """What the last points of a trial's curves, which MLflow's table shows, do not say; empty before the first epoch.

    `epochs` is how many it took, `trial_seconds` how long they took, without waiting; `generalization_gap` is
    train_accuracy - val_accuracy at the final epoch, `calibration_error` that of a trial with a class report. Where the
    final epoch is not the last, all of its metrics come once more: the table then shows what the trial is worth.
    """
    if record.final is None:
        return {}
    last = record.final.metrics
    row = dict(last) if record.best_epoch is not None else {}
    row["epochs"] = float(len(record.history))
    if "train_accuracy" in last and "val_accuracy" in last:
        row["generalization_gap"] = last["train_accuracy"] - last["val_accuracy"]
    if record.report is not None:
        row["calibration_error"] = record.report.calibration_error
    row["trial_seconds"] = sum(e.metrics.get("seconds", 0.0) for e in record.history)
    return row


def source_of(session: SessionStarted) -> dict[str, str]:
    """MLflow's own tag of the code's version."""
    return {"mlflow.source.git.commit": session.git} if session.git else {}


def lines_of(session: SessionStarted) -> dict[str, str]:
    """What the images and the pretrained weights are."""
    found = {OWN + "images": session.images, OWN + "weights": session.weights}
    return {tag: "\n".join(lines)[:MAX_TAG] for tag, lines in found.items() if lines}


def made_with(session: SessionStarted) -> dict[str, str]:
    """Images, code and packages: whether two runs can be compared."""
    return {
        OWN + "session": str(session.session),
        OWN + "fingerprint": session.fingerprint or "",
        OWN + "git": session.git or "",
        **{f"{OWN}version.{name}": version for name, version in session.versions.items()},
    }
