"""Where the weights of a study's trials are: which trial's are taken, and which file holds them."""

from __future__ import annotations

from pathlib import Path

from search.journal.records import TrialRecord
from search.journal.result import StudyResult
from search.storage.checkpoints import checkpoints
from search.storage.remote import local_storage
from trainables.config import ConfigError

__all__ = ["trained_trial"]


def trained_trial(result: StudyResult, number: int | None = None) -> tuple[TrialRecord, Path]:
    """The best trial of a study, or the one of this number, and the checkpoint that holds its weights.

    Raises:
        ConfigError: if the study has no networks, no such trial, or no checkpoint of it is left.
    """
    name = result.spec.study
    if not result.spec.trial_config({}).model.is_network:
        raise ConfigError.single("STUDY", name, "must train networks: a synthetic curve has no weights")
    known = {record.number: record for record in result.trials}
    record = result.best() if number is None else known.get(number)
    if record is None and number is not None:
        there = f"0 to {max(known)}" if known else "none yet"
        raise ConfigError.single("--trial", number, f"must be a trial of {name}: {there}")
    if record is None or result.folder is None:
        rule = "must have a completed trial to have a best one; --trial N takes any whose checkpoint is left"
        raise ConfigError.single("STUDY", name, rule)
    files = checkpoints(local_storage(result.folder), record.number)
    if not files:
        rule = f"must have a checkpoint of trial {record.number} in {result.folder}, and has none: give --trial of "
        rule += "another one, or train its config again: python -m trainables.train best_config.yaml --checkpoint FILE"
        raise ConfigError.single("STUDY", name, rule)
    return record, result.folder / files[0]
