from __future__ import annotations

import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support

from trainables.training.evaluation import score


@pytest.mark.parametrize(("images", "classes", "known"), [(200, 10, 10), (12, 10, 3), (1, 4, 4), (500, 100, 100)])
def test_scores_are_those_of_sklearn(images: int, classes: int, known: int) -> None:
    generator = torch.Generator().manual_seed(images)
    labels = torch.randint(known, (images,), generator=generator)
    logits = torch.randn(images, classes, generator=generator)
    logits[: images // 2] += 5 * torch.nn.functional.one_hot(labels[: images // 2], classes)
    found = score(logits, labels)
    expected = precision_recall_fscore_support(labels, logits.argmax(1), average="macro", zero_division=0.0)
    assert (found.precision, found.recall, found.f1) == pytest.approx(expected[:3], rel=1e-12)
    assert found.accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert found.loss == pytest.approx(-logits.log_softmax(1)[range(images), labels].mean().item(), rel=1e-5)
