"""Mixup and cutmix: pixels, labels and weights tell the same story."""

from __future__ import annotations

import pytest
import torch

from trainables.augment.batch import Augmentation, Batch
from trainables.config import Augment

pytestmark = pytest.mark.numeric


def _mixed(seed: int = 0, height: int = 16, width: int = 12, **changes: object) -> Batch:
    """Image i is constant at level i + 1 and has label i, so that every pixel says whose it is."""
    pixels = (torch.arange(64) + 1).to(torch.uint8).view(64, 1, 1, 1).expand(64, 3, height, width)
    augmentation = Augmentation(Augment.model_validate(changes), (0, 0, 0), (1 / 255, 1 / 255, 1 / 255), num_classes=64)
    return augmentation(pixels, torch.arange(64), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(5))
def test_mixup_mixes_pixels_as_it_weighs_labels(seed: int) -> None:
    batch = _mixed(seed, mixup=1.0)
    assert batch.other_labels is not None
    assert batch.weight is not None
    assert torch.equal(batch.labels, torch.arange(64))
    assert torch.equal(batch.other_labels.sort().values, torch.arange(64))
    expected = batch.weight * (batch.labels + 1) + (1 - batch.weight) * (batch.other_labels + 1)
    torch.testing.assert_close(batch.images, expected.view(64, 1, 1, 1).expand_as(batch.images))


@pytest.mark.parametrize("seed", range(8))
def test_cutmix_weighs_labels_by_their_pixels(seed: int) -> None:
    batch = _mixed(seed, cutmix=1.0)
    assert batch.other_labels is not None
    assert batch.weight is not None
    levels = batch.images.round() - 1
    own = levels == batch.labels.view(64, 1, 1, 1)
    other = levels == batch.other_labels.view(64, 1, 1, 1)
    assert bool((own | other).all())
    elsewhere = batch.labels != batch.other_labels
    torch.testing.assert_close(own[elsewhere].float().mean((1, 2, 3)), batch.weight[elsewhere])
    box = ~own[elsewhere][0, 0]
    assert int(box.any(0).sum() * box.any(1).sum()) == int(box.sum())


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup_share_has_the_beta_distribution(alpha: float) -> None:
    batches = [_mixed(seed, 1, 1, mixup=alpha) for seed in range(1500)]
    shares = torch.stack([batch.weight[0] for batch in batches if batch.weight is not None])
    assert len(shares) == 1500
    assert shares.mean().item() == pytest.approx(0.5, abs=0.05)
    assert shares.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.12)


@pytest.mark.parametrize("strength", [1.0, 0.3])
def test_strength_is_the_probability_and_both_share_the_batches(strength: float) -> None:
    batches = [_mixed(seed, mixup=1.0, cutmix=1.0, strength=strength) for seed in range(600)]
    mixed = [batch for batch in batches if batch.weight is not None]
    assert len(mixed) / 600 == pytest.approx(strength, abs=0.08)
    cut = [torch.equal(batch.images, batch.images.round()) for batch in mixed]
    assert sum(cut) / len(cut) == pytest.approx(0.5, abs=0.16)
    unmixed = next((batch for batch in batches if batch.weight is None), None)
    assert (unmixed is None) == (strength == 1)
    assert unmixed is None or bool((unmixed.images[:, 0, 0, 0].round() - 1 == unmixed.labels).all())
