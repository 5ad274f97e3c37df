"""What a search tries before its searcher suggests: the recipes, then the best trials of earlier studies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from search.journal.events import RECIPE, WarmStarted
from search.study.spec import StudySpec
from spaces import Scalar, walk

__all__ = ["Chosen", "first_trial"]


class Chosen(NamedTuple):
    """Where a trial comes from, what the study's defaults are changed to, and its point of the space, if it is one."""

    origin: str
    tree: Mapping[str, Any]
    values: dict[str, Scalar] | None


def first_trial(spec: StudySpec, warm_start: WarmStarted | None, index: int) -> Chosen | None:
    """The trial at `index` of the search; None from where the searcher suggests."""
    recipes = list(spec.recipes)
    if index < len(recipes):
        tree = spec.recipe_config(recipes[index])
        return Chosen(f"{RECIPE}{recipes[index]}", tree, spec.locate(tree))
    earlier = () if warm_start is None else warm_start.first
    if index - len(recipes) >= len(earlier):
        return None
    trial = earlier[index - len(recipes)]
    point = walk(spec.parsed_space, lambda key, _: trial.values[key])
    study = trial.study.replace(":", "_")  # behind a colon is the name of a recipe, or of a run of a refit
    return Chosen(f"{study}/{trial.trial}", point.tree, point.values)
