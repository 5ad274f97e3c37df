"""The finalists of a search and its reference recipe, raced over fresh seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.algorithms.race import Standing, standing
from search.analysis.finalists import race_of
from search.engine.comparing import Contenders
from search.engine.reference import carried_arms, reference_arm
from search.journal.comparisons import Comparison, newest
from search.journal.events import Arm, ComparisonKind
from search.journal.records import TrialStatus, ranked
from search.journal.state import StudyState
from search.study.resources import Refit
from search.study.spec import StudySpec

__all__ = ["Refitting"]

FOLDS = 5  # where there are few images
FEW_IMAGES = 2000


class Refitting:
    """Races the `top` best trials against a reference; a `Comparer`.

    Args:
        spec: the study.
        settings: how many trials, seeds and folds.
        images: to train and validate on; None where there are none to cross-validate, as for synthetic curves.
        against: the reference instead of the study's first recipe.
        again: also where there is a refit of the search as it stands.
    """

    kind: ComparisonKind = "refit"

    def __init__(
        self, spec: StudySpec, settings: Refit, images: int | None, against: Arm | None = None, again: bool = False
    ) -> None:  # fmt: skip
        self._spec, self._settings, self._against, self._again = spec, settings, against, again
        self._folds = settings.folds
        if self._folds is None and images is not None and images < FEW_IMAGES:
            self._folds = FOLDS

    def contenders(self, state: StudyState) -> Contenders | None:
        """The finalists, of equal configs the better, and the reference, unless it is one of them.

        With a proxy these are configs of the study's own network, and of the best trial there are two.
        """
        last = newest(state.comparisons, self.kind)
        unscored = last is not None and not last.is_over and not state.trained_since(last)
        if unscored or (state.refit_of_search is not None and not self._again):
            return None
        reference = self._against or reference_arm(self._spec, state.trials, None, "--against", "reference")[0]
        taken = [] if reference is None else [_settings_of(reference.config)]
        arms: list[Arm] = []
        finalists = 0
        for record in ranked(state.trials, self._spec.objective.metric, self._spec.objective.mode):
            if record.status is not TrialStatus.COMPLETED or finalists == self._settings.top:
                break
            carried = carried_arms(self._spec, record, "finalist", both=not finalists)
            new = [arm for arm in carried if _settings_of(arm.config) not in taken]
            taken += [_settings_of(arm.config) for arm in new]
            arms += new
            finalists += bool(new)
        arms += [] if reference is None else [reference]
        if not any(record.status is TrialStatus.COMPLETED for record in state.trials):
            return None
        folds = None if self._folds in (None, 1) else self._folds
        return Contenders(tuple(arms), None if reference is None else reference.name, self._settings.seeds, folds)

    def next_run(self, comparison: Comparison) -> tuple[Arm, int] | None:
        """The first run of those that the race wants which has not begun."""
        arms = {arm.name: arm for arm in comparison.started.arms}
        begun = {(run.arm, comparison.index(run)) for run in comparison.runs}
        wanted = self._standing(comparison).runs
        return next(((arms[name], index) for name, index in wanted if (name, index) not in begun), None)

    def ending(self, comparison: Comparison) -> tuple[str, str | None]:
        """`decided`, `tie` or `none`, and who leads."""
        found = self._standing(comparison)
        return ("tie" if found.decision == "open" else found.decision), found.leader

    def _standing(self, comparison: Comparison) -> Standing:
        return standing(race_of(comparison, self._spec), comparison.values(self._spec.objective.metric))


def _settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "seed"}
