"""Parts of the data doctor by themselves: labels, channels, what is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from trainables.data.likeness import DIMENSIONS
from trainables.data.sources import open_source
from trainables.inspection import suspects as labels_check
from trainables.inspection.channels import channels
from trainables.inspection.domain import compare, same_classes
from trainables.inspection.duplicates import Twins, duplicates, superfluous, twins
from trainables.inspection.images import SIDE, Scanned, scanned
from trainables.inspection.labels import inject, judge
from trainables.inspection.suspects import wrong_labels


def made(labels: list[int], splits: list[str], digests: list[bytes]) -> Scanned:
    """Images of which only these things are known."""
    count = len(labels)
    return Scanned(
        ("a", "b"), names=[f"image {i}" for i in range(count)], labels=np.array(labels), splits=np.array(splits),
        digests=digests, sizes=np.full((count, 2), 32), turned=[False] * count,
        squeezed=np.zeros((count, 3, SIDE, SIDE), np.uint8), likeness=np.zeros((count, DIMENSIONS), np.float32),
    )  # fmt: skip


def test_mistakes_among_the_labels_of_digits_are_found_and_their_number_is_estimated() -> None:
    pytest.importorskip("cleanlab", reason="the extra `doctor` is not installed")
    digits = load_digits()
    labels = digits.target.astype(np.int64)
    wrong, chosen = inject(labels, 0.1, seed=4)
    assert (np.flatnonzero(wrong != labels) == chosen).all()
    verdict = judge(digits.data, wrong, np.arange(len(labels)))
    hits = len(np.intersect1d(verdict.suspects, chosen))
    assert hits / len(chosen) > 0.7
    assert hits / len(verdict.suspects) > 0.8
    assert verdict.wrong[1] <= 0.1 <= verdict.wrong[2]
    assert verdict.recall > 0.7
    assert (verdict.predicted[chosen] == labels[chosen]).mean() > 0.9


def test_without_cleanlab_labels_are_unknown_and_the_command_that_installs_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(labels_check, "find_spec", lambda _: None)
    images = made([0, 1], ["train", "train"], [b"1", b"2"])
    found, suspects = wrong_labels(images, np.zeros((2, 3)), np.arange(2), "their pixels")
    assert (found.check.status, suspects) == ("unknown", [])
    assert found.check.next_step == "pip install 'resnet-search[doctor]'"


def test_too_few_images_are_not_judged() -> None:
    pytest.importorskip("cleanlab", reason="the extra `doctor` is not installed")
    images = made([0, 1] * 20, ["train"] * 40, [bytes([i]) for i in range(40)])
    found, suspects = wrong_labels(images, np.zeros((40, 3)), np.arange(40), "their pixels")
    assert (found.check.status, suspects) == ("unknown", [])
    assert compare(images.squeezed[:10], images.squeezed[10:]) is None


def test_the_copy_furthest_from_training_stays_and_none_of_a_contradictory_group() -> None:
    images = made(
        [0, 0, 0, 1, 1, 0, 1],
        ["train", "val", "test", "train", "train", "train", "val"],
        [b"a", b"a", b"a", b"b", b"b", b"c", b"c"],
    )
    copies, contradictory = superfluous(images, twins(images))
    assert copies == [0, 1, 4]
    assert contradictory == [5, 6]


def test_mirror_images_of_different_labels_are_told_and_not_left_out() -> None:
    images = made([0, 1, 0, 0], ["train", "train", "val", "train"], [b"1", b"2", b"3", b"4"])
    pairs = np.array([[0, 1], [0, 2]])
    found = Twins(pairs[:, 0], pairs[:, 1], np.zeros(2, bool), np.ones(2, bool), np.ones(2), np.array([0, 0, 0, 3]))
    across, _, conflicts = duplicates(images, found)
    assert across.check.evidence == "1 of 1 val images (100.0 %) are in train too, 0 of them byte for byte"
    assert "1 mirrored" in conflicts.check.evidence
    assert superfluous(images, found) == ([0], [])


def test_as_many_images_of_each_class_are_compared() -> None:
    ours, theirs = same_classes(np.array([0, 0, 0, 1, 2]), np.array([0, 1, 1, 1, 3]))
    assert [len(ours), len(theirs)] == [2, 2]
    assert set(theirs.tolist()) <= {0, 1, 2, 3}


def test_a_whole_source_in_the_order_bgr_is_warned_of_unless_the_pretrained_features_say_otherwise(
    data_dir: Path, tmp_path: Path
) -> None:
    with scanned(open_source(f"imagefolder:{data_dir}/hymenoptera").contents(tmp_path)) as images:
        assert channels(images).check.status == "ok"
        images.squeezed = np.ascontiguousarray(images.squeezed[:, ::-1])
        assert channels(images).check.status == "warning"
        assert "BGR" in channels(images).check.evidence
        assert channels(images, lambda: (0.9, 0.8, 0.02)).check.status == "ok"
        assert channels(images, lambda: (0.8, 0.9, 0.02)).check.status == "warning"
