from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from search.analysis.explanation import explanation_arms
from search.journal.events import ComparisonEnded
from search.journal.result import StudyResult
from search.views.explanation import print_explanation
from tests.search.analysis.planted import compared, path_of, planted, quality


@pytest.fixture(scope="module")
def result() -> StudyResult:
    return planted(3)


def printed(result: StudyResult, value: Callable[[Mapping[str, Any]], float], ended: bool = True) -> tuple[int, str]:
    comparison = compared(explanation_arms(*path_of(result)), value, 4, np.random.default_rng(0))
    if ended:
        comparison = replace(comparison, ended=ComparisonEnded(comparison=1, reason="seeds", time=0.0))
    console = Console(file=io.StringIO(), width=100)
    code = print_explanation(replace(result, comparisons=[comparison]), console)
    return code, console.file.getvalue()  # type: ignore[attr-defined]


def test_each_change_its_gain_and_what_taking_it_back_costs(result: StudyResult) -> None:
    code, text = printed(result, quality)
    assert code == 0
    assert "what bought what: val_accuracy over 4 seeds" in text
    assert "without optimizer.lr the best config loses 0." in text
    assert "a run's own noise is 0.00" in text


def test_changes_that_bring_nothing_are_told_in_one_line(result: StudyResult) -> None:
    _, text = printed(result, lambda config: 0.5)
    assert "the best config loses" not in text
    assert "alone it loses nothing beyond noise" in text
    assert "within the noise" in text


def test_what_is_left_to_do_is_said(result: StudyResult) -> None:
    code, text = printed(result, quality, ended=False)
    assert code == 130
    assert "The same command continues" in text
