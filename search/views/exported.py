"""A trial that is taken further, as a config or as a network, and the checkpoint that holds its weights."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.journal.error_text import required
from search.journal.records import TrialRecord
from search.journal.result import StudyResult
from search.views.next_commands import plugins, program, shown, verb
from search.views.refit import chosen_trial
from trainables.config import ConfigError

if TYPE_CHECKING:
    from search.storage.remote import RemoteFolder

__all__ = ["checkpoint_of", "exported_trial"]


def exported_trial(result: StudyResult, trial: int | None) -> tuple[TrialRecord, str | None, dict[str, Any] | None]:
    """A trial to be taken further, the best or that of this number, how it was chosen, and what a refit says of it.

    Raises:
        ConfigError: if the study has no such trial, or none that has completed.
    """
    found = chosen_trial(result)
    if trial is None:
        if found is None:
            rule = "must have a completed trial to have a best one; --trial N exports any that has started"
            raise ConfigError.single("STUDY", result.spec.study, rule)
        return found
    for record in [*result.trials, *(run for comparison in result.comparisons for run in comparison.runs)]:
        if record.number == trial:
            return found if found and record is found[0] else (record, "by hand, with --trial", None)
    numbers = [record.number for record in result.trials]
    there = f"0 to {max(numbers)}" if numbers else "none yet"
    raise ConfigError.single("--trial", trial, f"must be a trial of {result.spec.study}: {there}")


@contextmanager
def checkpoint_of(result: StudyResult, folder: Path, record: TrialRecord) -> Iterator[Path]:
    """A path of this machine with the furthest checkpoint of a trial, as long as the context lasts.

    Raises:
        ConfigError: if it has none: naming the trials that have one, and how to train this one again.
    """
    from search.storage.checkpoints import checkpoints  # these load pyarrow
    from search.storage.location import study_storage
    from search.storage.remote import local_storage

    study = study_storage(None, folder, smoke=False, fresh=False) or local_storage(folder.absolute())
    with tempfile.TemporaryDirectory() as scratch:
        with required("STUDY", study.location, "must be readable"):
            found = checkpoints(study, record.number)
            if not found:
                raise _without_checkpoint(result, folder, record, study)
            finished = [name for name in found if "-step-" not in name]
            path = study.local((finished or found)[0])
            if path is None:
                path = Path(scratch, "checkpoint.pt")
                study.get((finished or found)[0], path)
        yield path


def _without_checkpoint(result: StudyResult, folder: Path, record: TrialRecord, study: RemoteFolder) -> ConfigError:
    from search.storage.checkpoints import checkpoints

    runs = [run for comparison in result.comparisons for run in comparison.runs]
    others = [str(each.number) for each in [*result.trials, *runs] if checkpoints(study, each.number)]
    there = (
        f"--trial {', '.join(others[:10])} {'has' if len(others) == 1 else 'have'} one" if others else "no trial has"
    )
    config = shown(folder / f"trial-{record.number:04d}.yaml")
    again = (
        f"or train it again: {verb('export', folder, '--trial', str(record.number))} && {program('python')} -m "
        f"trainables.train {config} --checkpoint model.pt{plugins()}, then export model.pt"
    )
    rule = f"must have a checkpoint, and its own were deleted or lie elsewhere ({there}); {again}"
    return ConfigError.single("--trial", record.number, rule)
