"""What a study knows of one trial's network, as lines of Markdown for its model card."""

from __future__ import annotations

import math
from collections.abc import Iterator

from search.analysis.finalists import refit_outcome
from search.journal.comparisons import Comparison
from search.journal.records import TrialRecord
from search.journal.result import StudyResult
from search.views.refit import refit_sentences

__all__ = ["model_numbers"]

SHOWN = ("val_accuracy", "val_loss", "val_precision", "val_recall", "val_f1", "train_accuracy")


def model_numbers(result: StudyResult, record: TrialRecord) -> list[str]:
    """The numbers of the weights that are kept, what a refit says of their config, and whether test was opened."""
    return list(_numbers(result, record))


def _numbers(result: StudyResult, record: TrialRecord) -> Iterator[str]:
    study, metric = result.spec.study, result.spec.objective.metric
    found = f"Trial {record.number} ({record.origin}) of the study `{study}`, {len(result.trials)} trials"
    after = f"after {record.last_epoch} epochs"
    if record.best_epoch is not None:
        after = f"after epoch {record.best_epoch}, the best of {record.last_epoch}"
    yield f"{found}. On the validation split, {after}:"
    yield ""
    names = [metric, *(name for name in SHOWN if name != metric)]
    yield from (f"- {name}: {value:.4f}" for name in names if math.isfinite(value := record.value(name)))
    yield ""
    refit = _refit_of(result, record)
    if record.arm is None:
        measured = "no refit has measured by how much" if refit is None else "the refit below says by how much"
        yield f"The best of several trials is partly lucky, so that its {metric} is likely too good: {measured}."
    if refit is not None:
        yield ""
        yield from (f"- {line}" for line in refit_sentences(refit_outcome(result, refit)))
    opened = [f"{one.kind} {one.number}" for one in result.comparisons if one.opened is not None]
    if not opened:
        yield "\nThe test split has not been opened."
    elif refit is None or refit.scored is None:
        yield f"\nThe test split has been opened by {', '.join(opened)} of the study."
    if result.images:
        yield "\nImages:\n"
        yield from (f"- {line}" for line in result.images)


def _refit_of(result: StudyResult, record: TrialRecord) -> Comparison | None:
    """The last refit, if the trial's config is one of those that it compares."""
    refit = result.latest("refit")
    if refit is None:
        return None
    compared = {arm.trial for arm in refit.started.arms} | {run.number for run in refit.runs}
    return refit if record.number in compared else None
