"""Workers that Ray ends, told to the scheduler as lost, whatever Ray calls it.

Tune (2.60) knows two ways in which a call to a worker fails: the worker is gone, or the trial raised an error. What Ray
raises for a worker that it ended because memory ran out, or that went with its node, is sometimes neither, and then
ends the whole search. There is no public hook in between, so that this reaches into the controller; where a version of
Ray lacks what it reaches for, the search runs as Tune has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.exceptions import RayActorError, RayError, RayTaskError

__all__ = ["survive_lost_workers"]


def survive_lost_workers(controller: Any) -> None:
    """Let `controller`, which Tune hands to a scheduler, take each end of a worker as the loss of that worker."""
    controller = getattr(controller, "_tune_controller", controller)  # Tune hands out a wrapper
    workers = getattr(controller, "_actor_manager", None)
    for name in ("_actor_start_failed", "_actor_task_failed"):
        if handle := getattr(workers, name, None):
            setattr(workers, name, _told_as_lost(handle))


def _told_as_lost(handle: Callable[..., None]) -> Callable[..., None]:
    def told(*, exception: Exception, **failed: Any) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = RayActorError(error_msg=f"{type(exception).__name__}: {exception}")
        handle(exception=exception, **failed)

    return told
