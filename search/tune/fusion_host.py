"""The trials of one GPU in one process, where they take their steps together; Ray Tune sees ordinary trials.

A worker of Tune then holds no network, but a `HostedTrial`. The networks of all trials on a GPU are in its host, an
actor that the first worker in need starts, and which trains each of them to the end of its next epoch when its worker
asks for that. How steps are taken together: `trainables.training.fused`.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainables.config import TrialConfig, parse_config
from trainables.config.plugins import allow_plugins, allowed_plugins
from trainables.data.store import PreparedData
from trainables.result import EpochResult, Trainable

if TYPE_CHECKING:
    from trainables.data.images import Splits
    from trainables.training.fused import FusedSteps
    from trainables.training.loop import Run

__all__ = ["FusionHost", "HostedTrial", "end_hosts", "hosted"]

NAMESPACE = "resnet-search"  # of the hosts among Ray's named actors; a host is named after study, node and GPU

ANSWER_SECONDS = 0.5  # after which a worker that waits for an epoch's end may look for an interrupt
ABANDONED_SECONDS = 600.0  # without a call from a trial's worker; saving a checkpoint over a network takes minutes
IDLE_SECONDS = 300.0  # without any trial: the search is gone, and nobody else would end the host
REPORT_SECONDS = 2.0  # for errors to reach the workers before the host ends


class _Hosted:
    """A trial in its host. `last` is the newest of the results that it has `produced`, or the error that ended it."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.produced = 0
        self.last: EpochResult | Exception | None = None
        self.requested = False  # whether its worker waits for the next result
        self.last_call = time.monotonic()
        self._changed = threading.Condition()

    def publish(self, result: EpochResult | Exception) -> None:
        with self._changed:
            self.last, self.requested = result, False
            self.produced += 1
            self._changed.notify_all()

    def after(self, received: int) -> EpochResult | None:
        """The result after the first `received`; None if it does not come within half a second.

        Raises:
            Exception: what ended the trial.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.produced > received, ANSWER_SECONDS)
            if isinstance(self.last, Exception):
                raise self.last
            return self.last if self.produced > received else None


class FusionHost:
    """Holds the trials of one GPU. A Ray actor; a trial is known by the id of its worker, which has one at a time.

    Ray calls its methods in many threads; all that touches a network happens in one other thread, between two steps.

    Args:
        visible: CUDA_VISIBLE_DEVICES of the workers; None where it is not set.
    """

    def __init__(self, visible: str | None) -> None:
        if visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = visible
        self._trials: dict[str, _Hosted] = {}
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._splits: tuple[Any, Splits] | None = None
        self._steps: FusedSteps | None = None
        threading.Thread(target=self._train, name="train", daemon=True).start()

    def start(
        self, worker: str, config: dict[str, Any], cache: Path, store: PreparedData | None, rungs: tuple[int, ...],
        plugins: tuple[str, ...],
    ) -> None:  # fmt: skip
        """Build the worker's trial at epoch 0, in the place of the one that it had; the last two as in `LegRequest`.

        Raises:
            ConfigError: if the data or the pretrained weights cannot be had.
        """
        allow_plugins(plugins)
        self._between_steps(partial(self._start, worker, parse_config(config), cache, store, rungs))

    def load(self, worker: str, state: dict[str, Any]) -> None:
        """As `Trainable.load_state_dict`."""
        self._between_steps(lambda: self._trial(worker).run.load_state_dict(state))

    def state(self, worker: str) -> dict[str, Any]:
        """As `Trainable.state_dict`, a copy in the CPU's memory; may be of an epoch whose result is not fetched yet."""
        return dict(self._between_steps(lambda: _copied(self._trial(worker).run.state_dict())))

    def result(self, worker: str, received: int) -> EpochResult | None:
        """The trial's result after the first `received`; None if it is not there yet, and may be asked for again.

        Raises:
            RuntimeError: if the worker has not called for so long that its trial was given up.
            Exception: what ended the trial.
        """
        trial = self._trial(worker)

        def request() -> None:
            trial.requested = trial.produced == received  # else it is there already

        self._work.put(request)
        return trial.after(received)

    def end(self, worker: str) -> None:
        """Release the worker's trial, if it has one."""
        self._between_steps(partial(self._release, [worker]))

    def _trial(self, worker: str) -> _Hosted:
        trial = self._trials.get(worker)
        if trial is None:
            raise RuntimeError(f"the trial's worker did not call for {ABANDONED_SECONDS:g} s, and it was given up")
        trial.last_call = time.monotonic()
        return trial

    def _between_steps(self, work: Callable[[], Any]) -> Any:
        done: Future[Any] = Future()

        def do() -> None:
            try:
                done.set_result(work())
            except Exception as error:  # noqa: BLE001 (raised where it was asked for)
                done.set_exception(error.with_traceback(None))

        self._work.put(do)
        return done.result()

    def _start(
        self, worker: str, config: TrialConfig, cache: Path, store: PreparedData | None, rungs: tuple[int, ...]
    ) -> None:
        from trainables.data.images import load_splits
        from trainables.training.execution import configure_process
        from trainables.training.loop import Run

        configure_process(config.execution)
        self._release([worker])
        if self._splits is None or self._splits[0] != (config.data, cache):
            self._splits = (config.data, cache), load_splits(config.data, cache, store)
        self._trials[worker] = _Hosted(Run(config, self._splits[1], rungs))

    def _train(self) -> None:
        """The thread that trains: other work comes first, then steps of all trials whose workers wait for a result.

        Without either, abandoned trials are released, and the process ends when it has been without any for long.
        """
        idle_since = time.monotonic()
        while True:
            requested = [trial for trial in self._trials.values() if trial.requested]
            try:
                work = self._work.get(block=not requested, timeout=1.0)
            except Empty:
                self._release_abandoned()
            else:
                work()
                continue
            if requested:
                self._advance(requested)
            if self._trials:
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > IDLE_SECONDS:
                os._exit(0)  # Ray's own exit_actor works in its calls only

    def _advance(self, trials: list[_Hosted]) -> None:
        import torch

        from trainables.training.fused import FusedSteps

        self._steps = self._steps or FusedSteps()
        results = self._steps.advance([trial.run for trial in trials])
        for trial, result in zip(trials, results, strict=True):
            if result is not None:
                trial.publish(result)
        if any(isinstance(result, torch.AcceleratorError) for result in results):
            # Nothing works on CUDA in this process any more. Its trials get another host.
            time.sleep(REPORT_SECONDS)
            os._exit(1)

    def _release_abandoned(self) -> None:
        now = time.monotonic()
        if gone := [name for name, trial in self._trials.items() if now - trial.last_call > ABANDONED_SECONDS]:
            self._release(gone)

    def _release(self, workers: list[str]) -> None:
        """Drop their trials, whose memory must be free before another one allocates."""
        import torch

        for worker in workers:
            self._trials.pop(worker, None)
        gc.collect()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()


