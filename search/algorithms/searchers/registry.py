"""The searchers that a study can name, and how each is built from the study."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from search.algorithms.plugins import build_plugin
from search.algorithms.searchers.base import Searcher
from search.algorithms.searchers.grid import GridSearcher, grid_values
from search.algorithms.searchers.random import RandomSearcher
from search.study.settings import TPESettings
from search.study.spec import StudySpec
from spaces.combinations import count

__all__ = ["SEARCHERS", "build_searcher", "combinations"]


def _tpe(spec: StudySpec, settings: TPESettings) -> Searcher:
    from search.algorithms.searchers.optuna_tpe import OptunaSearcher, tpe_sampler  # loads Optuna: takes a second

    return OptunaSearcher(
        spec.parsed_space,
        metric=spec.objective.metric,
        mode=spec.objective.mode,
        seed=spec.seed,
        sampler=partial(tpe_sampler, startup_trials=settings.startup_trials),
    )


# By the `kind` that a study names: how it is built from the study and its searcher's settings.
SEARCHERS: dict[str, Callable[[StudySpec, Any], Searcher]] = {
    "random": lambda spec, settings: RandomSearcher(spec.parsed_space, spec.seed),
    "grid": lambda spec, settings: GridSearcher(spec.parsed_space),
    "tpe": _tpe,
}


def build_searcher(spec: StudySpec, given: Searcher | None = None) -> Searcher:
    """The searcher that a study names: one of the table, a plug-in, or `given`, if the study was begun with an object.

    Raises:
        ConfigError: if a plug-in cannot be loaded, or `given` is not of the class that the study was begun with.
    """
    build = SEARCHERS.get(spec.searcher.kind)
    if build is not None:
        return build(spec, spec.searcher)
    plugin: Searcher = build_plugin("searcher", spec, given, Searcher)
    return plugin


def combinations(spec: StudySpec) -> int | None:
    """How many combinations the study's searcher can suggest; None without end, or if a plug-in alone knows."""
    if spec.searcher.kind not in SEARCHERS:
        return None
    grid = spec.searcher.kind == "grid"
    return count(spec.parsed_space, grid_values) if grid else count(spec.parsed_space)
