from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest
import yaml
from rich.console import Console

from search.analysis.finalists import refit_outcome
from search.analysis.winner import against_recipes
from search.journal.result import StudyResult
from search.views.output_files import best_config
from search.views.refit import chosen_trial, print_refit, refit_sentences
from tests.search.analysis.comparisons import LATER, refit_of
from tests.search.analysis.studies import searched, spec_of

FAR = {"trial-8": [0.90, 0.91, 0.905, 0.895], "plain": [0.50, 0.51, 0.505, 0.495]}


@pytest.fixture(scope="module")
def result() -> StudyResult:
    found = searched(spec_of(trials=12))
    return replace(found, trials=[replace(record, ended=1.0) for record in found.trials])


def printed(result: StudyResult) -> str:
    console = Console(file=io.StringIO(), width=100)
    print_refit(result, console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_clear_winner(result: StudyResult) -> None:
    test = {"trial-8": [0.88, 0.89, 0.885, 0.875], "plain": [0.48, 0.49, 0.485, 0.475]}
    refit = refit_of(result, FAR, "trial-8", test)
    outcome = refit_outcome(refit, refit.comparisons[0])
    searched_value = result.trials[8].value("val_accuracy")
    assert outcome.decision == "decided"
    assert outcome.winner is not None
    assert outcome.winner.luck == pytest.approx(searched_value - 0.9025)
    assert (outcome.gain.mean, outcome.test_gain.mean) == pytest.approx((0.4, 0.4))  # type: ignore[union-attr]
    text = "\n".join(refit_sentences(outcome))
    assert "trial-8 wins: significantly better" in text
    assert f"{searched_value:.4f} in the search, 0.9025 [0.8" in text
    assert "test split: 0.8825 [0.87" in text
    assert "+0.4000 [+0.4000, +0.4000] against plain" in text
    assert "only 500 test images (Wilson)" in text
    assert "opened" not in text
    check = against_recipes(refit)
    assert (check.status, "over 4 fresh seeds: +0.4000" in check.evidence) == ("ok", True)
    found = chosen_trial(refit)
    assert found is not None
    tree = yaml.safe_load(best_config(refit, found[0], chosen=found[1], refit=found[2]))
    assert tree["provenance"]["trial"] == 8
    assert tree["provenance"]["refit"]["test"]["mean"] == pytest.approx(0.8825)
    assert "trial-8" in printed(refit)


def test_a_winner_that_is_no_better_than_the_recipe_is_said_to_be_none(result: StudyResult) -> None:
    refit = refit_of(result, {"trial-8": [0.60, 0.62, 0.61, 0.63], "plain": [0.61, 0.60, 0.62, 0.61]}, "trial-8")
    text = "\n".join(refit_sentences(refit_outcome(refit, refit.comparisons[0])))
    assert "trial-8 has the best mean, but is not significantly better than plain" in text
    assert "best, but tied" in printed(refit)
    check = against_recipes(refit)
    assert (check.status, "not significantly better" in check.evidence) == ("warning", True)
    assert check.next_step == "python -m search.refit {study} --seeds 8{plugins}"
    recipe = refit_of(result, {"trial-8": [0.6, 0.61, 0.6], "plain": [0.7, 0.71, 0.7]}, "plain")
    assert against_recipes(recipe).evidence == "the search did not beat the recipe plain"
    won = recipe.winner()
    assert won is not None
    assert (won, won.recipe) == (chosen_trial(recipe)[0], "plain")  # type: ignore[index]
    assert repr(recipe).endswith(" (10), the refit's winner is plain>")


def test_equal_means_are_said_to_be_the_same(result: StudyResult) -> None:
    values = {"trial-8": [0.1, 0.2, 0.3], "plain": [0.3, 0.2, 0.1]}  # the first mean is larger, by rounding alone
    for winner, end in (("plain", "; the reference is preferred"), ("trial-8", "")):  # the latter is an older record
        refit = refit_of(result, values, winner)
        outcome = refit_outcome(refit, refit.comparisons[0])
        assert [one.verdict for one in outcome.finalists] == ["best, but tied", "tie with the best"]
        other = next(name for name in values if name != winner)
        text = "\n".join(refit_sentences(outcome))
        assert f"{winner} has the same mean as {other}{end}\n" in text
        assert "-0.0000" not in printed(refit)
        assert against_recipes(refit).status == "warning"


def test_one_round_is_shown_without_claiming_what_it_cannot_tell(result: StudyResult) -> None:
    test = {"trial-8": [0.88], "plain": [0.48]}
    single = refit_of(result, {"trial-8": [0.99], "plain": [0.5]}, "trial-8", test)
    text = " ".join(printed(single).split())
    assert "in the search, 0.9900 with one fresh seed: too few to tell luck" in text
    assert "against plain: +0.4900 on validation" in text
    assert "test split: 0.8800 for one network, so that its spread is not known, +0.4000 against plain" in text
    assert "nan" not in text
    assert "fresh seeds" not in against_recipes(single).evidence
    found = chosen_trial(single)
    assert found is not None
    written = yaml.safe_load(best_config(single, found[0], chosen=found[1], refit=found[2]))["provenance"]["refit"]
    assert (written["mean"], written["test"], written["luck"]) == ({"mean": 0.99}, {"mean": 0.88}, None)


def test_folds_are_called_folds_throughout(result: StudyResult) -> None:
    test = {"trial-8": [0.88, 0.89, 0.885, 0.875], "plain": [0.48, 0.49, 0.485, 0.475]}
    folded = refit_of(result, FAR, "trial-8", test, folds=4)
    text = printed(folded)
    assert "refit over 4 folds" in text
    assert "over the same folds" in text
    assert "seed" not in text
    assert chosen_trial(folded)[1] == "the winner of the refit over folds, see `refit`"  # type: ignore[index]


def test_bad_luck_and_diverged_runs(result: StudyResult) -> None:
    unlucky = refit_of(result, {"trial-8": [0.99, 0.98, 0.985], "plain": [0.5, 0.51, 0.52]}, "trial-8")
    assert "of bad luck" in "\n".join(refit_sentences(refit_outcome(unlucky, unlucky.comparisons[0])))
    none = refit_of(result, {"trial-8": [math.nan] * 3, "plain": [math.nan] * 3}, None)
    assert "there is no winner" in "\n".join(refit_sentences(refit_outcome(none, none.comparisons[0])))
    assert chosen_trial(none)[1] is None  # type: ignore[index]


def test_a_reference_that_diverged_once_gives_no_gain(result: StudyResult) -> None:
    refit = refit_of(result, {"trial-8": [0.9, 0.91, 0.9], "plain": [0.5, math.nan, 0.5]}, "trial-8")
    outcome = refit_outcome(refit, refit.comparisons[0])
    assert outcome.gain is None
    assert "nan" not in printed(refit)
    assert "fresh seeds" not in against_recipes(refit).evidence


def test_the_test_split_is_opened_once_or_said_to_be_no_test(result: StudyResult) -> None:
    test = {"trial-8": [0.88, 0.89, 0.885, 0.875]}
    first = refit_of(result, FAR, "trial-8", test)
    second = refit_of(first, FAR, "trial-8", test)
    third = refit_of(second, FAR, "trial-8", test)
    said = ["\n".join(refit_sentences(refit_outcome(r, r.comparisons[-1]))) for r in (first, second, third)]
    assert ["opened once before" in text for text in said] == [False, True, False]
    assert "opened 2 times before" in said[2]


def test_the_search_goes_on_and_the_refit_is_of_the_past(result: StudyResult) -> None:
    refit = refit_of(result, FAR, "trial-8")
    later = replace(refit, trials=[replace(record, ended=2 * LATER) for record in refit.trials])
    assert chosen_trial(later) == (later.best(), None, None) == (later.winner(), None, None)
    assert "fresh seeds" not in against_recipes(later).evidence


def test_shares_stay_between_0_and_1(result: StudyResult) -> None:
    refit = refit_of(result, {"trial-8": [1.0, 0.9, 1.0], "plain": [0.5, 0.5, 0.5]}, "trial-8")
    winner = refit_outcome(refit, refit.comparisons[0]).winner
    assert winner is not None
    assert winner.interval is not None
    assert winner.interval.high == 1.0
