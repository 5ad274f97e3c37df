"""The schedulers that a study can name, and how each is built from the study."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from search.algorithms.plugins import build_plugin
from search.algorithms.schedulers.asha import Asha
from search.algorithms.schedulers.asha_promote import AshaPromote
from search.algorithms.schedulers.base import Scheduler
from search.algorithms.schedulers.hyperband import Hyperband
from search.algorithms.schedulers.none import NoStopping
from search.study.settings import HalvingSettings
from search.study.spec import StudySpec

__all__ = ["SCHEDULERS", "build_scheduler"]


def _halving(build: Callable[..., Scheduler], spec: StudySpec, settings: HalvingSettings) -> Scheduler:
    return build(
        epochs=spec.budget.epochs,
        grace_period=settings.grace_period,
        reduction_factor=settings.reduction_factor,
        mode=spec.objective.mode,
        protected=range(len(spec.recipes)),  # recipes are a study's first trials
    )


# By the `kind` that a study names: how it is built from the study and its scheduler's settings.
SCHEDULERS: dict[str, Callable[[StudySpec, Any], Scheduler]] = {
    "none": lambda spec, settings: NoStopping(),
    "asha": partial(_halving, Asha),
    "asha_promote": partial(_halving, AshaPromote),
    "hyperband": partial(_halving, Hyperband),
}


def build_scheduler(spec: StudySpec, given: Scheduler | None = None) -> Scheduler:
    """The scheduler that a study names: one of the table, a plug-in, or `given`, if the study was begun with an object.

    Raises:
        ConfigError: if a plug-in cannot be loaded, or `given` is not of the class that the study was begun with.
    """
    build = SCHEDULERS.get(spec.scheduler.kind)
    if build is not None:
        return build(spec, spec.scheduler)
    plugin: Scheduler = build_plugin("scheduler", spec, given, Scheduler)
    return plugin
