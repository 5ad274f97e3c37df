"""That plain Ray Tune still has the flaws that `search.tune.patches` works around; a failure says which patch to drop.

One that fails with an AttributeError says that Ray has renamed what a patch reaches for.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray import tune
from ray.air.execution import FixedResourceManager, ResourceRequest
from ray.air.execution._internal import RayActorManager
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.constants import TUNE_ENV_VARS
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from search.tune.patches import (
    LOG_LEVELS,
    NotPickled,
    drop_statistics,
    environment,
    keep_workers,
    quiet,
    survive_lost_workers,
    tune_settings,
)

TRIALS = 80
STARTING = 1.0  # seconds that every worker but the first takes longer to start; all trials together take more


class ShortTrial(tune.Trainable):
    def setup(self, config: dict[str, Any]) -> None:
        try:
            Path(config["first"]).touch(exist_ok=False)
        except FileExistsError:
            time.sleep(STARTING)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        time.sleep(0.02)
        return {"process": os.getpid(), "done": True}


class Counted(NotPickled, Searcher):
    """Hands out trials; counts how often Tune pickles it."""

    def __init__(self, first: Path) -> None:
        super().__init__()
        self.left, self.pickled, self.first = TRIALS, 0, first

    def suggest(self, trial_id: str) -> Any:
        self.left -= 1
        return {"first": str(self.first)} if self.left >= 0 else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pass

    save = restore = lambda self, checkpoint_path: None

    def __reduce__(self) -> tuple[Any, ...]:
        self.pickled += 1
        return super().__reduce__()


class Watching(NotPickled, FIFOScheduler):
    """Notes which processes ran trials, and what Tune holds of ended ones."""

    def __init__(self, patched: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.patched = patched
        self.processes: set[int] = set()
        self.ended: list[Trial] = []

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        if self.patched:
            keep_workers(tune_controller, trial, 2)
            self.patched = False

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        self.processes.add(result["process"])
        self.ended.append(trial)


def run(folder: Path, patched: bool) -> tuple[Counted, Watching]:
    searcher, scheduler = Counted(folder / f"first-{patched}"), Watching(patched)
    tuner = tune.Tuner(
        tune.with_resources(ShortTrial, {"cpu": 1}),
        tune_config=tune.TuneConfig(search_alg=searcher, scheduler=scheduler, num_samples=-1, reuse_actors=True),
        run_config=tune.RunConfig(
            name="patched" if patched else "plain", storage_path=str(folder), verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )  # fmt: skip
    with environment(tune_settings(2)), quiet():
        tuner.fit()
    return searcher, scheduler


class Idle:
    pass


@pytest.mark.slow
@pytest.mark.usefixtures("two_cpus")
def test_plain_tune_runs_short_trials_on_one_worker_pickles_its_searcher_and_counts_metrics(tmp_path: Path) -> None:
    before = dict(os.environ), signal.getsignal(signal.SIGINT)
    searcher, plain = run(tmp_path, patched=False)
    assert len(plain.processes) == 1  # keep_workers
    assert searcher.pickled > 0  # NotPickled
    assert plain.ended[0].run_metadata.metric_analysis
    drop_statistics(plain.ended[0])
    assert not plain.ended[0].run_metadata.metric_analysis
    assert not list(tmp_path.rglob("result.json"))
    _, patched = run(tmp_path, patched=True)
    assert len(patched.processes) == 2
    assert (dict(os.environ), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.slow
@pytest.mark.usefixtures("two_cpus")
def test_plain_tune_ends_a_search_when_memory_runs_out() -> None:
    caught: list[Exception] = []
    workers = RayActorManager(FixedResourceManager({"CPU": 1}))
    actor = workers.add_actor(ray.remote(Idle), kwargs={}, resource_request=ResourceRequest([{"CPU": 1}]))
    while not workers.is_actor_started(actor):
        workers.next(1)
    task = TrackedActorTask(actor, on_error=lambda _, error: caught.append(error))
    with pytest.raises(RuntimeError, match="Caught unexpected exception"):
        workers._actor_task_failed(tracked_actor_task=task, exception=OutOfMemoryError("low on memory"))
    survive_lost_workers(SimpleNamespace(_tune_controller=SimpleNamespace(_actor_manager=workers)))
    workers._actor_task_failed(tracked_actor_task=task, exception=OutOfMemoryError("low on memory"))
    (error,) = caught
    assert isinstance(error, RayActorError)
    assert "low on memory" in str(error)


def test_environment_and_log_levels_are_restored() -> None:
    assert {name for name in tune_settings(2) if name.startswith("TUNE_")} <= TUNE_ENV_VARS
    before, levels = dict(os.environ), [logging.getLogger(name).level for name in LOG_LEVELS]
    with environment(tune_settings(2)), quiet():
        assert os.environ["TUNE_MAX_PENDING_TRIALS_PG"] == "2"
        assert all(logging.getLogger(name).level == level for name, level in LOG_LEVELS.items())
    assert dict(os.environ) == before
    assert [logging.getLogger(name).level for name in LOG_LEVELS] == levels
