from __future__ import annotations

import pytest
import torch
from torch import nn

from trainables.models.ema import WeightAverage


@pytest.mark.parametrize("decay", [0.9, 0.99, 0.999])
def test_the_average_is_adams_without_the_initial_weights(decay: float) -> None:
    model = nn.Linear(3, 2).double()
    averaged = WeightAverage(model, decay)
    moment = torch.zeros(2, 3, dtype=torch.float64)
    for step in range(1, 31):
        nn.init.normal_(model.weight, mean=step)
        averaged.update()
        moment = decay * moment + (1 - decay) * model.weight.detach()
        torch.testing.assert_close(averaged.module.weight, moment / (1 - decay**step))  # type: ignore[union-attr]


def test_buffers_of_whole_numbers_are_copied() -> None:
    model = nn.BatchNorm1d(2)
    averaged = WeightAverage(model, 0.9)
    for _ in range(3):
        model(torch.randn(4, 2))
        averaged.update()
    assert averaged.module.num_batches_tracked == 3  # type: ignore[union-attr]
    assert not torch.equal(averaged.module.running_mean, model.running_mean)  # type: ignore[union-attr, arg-type]
