"""What a study knows of one trial's network, as lines of Markdown for its model card."""

from __future__ import annotations

import math
from collections.abc import Iterator

from search.analysis.finalists import refit_outcome
from search.journal.records import TrialRecord
from search.journal.result import StudyResult
from search.views.refit import refit_sentences

__all__ = ["model_numbers"]

SHOWN = ("val_accuracy", "val_loss", "val_precision", "val_recall", "val_f1", "train_accuracy")


def model_numbers(result: StudyResult, record: TrialRecord) -> list[str]:
    """The trial's last epoch, what a refit says of its config, and whether the test split was opened."""
    return list(_numbers(result, record))


def _numbers(result: StudyResult, record: TrialRecord) -> Iterator[str]:
    study, metric = result.spec.study, result.spec.objective.metric
    found = f"Trial {record.number} ({record.origin}) of the study `{study}`, {len(result.trials)} trials"
    yield f"{found}. On the validation split, after {record.last_epoch} epochs:"
    yield ""
    names = [metric, *(name for name in SHOWN if name != metric)]
    yield from (f"- {name}: {value:.4f}" for name in names if math.isfinite(value := record.value(name)))
    yield ""
    if record.arm is None:
        yield (
            f"The trial was chosen by {metric}, so that number is optimistic by what luck contributed"
            + (": the refit below says by how much." if result.latest("refit") else "; no refit has measured it.")
        )
    refit = result.latest("refit")
    if refit is not None:
        yield ""
        yield from (f"- {line}" for line in refit_sentences(refit_outcome(result, refit)))
    if refit is None or refit.scored is None:
        yield "\nThe test split has not been opened."
    if result.images:
        yield "\nImages:\n"
        yield from (f"- {line}" for line in result.images)
