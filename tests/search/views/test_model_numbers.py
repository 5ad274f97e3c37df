"""What a model card says of a trial: of which epoch its numbers are, its refit, and the test split."""

from __future__ import annotations

from dataclasses import replace

from search.journal.result import StudyResult, collect
from search.views.model_numbers import model_numbers
from tests.search.sample_study import EPOCHS, metrics, refit_events, sample_events, sample_spec

SPEC = sample_spec()


def card(result: StudyResult, trial: int, best_epoch: int | None = None) -> str:
    return "\n".join(model_numbers(result, replace(result.trials[trial], best_epoch=best_epoch)))


def test_the_numbers_are_of_the_epoch_whose_weights_are_kept() -> None:
    result = collect(SPEC, sample_events(SPEC))
    assert f"after {EPOCHS} epochs:" in card(result, 4)
    early = card(result, 4, best_epoch=2)
    assert f"after epoch 2, the best of {EPOCHS}:" in early
    assert f"- val_accuracy: {metrics(4, 2)['val_accuracy']:.4f}" in early
    assert "The test split has not been opened." in early


def test_a_refit_is_told_of_what_it_compared_and_the_opened_test_split_of_all() -> None:
    result = collect(SPEC, refit_events(SPEC))
    compared, other = card(result, 4), card(result, 1)
    assert "the refit below says by how much" in compared
    assert "test split: 0.6000" in compared
    assert "no refit has measured by how much" in other
    assert "trial-4" not in other
    assert "The test split has been opened by refit 1 of the study." in other
    again = replace(result.comparisons[0], opened=None, scored=None)
    assert "The test split has been opened by refit 1 of the study." in card(
        replace(result, comparisons=[*result.comparisons, again]), 4
    )
