"""The way from a baseline to the best config of a study, each step trained over the same fresh seeds."""

from __future__ import annotations

from collections.abc import Sequence

from search.analysis.changes import Change, changes
from search.analysis.explanation import explanation_arms
from search.analysis.surrogate import order
from search.engine.comparing import Contenders
from search.journal.comparisons import Comparison
from search.journal.events import Arm, ComparisonKind
from search.journal.result import StudyResult
from search.journal.state import StudyState
from search.views.refit import chosen_trial
from trainables.config import ConfigError

__all__ = ["Explaining", "explaining"]


class Explaining:
    """Trains every config of the path, and the best one without each change; a `Comparer`.

    Args:
        baseline: where the path begins.
        path: the changes in order.
        best: the trial of the search where it ends, if it is one.
        seeds: how many for each config.
        folds: of cross-validation; None for the study's own split.
    """

    kind: ComparisonKind = "explain"

    def __init__(
        self, baseline: Arm, path: Sequence[Change], best: int | None, seeds: int, folds: int | None = None
    ) -> None:
        first, *others = explanation_arms(baseline.config, path, origin=baseline.trial, best=best)
        arms = (first.model_copy(update={"name": f"baseline {baseline.name}"}), *others)
        self._contenders = Contenders(arms, arms[0].name, seeds, folds)

    def contenders(self, state: StudyState) -> Contenders | None:
        """The configs that were given."""
        return self._contenders

    def next_run(self, comparison: Comparison) -> tuple[Arm, int] | None:
        """Seed by seed, so that whatever is there when it is cut off compares."""
        begun = {(run.arm, comparison.index(run)) for run in comparison.runs}
        arms, indices = comparison.started.arms, range(comparison.started.most_runs)
        return next(((arm, i) for i in indices for arm in arms if (arm.name, i) not in begun), None)

    def ending(self, comparison: Comparison) -> tuple[str, str | None]:
        """All runs have been made."""
        return "seeds", None


def explaining(result: StudyResult, baseline: Arm, seeds: int) -> tuple[Explaining, list[str]]:
    """The explanation of a study's best config, the refit's winner if there is one, and lines about how it goes.

    Raises:
        ConfigError: if no trial was trained to its end, or the best config is the baseline, or still the proxy's.
    """
    found = chosen_trial(result)
    if found is None:
        raise ConfigError.single("STUDY", result.spec.study, "must have a trial that was trained to its end")
    record, refit = found[0], result.latest("refit")
    if result.spec.proxy is not None and found[2] is None:
        rule = f"must have a refit with a winner first: so far its trials were trained {result.spec.proxy.words}"
        raise ConfigError.single("STUDY", result.spec.study, rule)
    path = changes(baseline.config, record.config)
    if not path:
        others = [name for name in result.spec.recipes if name not in (baseline.name, record.recipe)]
        recipes = f"another recipe ({', '.join(others)}) or " if others else ""
        raise ConfigError.single(
            "--from", baseline.name, f"must differ from the best config: give {recipes}a YAML file"
        )
    folds = refit.started.folds if refit is not None else None
    ordered = order(result, baseline.config, path)
    best = record.recipe or f"trial {record.number}"
    lines = [f"{baseline.name} -> {best} in {len(ordered.changes)} steps, {ordered.text}"]
    if ordered.unknown:
        lines.append(f"never varied in the search: {', '.join(ordered.unknown)}")
    trial = None if record.arm is not None else record.number
    return Explaining(baseline, ordered.changes, trial, seeds, folds), lines
