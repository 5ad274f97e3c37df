"""Steps of several trials at once: horizontally fused training (Wang et al., HFTA, MLSys 2021).

Small networks leave a GPU idle between its many small kernels. The trials of one architecture are one network here,
whose parameters are stacked: `torch.vmap` makes grouped convolutions of theirs. That is all that is shared. Each trial
draws its own batch and has its own loss, optimizer, schedule and average, as it has alone; its numbers differ from
those only as the order of floating-point sums does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainables.augment.batch import Batch
from trainables.result import EpochResult
from trainables.training.loop import Run

__all__ = ["FusedSteps"]

T = TypeVar("T")
Outcome = EpochResult | Exception | None


class FusedSteps:
    """Advances runs side by side. It remembers how many of a kind did not fit into memory as one network."""

    def __init__(self) -> None:
        self._most: dict[Hashable, int] = {}

    def advance(self, runs: Sequence[Run]) -> list[Outcome]:
        """Take one step of each run, or end its epoch where it has no step left; return what `Run.steps` would yield.

        Runs with the same `fusion` take their steps together, if there is memory for that; the others one after
        another. A run that fails returns its error and must not be advanced again; the others are not affected.

        Args:
            runs: different ones, none of which has given its last result.
        """
        started = time.perf_counter()
        outcomes: list[Outcome] = [None] * len(runs)
        fused: list[int] = []
        for group in self._groups(runs):
            if len(group) == 1:
                outcomes[group[0]] = _outcome(partial(next, runs[group[0]].steps()))
                continue
            fused += group
            found = _outcome(partial(self._together, [runs[number] for number in group]))
            for place, number in enumerate(group):
                outcomes[number] = found if isinstance(found, Exception) else found[place]
        seconds = time.perf_counter() - started
        for number in fused:
            runs[number].begun_epoch().seconds += seconds  # it has waited for the others, too
        return outcomes

    def _groups(self, runs: Sequence[Run]) -> Iterator[list[int]]:
        alike: dict[Hashable, list[int]] = {}
        for number, run in enumerate(runs):
            alike.setdefault(run.fusion if run.fusion is not None and run.steps_left else number, []).append(number)
        for key, numbers in alike.items():
            most = self._most.get(key, len(numbers))
            for start in range(0, len(numbers), most):
                yield numbers[start : start + most]

    def _together(self, runs: list[Run]) -> list[Outcome]:
        outcomes: list[Outcome] = [None] * len(runs)
        batches: dict[int, Batch] = {}
        for number, run in enumerate(runs):
            drawn = _outcome(run.next_batch)
            if isinstance(drawn, Exception):
                outcomes[number] = drawn
            else:
                batches[number] = drawn
        losses: dict[int, Tensor] = {}
        try:
            if batches:
                found = _gradients([runs[number] for number in batches], list(batches.values()))
                losses = dict(zip(batches, found, strict=True))
        except torch.OutOfMemoryError:  # nothing has changed but the streams that the batches were drawn from
            self._most[runs[0].fusion] = max(1, len(runs) // 2)
        for number, batch in batches.items():
            run = runs[number]
            take = partial(run.learn, losses[number]) if losses else partial(run.train_on, batch)
            outcomes[number] = _outcome(take)
        return outcomes


def _outcome(work: Callable[[], T]) -> T | Exception:
    """What comes of a part of one run's step; an error is that run's own, and the caller knows whose it is."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001
        return error.with_traceback(None)  # which would hold what the step has allocated


def _gradients(runs: list[Run], batches: list[Batch]) -> list[Tensor]:
    """The loss of each run, its gradients being in its parameters' `grad`."""
    models = [run.network for run in runs]
    for model in models:
        model.zero_grad(set_to_none=True)
    # Stacked anew every step: the gradients come back through the stack, and a run may come or go at any step.
    parameters = _stacked([dict(model.named_parameters()) for model in models])
    buffers = _stacked([dict(model.named_buffers()) for model in models])

    def forward(parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor) -> Tensor:
        logits: Tensor = functional_call(models[0], (parameters, buffers), (images,))
        return logits

    with runs[0].precision():
        logits = torch.vmap(forward)(parameters, buffers, torch.stack([batch.images for batch in batches]))
    losses = [run.loss(logits[number], batch) for number, (run, batch) in enumerate(zip(runs, batches, strict=True))]
    torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
    _write_back(models, buffers)
    return losses


def _stacked(each: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([tensors[name] for tensors in each]) for name in each[0]}


def _write_back(models: list[nn.Module], buffers: dict[str, Tensor]) -> None:
    """Give the running statistics of batch norms back to the networks that they are of."""
    pairs: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for number, model in enumerate(models):
        for name, buffer in model.named_buffers():
            own, new = pairs.setdefault(buffer.dtype, ([], []))
            own.append(buffer)
            new.append(buffers[name][number])
    for own, new in pairs.values():
        torch._foreach_copy_(own, new)
