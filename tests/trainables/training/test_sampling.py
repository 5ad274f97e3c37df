from __future__ import annotations

import pytest
import torch

from trainables.config import Data, Regularization
from trainables.training.sampling import class_weights, epoch_order, sampling_weights, train_probe

RARE = torch.cat([torch.zeros(1000, dtype=torch.int64), torch.ones(10, dtype=torch.int64)])


def test_an_epoch_has_each_image_once_in_an_order_of_its_own() -> None:
    first, again, second = (epoch_order(3, epoch, 50, None) for epoch in (0, 0, 1))
    assert sorted(first.tolist()) == list(range(50))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_balanced_sampling_draws_rare_classes_as_often() -> None:
    weights = sampling_weights(Regularization(imbalance="balanced_sampling"), RARE, 2)
    drawn = RARE[epoch_order(0, 0, len(RARE), weights)]
    assert 0.45 < drawn.double().mean().item() < 0.55


def test_class_weights_average_to_one_over_the_training_images() -> None:
    weights = class_weights(Regularization(imbalance="class_weights"), RARE, 2)
    assert weights is not None
    assert weights[RARE].mean().item() == pytest.approx(1.0, abs=1e-6)
    assert (weights[1] / weights[0]).item() == pytest.approx(100.0)


def test_nothing_is_weighted_unless_asked_for() -> None:
    assert sampling_weights(Regularization(imbalance="class_weights"), RARE, 2) is None
    assert class_weights(Regularization(imbalance="balanced_sampling"), RARE, 2) is None


def test_the_probe_is_the_splits_and_not_the_trials() -> None:
    data = Data(source="digits", train_eval_samples=20)
    assert torch.equal(train_probe(data, 50), train_probe(data, 50))
    assert len(set(train_probe(data, 50).tolist())) == 20
    assert len(train_probe(data, 10)) == 10
