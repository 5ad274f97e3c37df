"""The trials of one GPU in one process, where they take their steps together; Ray Tune sees ordinary trials.

A worker of Tune then holds no network. It asks the host of its GPU, an actor that is started by the first worker that
needs it, holds the networks of all trials there, and trains each up to its next epoch's end once its worker asks for
that. How steps are taken together is `trainables.training.fused`'s.
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
from trainables.data.store import PreparedData
from trainables.result import EpochResult, Trainable

if TYPE_CHECKING:
    from trainables.data.images import Splits
    from trainables.training.fused import FusedSteps
    from trainables.training.loop import Run

__all__ = ["FusionHost", "HostedTrial", "end_hosts", "hosted"]

NAMESPACE = "resnet-search"  # of the hosts' names, in which their search is part of them

ANSWER_SECONDS = 0.5  # after which a worker that waits for an epoch's end may look for an interrupt
FORGET_SECONDS = 600.0  # without a word from a trial's worker; saving a checkpoint over a network takes minutes
IDLE_SECONDS = 300.0  # without any trial: who started the host is gone, and nobody else would end it
TELL_SECONDS = 2.0  # for what happened to reach the workers before the host ends
BROKEN = "CUDA error"  # after one, nothing works any more in the process


class _Guest:
    """A trial of the host. `produced` counts its results, `last` is the newest, or the error that has ended it."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.produced = 0
        self.last: EpochResult | Exception | None = None
        self.wanted = False  # whether its next result has been asked for
        self.heard = time.monotonic()
        self.news = threading.Condition()

    def tell(self, result: EpochResult | Exception) -> None:
        with self.news:
            self.last, self.wanted = result, False
            self.produced += 1
            self.news.notify_all()


class FusionHost:
    """Holds the trials of one GPU. A Ray actor; each is known by the id of its worker, which has one at a time.

    All that touches a network happens in one thread, between two steps.

    Args:
        visible: CUDA_VISIBLE_DEVICES of the workers; None where it is not set.
    """

    def __init__(self, visible: str | None) -> None:
        if visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = visible
        self._guests: dict[str, _Guest] = {}
        self._asked: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._splits: tuple[Any, Splits] | None = None
        self._steps: FusedSteps | None = None
        threading.Thread(target=self._train, name="train", daemon=True).start()

    def start(self, worker: str, config: dict[str, Any], cache: Path, store: PreparedData | None) -> None:
        """Build the worker's trial at epoch 0, in the place of the one that it had.

        Raises:
            ConfigError: if the data or the pretrained weights cannot be had.
        """
        self._between_steps(partial(self._start, worker, parse_config(config), cache, store))

    def load(self, worker: str, state: dict[str, Any]) -> None:
        """As `Trainable.load_state_dict`."""
        self._between_steps(lambda: self._guest(worker).run.load_state_dict(state))

    def state(self, worker: str) -> dict[str, Any]:
        """As `Trainable.state_dict`, a copy in the CPU's memory; of an epoch's end that may not have been told yet."""
        state: dict[str, Any] = self._between_steps(lambda: _copied(self._guest(worker).run.state_dict()))
        return state

    def result(self, worker: str, received: int) -> EpochResult | None:
        """The trial's result after the first `received`; None if it is not there yet, and may be asked for again.

        Raises:
            RuntimeError: if the worker has not been heard of for so long that its trial was given up.
            Exception: what ended the trial.
        """
        guest = self._guest(worker)

        def want() -> None:
            guest.wanted = guest.produced == received  # else it is there already

        self._asked.put(want)
        with guest.news:
            guest.news.wait_for(lambda: guest.produced > received, ANSWER_SECONDS)
            if isinstance(guest.last, Exception):
                raise guest.last
            return guest.last if guest.produced > received else None

    def end(self, worker: str) -> None:
        """Forget the worker's trial, if it has one."""
        self._between_steps(partial(self._let_go, [worker]))

    def _guest(self, worker: str) -> _Guest:
        guest = self._guests.get(worker)
        if guest is None:
            raise RuntimeError(f"the trial's worker was silent for {FORGET_SECONDS:g} s, and it was given up")
        guest.heard = time.monotonic()
        return guest

    def _between_steps(self, work: Callable[[], Any]) -> Any:
        done: Future[Any] = Future()

        def do() -> None:
            try:
                done.set_result(work())
            except Exception as error:  # noqa: BLE001 (raised where it was asked for)
                done.set_exception(error.with_traceback(None))

        self._asked.put(do)
        return done.result()

    def _start(self, worker: str, config: TrialConfig, cache: Path, store: PreparedData | None) -> None:
        from trainables.data.images import load_splits
        from trainables.training.execution import configure_process
        from trainables.training.loop import Run

        configure_process(config.execution)
        self._let_go([worker])
        if self._splits is None or self._splits[0] != (config.data, cache):
            self._splits = (config.data, cache), load_splits(config.data, cache, store)
        self._guests[worker] = _Guest(Run(config, self._splits[1]))

    def _train(self) -> None:
        idle_since = time.monotonic()
        while True:
            wanted = [guest for guest in self._guests.values() if guest.wanted]
            try:
                work = self._asked.get(block=not wanted, timeout=1.0)
            except Empty:
                self._forget()
            else:
                work()
                continue
            if self._guests:
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > IDLE_SECONDS:
                os._exit(0)
            if wanted:
                self._advance(wanted)

    def _advance(self, guests: list[_Guest]) -> None:
        from trainables.training.fused import FusedSteps

        self._steps = self._steps or FusedSteps()
        told = self._steps.advance([guest.run for guest in guests])
        for guest, result in zip(guests, told, strict=True):
            if result is not None:
                guest.tell(result)
        if any(isinstance(result, RuntimeError) and BROKEN in str(result) for result in told):
            time.sleep(TELL_SECONDS)
            os._exit(1)

    def _forget(self) -> None:
        now = time.monotonic()
        if silent := [worker for worker, guest in self._guests.items() if now - guest.heard > FORGET_SECONDS]:
            self._let_go(silent)

    def _let_go(self, workers: list[str]) -> None:
        """Forget their trials, whose memory must be free before another one asks for some."""
        import torch

        for worker in workers:
            self._guests.pop(worker, None)
        gc.collect()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()


