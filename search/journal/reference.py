"""What trials are measured against: the study's first recipe, the published one."""

from __future__ import annotations

from collections.abc import Iterable

from search.journal.records import TrialRecord, TrialStatus
from search.study.spec import StudySpec

__all__ = ["against_reference", "reference"]


def reference(spec: StudySpec, records: Iterable[TrialRecord]) -> tuple[str, float] | None:
    """Name and final value of the study's first recipe, the published one; None until it has completed."""
    for record in records:
        if record.number == 0 and record.status is TrialStatus.COMPLETED and record.recipe is not None:
            return record.recipe, record.value(spec.objective.metric)
    return None


def against_reference(spec: StudySpec, records: Iterable[TrialRecord], best: TrialRecord) -> str:
    """The gain of `best` over the reference, to be appended to its value; empty if there is none to compare with."""
    found = reference(spec, records)
    if found is None or best.number == 0:
        return ""
    name, value = found
    return f", {best.value(spec.objective.metric) - value:+z.4f} against {name}"
