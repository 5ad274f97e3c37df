"""What a study's result says of its winner's classes."""

from __future__ import annotations

from collections.abc import Sequence

from search.journal.events import EpochReported, Event
from search.journal.result import collect
from tests.search.sample_study import ENDINGS, refit_events, sample_events, sample_spec
from trainables.result import ClassReport

SPEC = sample_spec()
FIRST, REFIT = ClassReport.of("ab", [[3, 1], [0, 4]], 0.1), ClassReport.of("ab", [[2, 2], [1, 3]], 0.3)


def reported(events: Sequence[Event], *trials: int) -> list[Event]:
    """The events with a report on these trials, another one of a refit's runs."""
    return [
        event.model_copy(update={"report": FIRST if event.trial < len(ENDINGS) else REFIT})
        if isinstance(event, EpochReported) and event.last and event.trial in trials
        else event
        for event in events
    ]


def test_the_classes_are_those_of_the_best_trial_and_after_a_refit_those_of_its_winner() -> None:
    assert collect(SPEC, sample_events(SPEC)).class_report() is None  # of a journal from before there were any
    assert collect(SPEC, reported(sample_events(SPEC), 4)).class_report() == FIRST
    after = collect(SPEC, reported(refit_events(SPEC), 4, len(ENDINGS), len(ENDINGS) + 1))
    assert [run.number for run in after.winning_runs()] == [len(ENDINGS)]
    assert after.class_report() == REFIT
    assert collect(SPEC, reported(refit_events(SPEC), 4)).class_report() == FIRST


def test_reports_add_up() -> None:
    both = ClassReport.together([FIRST, REFIT, REFIT])
    assert both.matrix() == [[7, 5], [2, 10]]
    assert (both.images, both.predicted, both.right) == ((12, 12), (9, 15), (7, 10))
    assert round(both.calibration_error, 12) == round(0.7 / 3, 12)