def _copied(state: Any) -> Any:
    """Training goes on while it is on its way to the worker."""
    import torch

    match state:
        case torch.Tensor():
            return state.detach().to("cpu", copy=True)
        case dict():
            return {key: _copied(value) for key, value in state.items()}
        case list():
            return [_copied(value) for value in state]
    return state


class HostedTrial(Trainable):
    """A trial that a host trains, as `ResNetTrial` wants it; made by `hosted`."""

    def __init__(self, host: Any, worker: str) -> None:
        self._host, self._worker, self._received = host, worker, 0

    def start(self, config: TrialConfig, cache: Path, store: PreparedData | None) -> None:
        """As `FusionHost.start`."""
        self._ask("start", config.model_dump(mode="json"), cache, store)

    def steps(self) -> Iterator[EpochResult | None]:
        """As `Trainable.steps`, but None comes after half a second, however many steps there were."""
        while True:
            result: EpochResult | None = self._ask("result", self._received)
            self._received += result is not None
            yield result
            if result is not None and result.last:
                return

    def state_dict(self) -> dict[str, Any]:
        """As `Trainable.state_dict`."""
        state: dict[str, Any] = self._ask("state")
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Trainable.load_state_dict`."""
        self._ask("load", state)

    def close(self) -> None:
        """Let the host forget it."""
        self._ask("end")

    def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            return ray.get(getattr(self._host, method).remote(self._worker, *arguments))
        except RayTaskError as error:
            raise error.cause from None  # as it was, without Ray's account of where
        except RayActorError:
            ray.actor.exit_actor()  # type: ignore[no-untyped-call]  # a trial that has lost its host has lost its worker


def hosted(config: TrialConfig, cache: Path, store: PreparedData | None, study: str) -> HostedTrial:
    """The trial that `config` describes, ready at epoch 0 in the host of this worker's GPU, started if need be.

    Args:
        config: of the trial.
        cache: of prepared images.
        store: the images, where they have been fetched.
        study: the URI of its folder; a host has trials of one study.

    Raises:
        ConfigError: if the data or the pretrained weights cannot be had.
    """
    context = ray.get_runtime_context()
    node, worker, visible = context.get_node_id(), context.get_actor_id(), os.environ.get("CUDA_VISIBLE_DEVICES")
    here = NodeAffinitySchedulingStrategy(node, soft=False)
    # Detached: it must not end with the worker that happened to start it.
    if worker is None:
        raise RuntimeError("only a worker of Ray's can have its trial hosted")
    host = ray.remote(FusionHost).options(
        name=f"{study} {node} {visible}", namespace=NAMESPACE, get_if_exists=True, lifetime="detached",
        num_cpus=0, num_gpus=0, max_concurrency=256, scheduling_strategy=here,
    ).remote(visible)  # fmt: skip
    trial = HostedTrial(host, worker)
    trial.start(config, cache, store)
    return trial


def end_hosts(study: str) -> None:
    """End the hosts of a study, those of a session that was killed among them; `study` is the URI of its folder."""
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["namespace"] == NAMESPACE and actor["name"].startswith(f"{study} "):
            with contextlib.suppress(ValueError):  # it has ended
                ray.kill(ray.get_actor(actor["name"], NAMESPACE))
