"""Workers that outlive their trials, for searches whose trials end sooner than a process starts.

With `reuse_actors` Ray Tune (2.60) keeps one finished worker for sure and gives the others up; and a trial whose own
worker is starting takes a finished one, whereupon the starting one is given up. A search of short trials then never
gets past one worker, or starts a new process for most trials: 23 or 33 s for the same hundred trials. There is no
public setting for either, so that this reaches into the controller; where a version of Ray lacks what it reaches for,
the search runs as Tune has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.experiment import Trial

__all__ = ["keep_workers"]


def keep_workers(controller: Any, trial: Trial, most: int) -> None:
    """Let `controller` keep up to `most` finished workers with `trial`'s resources, and let starting ones start.

    Args:
        controller: what Tune hands to a scheduler.
        trial: any trial of the study; all ask for the same resources.
        most: how many trials run at once.
    """
    controller = getattr(controller, "_tune_controller", controller)  # Tune hands out a wrapper
    try:
        patient = _ReuseUnlessStarting(controller)
        increase = controller._actor_cache.increase_max
    except AttributeError:
        return
    increase(trial.placement_group_factory, most)
    controller._maybe_reuse_cached_actor = patient


class _ReuseUnlessStarting:
    """Gives a finished worker to a waiting trial, unless the trial's own is starting.

    One that still waits for resources may wait for those of the finished worker, so that its trial takes that one.
    """

    def __init__(self, controller: Any) -> None:
        self._reuse: Callable[[Trial], bool] = controller._maybe_reuse_cached_actor
        self._own: Mapping[Trial, Any] = controller._trial_to_actor
        self._has_resources: Callable[[Any], bool] = controller._actor_manager.is_actor_started

    def __call__(self, trial: Trial) -> bool:
        starting = trial in self._own and self._has_resources(self._own[trial])
        return not starting and self._reuse(trial)

    def __reduce__(self) -> tuple[Any, ...]:
        return str, ()  # Tune pickles its controller into a snapshot, which nobody reads back
