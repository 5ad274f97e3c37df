"""Steps of several trials at once: horizontally fused training (Wang et al., HFTA, MLSys 2021).

Small networks leave a GPU idle between its many small kernels. The trials of one architecture are one network here,
whose parameters are stacked: `torch.vmap` makes grouped convolutions of theirs. That is all that is shared. Each trial
draws its own batch and has its own loss, optimizer, schedule and average, as it has alone; its numbers differ from
those only as the order of floating-point sums does.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainables.augment import Batch
from trainables.loop import Run
from trainables.result import EpochResult

__all__ = ["advance"]


def advance(runs: Sequence[Run]) -> list[EpochResult | Exception | None]:
    """Take one step of each run, or end its epoch where it has no step left, and give what `Run.steps` would yield.

    Runs with the same `fusion` take their steps together, if there is memory for that; the others one after another. A
    run that fails alone gives its error and must not go on; the others are none the worse.

    Args:
        runs: different ones, none of which has given its last result.
    """
    together: dict[Hashable, list[int]] = {}
    for number, run in enumerate(runs):
        key = run.fusion if run.fusion is not None and run.steps_left else number
        together.setdefault(key, []).append(number)
    advanced: list[EpochResult | Exception | None] = [None] * len(runs)
    for numbers in together.values():
        if len(numbers) == 1:
            advanced[numbers[0]] = _alone(runs[numbers[0]])
        else:
            errors = _fused([runs[number] for number in numbers])
            for number, error in zip(numbers, errors, strict=True):
                advanced[number] = error
    return advanced


def _alone(run: Run) -> EpochResult | Exception | None:
    try:
        return next(run.steps())
    except Exception as error:  # noqa: BLE001 (the caller's, who knows whose run it is)
        return error.with_traceback(None)  # which would keep what the step has allocated


def _fused(runs: list[Run]) -> list[Exception | None]:
    started = time.perf_counter()
    batches = [run.next_batch() for run in runs]
    errors: list[Exception | None] = [None] * len(runs)
    try:
        losses = _gradients(runs, batches)
    except torch.OutOfMemoryError:
        losses = None  # nothing has changed but the streams that the batches were drawn from
    for number, (run, batch) in enumerate(zip(runs, batches, strict=True)):
        if losses is not None:
            run.learn(losses[number])
            continue
        try:
            run.train_on(batch)
        except Exception as error:  # noqa: BLE001 (likewise)
            errors[number] = error.with_traceback(None)
    seconds = time.perf_counter() - started
    for run in runs:
        run.begun_epoch().seconds += seconds  # which each of them has waited
    return errors


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
