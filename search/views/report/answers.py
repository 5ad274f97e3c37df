"""What the page answers first, as values: is the best better, by how much was it lucky, what bought what.

The page is rendered from these alone. `answers` fills them from a study's result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from search.algorithms.intervals import Interval
from search.analysis.explanation import explained
from search.analysis.finalists import refit_outcome
from search.analysis.importance import importances
from search.analysis.measures import completed, effects, side
from search.analysis.untried import untried
from search.journal.comparisons import newest
from search.journal.result import StudyResult
from search.views.explanation import explanation_sentences
from search.views.refit import refit_sentences
from search.views.report.settings import Setting
from trainables.check import Check

__all__ = [
    "Answers", "Candidate", "Explanation", "ImportanceRow", "Refit", "StepRow", "Verdict", "answers",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Candidate:
    """A config of a refit: what it had in the search, the objective over its runs, and what became of it."""

    name: str
    searched: float | None
    value: Interval | None
    runs: int
    verdict: str = ""
    won: bool = False


@dataclass(frozen=True, slots=True)
class Refit:
    """The finalists over fresh seeds, or folds, best first, and what follows from them in sentences.

    `test` is the winner's value on the test split, where it was opened.
    """

    candidates: tuple[Candidate, ...]
    sentences: tuple[str, ...]
    over: str
    test: Interval | None = None

    @property
    def winner(self) -> Candidate | None:
        """The one that won, if one has."""
        return next((one for one in self.candidates if one.won), None)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer: which trial is best, its gain over recipes (more is better), and whether that is more than noise.

    `gains` are over the study's first recipe, the published one, and over the best one, if it is another. `noise` is
    the check of the best against the recipes. `equals` is how many other trials are as good.
    """

    trial: int
    origin: str
    value: float
    epoch: int
    gains: tuple[tuple[str, float], ...] = ()
    noise: Check | None = None
    equals: int = 0


@dataclass(frozen=True, slots=True)
class StepRow:
    """A change on the way from a baseline to the best, or changes told together, and what they gained (more is better).

    `label` is short, for the chart. `verdict` says in words whether that is beyond noise, and how it goes together with
    other changes.
    """

    change: str
    label: str
    gain: Interval
    seeds: int
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What bought what: from the `baseline`, at `start`, step by step; `notes` are sentences."""

    baseline: str
    start: float
    steps: tuple[StepRow, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImportanceRow:
    """How much of the differences between trials goes with a setting, 0 to 1, with its 95 % interval."""

    setting: str
    share: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """All answers of one study; None or empty where there is none yet. `basis` says what importance rests on."""

    verdict: Verdict | None = None
    refit: Refit | None = None
    explanation: Explanation | None = None
    importance: tuple[ImportanceRow, ...] = ()
    basis: str = ""


def answers(result: StudyResult, checks: Iterable[Check], thorough: bool = True) -> Answers:
    """Fill the answers from a study and its checks.

    Args:
        result: the study.
        checks: of the study.
        thorough: weigh the settings with a surrogate, which takes seconds; otherwise by the order of the trials alone.
    """
    labels = {setting.key: setting.label for setting in Setting.all_of(result.spec)}
    importance, basis = (_weighed if thorough else _influence)(result, labels)
    verdict, refit, explanation = _verdict(result, checks), _refit(result), _explanation(result)
    return Answers(verdict, refit, explanation, importance, basis)


def _weighed(result: StudyResult, labels: Mapping[str, str]) -> tuple[tuple[ImportanceRow, ...], str]:
    found = importances(result)
    if found is None:
        return (), ""
    text = f"how much of the differences goes with each setting, in {found.trials} trials at epoch {found.epoch}"
    if found.extended:
        text += f" ({found.extended} were stopped before it)"
    text += "; an interval that holds 0 may be no effect at all" + "; so few trials only allow a guess" * found.guess
    return tuple(ImportanceRow(labels[row.key], row.share, row.low, row.high) for row in found.settings), text


def _influence(result: StudyResult, labels: Mapping[str, str]) -> tuple[tuple[ImportanceRow, ...], str]:
    found = effects(result)
    if found is None:
        return (), ""
    rows = sorted(found.settings, key=lambda row: -row.explained)
    text = "how much of the ranking of the trials each setting explains by itself; `search.report` adds intervals"
    return tuple(ImportanceRow(labels[row.key], row.explained) for row in rows), text


def _verdict(result: StudyResult, checks: Iterable[Check]) -> Verdict | None:
    best, metric = result.best(), result.spec.objective.metric
    if best is None:
        return None
    recipes = [record for record in completed(result) if record.recipe is not None]  # the best first
    against = [record for record in recipes if record.number == 0] + recipes[:1]
    gains = {
        record.recipe: side(result) * (best.value(metric) - record.value(metric))
        for record in against if record.recipe is not None and record is not best
    }  # fmt: skip
    noise = next((check for check in checks if check.name == "against recipes"), None)
    origin, value = best.recipe or best.origin, best.value(metric)
    equals = sum(record.value(metric) == value for record in completed(result)) - 1
    return Verdict(best.number, origin, value, best.final_epoch, tuple(gains.items()), noise, equals)


def _refit(result: StudyResult) -> Refit | None:
    comparison = newest(result.comparisons, "refit")
    if comparison is None:
        return None
    outcome = refit_outcome(result, comparison)
    candidates = [
        Candidate(
            one.arm.name + (" (reference)" if one.arm.name == comparison.started.reference else ""), one.searched,
            one.interval, len(one.values), one.verdict, one is outcome.winner,
        )
        for one in outcome.finalists
    ]  # fmt: skip
    runs = len(comparison.runs)
    state = [] if comparison.ended is not None else [f"under way: {runs} run{'s' * (runs != 1)} so far"]
    return Refit(tuple(candidates), (*state, *refit_sentences(outcome)), comparison.over, outcome.test)


def _explanation(result: StudyResult) -> Explanation | None:
    comparison, objective = newest(result.comparisons, "explain"), result.spec.objective
    if comparison is None:
        return None
    found = explained(comparison, objective.metric, objective.mode)
    if not math.isfinite(found.start):
        return None
    verdicts = {step.change: step.verdict for step in found.steps}
    rows = []
    for row in found.rows:
        alone = verdicts.get(row.changes[0], "") if len(row.changes) == 1 else ""
        verdict = "within the noise" if row.gain.within_noise else alone
        label = f"{len(row.changes)} changes" if len(row.changes) > 1 else row.changes[0].partition(" (")[0]
        rows.append(StepRow(", ".join(row.changes), label, row.gain, found.seeds, verdict))
    notes = (*explanation_sentences(found, comparison), *untried(result))
    return Explanation(comparison.started.arms[0].name, found.start, tuple(rows), notes)
