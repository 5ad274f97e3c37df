from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from trainables.training.evaluation import class_report, collapse, is_one_class, score


def outputs(images: int, classes: int, known: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(images)
    labels = torch.randint(known, (images,), generator=generator)
    logits = torch.randn(images, classes, generator=generator)
    logits[: images // 2] += 5 * torch.nn.functional.one_hot(labels[: images // 2], classes)
    return logits, labels


@pytest.mark.parametrize(("images", "classes", "known"), [(200, 10, 10), (12, 10, 3), (1, 4, 4), (500, 100, 100)])
def test_scores_are_those_of_sklearn(images: int, classes: int, known: int) -> None:
    logits, labels = outputs(images, classes, known)
    found, report = score(logits, labels), class_report(logits, labels, [str(number) for number in range(classes)])
    expected = precision_recall_fscore_support(labels, logits.argmax(1), average="macro", zero_division=0.0)
    assert (found.precision, found.recall, found.f1) == pytest.approx(expected[:3], rel=1e-12)
    assert found.accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert found.loss == pytest.approx(-logits.log_softmax(1)[range(images), labels].mean().item(), rel=1e-5)
    *each, support = precision_recall_fscore_support(labels, logits.argmax(1), labels=range(classes), zero_division=0.0)
    assert [report.precision, report.recall, report.f1] == [pytest.approx(list(values)) for values in each]
    assert report.images == tuple(support)
    counts = np.diag(report.right)
    for actual, predicted, number in report.confusions:
        counts[actual, predicted] = number
    assert (counts == confusion_matrix(labels, logits.argmax(1), labels=range(classes))).all()


def test_calibration_error_is_the_mean_distance_of_confidence_and_accuracy_over_15_bins() -> None:
    logits, labels = outputs(300, 4, 4)
    confidence, predicted = logits.double().softmax(1).max(1)
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            gap = (predicted == labels)[inside].double().mean() - confidence[inside].mean()
            expected += float(inside.double().mean() * gap.abs())
    assert class_report(logits, labels, "abcd").calibration_error == pytest.approx(expected, abs=1e-6)
    sure = 50.0 * torch.nn.functional.one_hot(labels, 4)
    assert class_report(sure, labels, "abcd").calibration_error == pytest.approx(0.0, abs=1e-6)
    assert class_report(-sure, labels, "abcd").calibration_error > 0.3


@pytest.mark.parametrize(
    ("counts", "is_one"),
    [
        ([[0, 50, 0], [0, 50, 0], [0, 50, 0]], True),
        ([[1, 49, 0], [0, 50, 0], [0, 50, 0]], True),
        ([[5, 45, 0], [0, 48, 2], [0, 47, 3]], False),  # takes 7 % for other classes
        ([[960, 0], [0, 40]], False),  # nearly all images are of one class, and the network tells them apart
        ([[970, 0], [30, 0]], True),
        ([[0, 10], [0, 90]], True),
        ([[90, 0], [0, 0]], False),  # there is but one class to be seen
    ],
)
def test_a_network_that_predicts_one_class_is_told_from_one_that_is_right(
    counts: list[list[int]], is_one: bool
) -> None:
    assert is_one_class(np.array(counts)) is is_one


def test_a_loss_that_rises_to_twice_its_first_value_is_a_collapse() -> None:
    assert collapse(False, 4.7, first_loss=2.3, classes=10) == "rising loss"
    assert collapse(False, 4.5, first_loss=2.3, classes=10) is None
    assert collapse(False, 4.5, first_loss=0.1, classes=10) is None  # a trained head begins below a blind guess
    assert collapse(False, 9.0, first_loss=5.0, classes=10) is None
    assert collapse(True, 2.3, first_loss=2.3, classes=10) == "one class"


def test_a_report_of_many_classes_names_the_most_frequent_confusions() -> None:
    logits, labels = outputs(20_000, 100, 100)
    report = class_report(logits, labels, [str(number) for number in range(100)])
    frequencies = [images for _, _, images in report.confusions]
    assert len(frequencies) == 2500
    assert frequencies == sorted(frequencies, reverse=True)
    assert sum(report.images) == sum(report.predicted) == 20_000
    assert report.predicted_share == max(report.predicted) / 20_000
