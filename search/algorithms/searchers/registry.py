"""The searchers that a study can name, and how each is built from the study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from search.algorithms.plugins import build_plugin
from search.algorithms.searchers.base import Searcher
from search.algorithms.searchers.grid import GridSearcher, grid_values
from search.algorithms.searchers.random import RandomSearcher
from search.study.settings import TPESettings
from search.study.spec import StudySpec
from spaces.combinations import count

__all__ = ["SEARCHERS", "SearcherInfo", "build_searcher", "combinations"]


@dataclass(frozen=True, slots=True)
class SearcherInfo:
    """A row of `SEARCHERS`: the `kind` a study names, what it does, and how it is built from the study."""

    kind: str
    summary: str
    build: Callable[[StudySpec, Any], Searcher]  # from the study and its searcher's settings


def _tpe(spec: StudySpec, settings: TPESettings) -> Searcher:
    from search.algorithms.searchers.optuna_tpe import OptunaSearcher, tpe_sampler  # loads Optuna: takes a second

    return OptunaSearcher(
        spec.parsed_space,
        metric=spec.objective.metric,
        mode=spec.objective.mode,
        seed=spec.seed,
        sampler=partial(tpe_sampler, startup_trials=settings.startup_trials),
    )


SEARCHERS: dict[str, SearcherInfo] = {
    info.kind: info
    for info in (
        SearcherInfo(
            "random", "independent draws", lambda spec, settings: RandomSearcher(spec.parsed_space, spec.seed)
        ),
        SearcherInfo("grid", "every combination once", lambda spec, settings: GridSearcher(spec.parsed_space)),
        SearcherInfo("tpe", "Tree-structured Parzen Estimator, aware of conditions (Optuna)", _tpe),
    )
}


def build_searcher(spec: StudySpec, given: Searcher | None = None) -> Searcher:
    """The searcher that a study names: one of the table, a plug-in, or `given`, if the study was begun with an object.

    Raises:
        ConfigError: if a plug-in cannot be loaded, or `given` is not of the class that the study was begun with.
    """
    info = SEARCHERS.get(spec.searcher.kind)
    if info is not None:
        return info.build(spec, spec.searcher)
    built: Searcher = build_plugin("searcher", spec, given, Searcher)
    return built


def combinations(spec: StudySpec) -> int | None:
    """How many combinations the study's searcher can suggest; None without end, or if a plug-in alone knows."""
    if spec.searcher.kind not in SEARCHERS:
        return None
    grid = spec.searcher.kind == "grid"
    return count(spec.parsed_space, grid_values) if grid else count(spec.parsed_space)