def _copied(state: Any) -> Any:
    """A copy on the CPU: training continues while the state travels to the worker."""
    import torch

    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    return [_copied(value) for value in state] if isinstance(state, list) else state


class HostedTrial(Trainable):
    """A trial that a host trains, as a `Trainable`; made by `hosted`."""

    def __init__(self, host: Any, worker: str) -> None:
        self._host, self._worker, self._received = host, worker, 0

    def steps(self) -> Iterator[EpochResult | None]:
        """As `Trainable.steps`, but None comes after half a second, however many steps there were."""
        while True:
            result: EpochResult | None = self.call("result", self._received)
            self._received += result is not None
            yield result
            if result is not None and result.last:
                return

    def state_dict(self) -> dict[str, Any]:
        """As `Trainable.state_dict`."""
        return dict(self.call("state"))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Trainable.load_state_dict`."""
        self.call("load", state)

    def close(self) -> None:
        """Release it in its host."""
        self.call("end")

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the host."""
        try:
            return ray.get(getattr(self._host, method).remote(self._worker, *arguments))
        except RayTaskError as error:
            raise error.cause from None  # as it was raised, without Ray's traceback
        except RayActorError:
            ray.actor.exit_actor()  # type: ignore[no-untyped-call]  # a trial that has lost its host has lost its worker


def hosted(
    config: TrialConfig, cache: Path, store: PreparedData | None, study: str, rungs: tuple[int, ...]
) -> HostedTrial:
    """The trial that `config` describes, at epoch 0 in the host of this worker's GPU, which is started if need be.

    Args:
        config, cache: of the trial, and of prepared images.
        store: the images, where they have been fetched.
        study: the URI of its folder; a host has trials of one study.
        rungs: epochs after which averaged weights are scored, too.

    Raises:
        ConfigError: if the data or the pretrained weights cannot be had.
    """
    context = ray.get_runtime_context()
    node, worker, visible = context.get_node_id(), context.get_actor_id(), os.environ.get("CUDA_VISIBLE_DEVICES")
    here = NodeAffinitySchedulingStrategy(node, soft=False)
    # Detached: it must not end with the worker that happened to start it.
    if worker is None:
        raise RuntimeError("a trial is hosted for a Ray worker only")
    host = ray.remote(FusionHost).options(
        name=f"{study} {node} {visible}", namespace=NAMESPACE, get_if_exists=True, lifetime="detached",
        num_cpus=0, num_gpus=0, max_concurrency=256, scheduling_strategy=here,
    ).remote(visible)  # fmt: skip
    trial = HostedTrial(host, worker)
    trial.call("start", config.model_dump(mode="json"), cache, store, rungs, allowed_plugins())
    return trial


def end_hosts(study: str) -> None:
    """End the hosts of a study, those of a session that was killed among them; `study` is the URI of its folder."""
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["namespace"] == NAMESPACE and actor["name"].startswith(f"{study} "):
            with contextlib.suppress(ValueError):  # it has ended
                ray.kill(ray.get_actor(actor["name"], NAMESPACE))
