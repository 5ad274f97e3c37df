"""The schedulers that a study can name, and how each is built from the study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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

__all__ = ["SCHEDULERS", "SchedulerInfo", "build_scheduler"]


@dataclass(frozen=True, slots=True)
class SchedulerInfo:
    """A row of `SCHEDULERS`: the `kind` a study names, what it does, and how it is built from the study."""

    kind: str
    summary: str
    build: Callable[[StudySpec, Any], Scheduler]  # from the study and its scheduler's settings


def _halving(build: Callable[..., Scheduler], spec: StudySpec, settings: HalvingSettings) -> Scheduler:
    return build(
        epochs=spec.budget.epochs,
        grace_period=settings.grace_period,
        reduction_factor=settings.reduction_factor,
        mode=spec.objective.mode,
        protected=range(len(spec.recipes)),  # recipes are a study's first trials
    )


SCHEDULERS: dict[str, SchedulerInfo] = {
    info.kind: info
    for info in (
        SchedulerInfo("none", "every trial runs to the end", lambda spec, settings: NoStopping()),
        SchedulerInfo("asha", "asynchronous successive halving, stopping at the rungs", partial(_halving, Asha)),
        SchedulerInfo("asha_promote", "the same, pausing at the rungs", partial(_halving, AshaPromote)),
        SchedulerInfo(
            "hyperband", "brackets of asha, that begin to stop later and later", partial(_halving, Hyperband)
        ),
    )
}


def build_scheduler(spec: StudySpec, given: Scheduler | None = None) -> Scheduler:
    """The scheduler that a study names: one of the table, a plug-in, or `given`, if the study was begun with an object.

    Raises:
        ConfigError: if a plug-in cannot be loaded, or `given` is not of the class that the study was begun with.
    """
    info = SCHEDULERS.get(spec.scheduler.kind)
    if info is not None:
        return info.build(spec, spec.scheduler)
    built: Scheduler = build_plugin("scheduler", spec, given, Scheduler)
    return built
