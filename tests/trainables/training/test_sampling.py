from __future__ import annotations

import pytest
import torch

from trainables.config import Augment, Data, Regularization
from trainables.training.sampling import (
    class_weights,
    epoch_order,
    first_mirrored,
    sampling_weights,
    scale_at,
    train_probe,
)

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


def test_half_of_the_images_are_mirrored_in_the_first_epoch_and_it_depends_on_the_seed() -> None:
    first = first_mirrored(3, 1000)
    assert 440 < int(first.sum()) < 560
    assert torch.equal(first, first_mirrored(3, 1000))
    assert not torch.equal(first, first_mirrored(4, 1000))


def test_images_grow_until_four_fifths_of_the_run() -> None:
    augment = Augment(first_scale=0.5)
    assert [scale_at(augment, epoch, 10) for epoch in (0, 4, 8, 9)] == [0.5, 0.75, 1, 1]
    assert scale_at(Augment(first_scale=0.5, strength=0.5), 0, 10) == 0.75
    assert scale_at(Augment(), 0, 10) == 1
