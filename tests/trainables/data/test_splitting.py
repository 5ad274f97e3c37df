"""The split depends on images and seed alone, leaves no class out, and can be cut short anywhere."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trainables.config import ConfigError, Data
from trainables.config.part import LARGEST_INT
from trainables.data.source import Split
from trainables.data.splitting import split_rows

COUNTS = st.lists(st.integers(3, 40), min_size=2, max_size=6)
FRACTION = st.floats(0.01, 0.99)
NAMES = [f"class {i}" for i in range(6)]


def rows_of(counts: list[int]) -> tuple[list[int], list[bytes]]:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    return labels, [hashlib.sha256(str(i).encode()).digest() for i in range(len(labels))]


def split(counts: list[int], data: Data) -> dict[Split, list[int]]:
    labels, digests = rows_of(counts)
    found = split_rows(labels, digests, ["train"] * len(labels), (), NAMES[: len(counts)], data)
    return {name: rows.tolist() for name, rows in found.items()}


@given(COUNTS, FRACTION, FRACTION, st.integers(0, LARGEST_INT))
def test_splits_share_out_every_class(counts: list[int], val: float, test: float, seed: int) -> None:
    labels, _ = rows_of(counts)
    found = split(counts, Data(val_fraction=val, test_fraction=test, split_seed=seed))
    assert sorted(row for rows in found.values() for row in rows) == list(range(len(labels)))
    for label, count in enumerate(counts):
        n = {name: sum(labels[row] == label for row in rows) for name, rows in found.items()}
        assert min(n.values()) >= 1
        if n["train"] > 1:  # else the fraction gave way to the class's last training image
            assert abs(n["test"] - count * test) <= 1
            assert abs(n["val"] - (count - n["test"]) * val) <= 1


@given(COUNTS, st.integers(0, 100), st.randoms())
def test_the_order_of_the_source_does_not_matter(counts: list[int], seed: int, random: object) -> None:
    labels, digests = rows_of(counts)
    order = list(range(len(labels)))
    random.shuffle(order)  # type: ignore[attr-defined]
    data = Data(split_seed=seed)
    names = NAMES[: len(counts)]
    one = split_rows(labels, digests, ["train"] * len(labels), (), names, data)
    shuffled = [digests[i] for i in order]
    other = split_rows([labels[i] for i in order], shuffled, ["train"] * len(labels), (), names, data)
    for name in one:
        assert [digests[i] for i in one[name]] == [shuffled[i] for i in other[name]]


@given(COUNTS, st.data())
def test_every_prefix_is_stratified(counts: list[int], draw: st.DataObject) -> None:
    labels, _ = rows_of(counts)
    rows = split(counts, Data())["train"]
    total = Counter(labels[row] for row in rows)
    cap = draw.draw(st.integers(1, len(rows)))
    taken = Counter(labels[row] for row in rows[:cap])
    for label in total:
        assert abs(taken[label] - total[label] * cap / len(rows)) <= len(counts)
        if cap >= len(counts):
            assert taken[label] >= 1


def test_balanced_classes_differ_by_at_most_one_in_any_prefix() -> None:
    labels, _ = rows_of([40] * 5)
    rows = split([40] * 5, Data())["train"]
    for cap in range(1, len(rows) + 1):
        taken = Counter(labels[row] for row in rows[:cap])
        assert max(taken.values()) - min(taken.get(label, 0) for label in range(5)) <= 1


def test_another_seed_gives_another_split() -> None:
    assert split([40, 40], Data(split_seed=0))["val"] != split([40, 40], Data(split_seed=1))["val"]


def test_identical_images_stay_together_but_at_the_border() -> None:
    labels = [0] * 40 + [1] * 40
    digests = [hashlib.sha256(str(i // 2).encode()).digest() for i in range(80)]  # every image twice
    found = split_rows(labels, digests, ["train"] * 80, (), NAMES[:2], Data(test_fraction=0.25, val_fraction=0.5))
    homes = [{name for name, rows in found.items() if row in rows or row + 1 in rows} for row in range(0, 80, 2)]
    assert sum(len(home) > 1 for home in homes) <= 4  # two borders a class


def test_own_splits_stay_as_they_are() -> None:
    labels, digests = rows_of([20, 20])
    own: list[Split] = ["val" if i % 4 == 0 else "train" for i in range(40)]
    found = split_rows(labels, digests, own, {"val"}, NAMES[:2], Data())
    assert sorted(found["val"]) == list(range(0, 40, 4))
    assert len(found["test"]) == 4  # 15 % of 15 a class
    own = ["test" if i % 4 == 0 else "train" for i in range(40)]
    found = split_rows(labels, digests, own, {"test"}, NAMES[:2], Data())
    assert sorted(found["test"]) == list(range(0, 40, 4))
    assert len(found["val"]) == 4  # 10 % of 15 a class


def test_a_class_too_small_to_be_split_is_named_with_its_count() -> None:
    with pytest.raises(ConfigError, match=r"at least 3 .* train and val and test.*class 1 \(2\)"):
        split([10, 2, 10], Data())
    labels, digests = rows_of([5, 1])
    own: list[Split] = ["val", "train", "train", "train", "train", "train"]
    with pytest.raises(ConfigError, match=r"at least 2 .* train and test.*class 1 \(1\)"):
        split_rows(labels, digests, own, {"val"}, NAMES[:2], Data())


def folds_of(
    labels: Sequence[int], digests: Sequence[bytes], folds: int, own: Sequence[Split] = (),
    declared: Collection[Split] = (), **more: int,
) -> list[dict[Split, list[int]]]:  # fmt: skip
    """What each fold's trial gets; that it leaves the test split alone is checked here."""
    own, names = own or ["train"] * len(labels), NAMES[: max(labels) + 1]
    plain = split_rows(labels, digests, own, declared, names, Data())
    found = []
    for fold in range(folds):
        data = Data.model_validate({"folds": folds, "fold": fold, **more})
        rows = split_rows(labels, digests, own, declared, names, data)
        assert rows["test"].tolist() == plain["test"].tolist()
        found.append({split: rows[split].tolist() for split in rows})
    return found


class TestFolds:
    @given(COUNTS, st.integers(2, 6), st.integers(0, 3))
    def test_each_image_that_is_not_test_validates_in_one_fold(
        self, counts: list[int], folds: int, repeat: int
    ) -> None:
        labels, digests = rows_of(counts)
        assume(len(labels) - len(split(counts, Data())["test"]) >= folds)
        found = folds_of(labels, digests, folds, repeat=repeat)
        rest = sorted(row for split in ("train", "val") for row in found[0][split])
        assert sorted(rest + found[0]["test"]) == list(range(len(labels)))
        assert sorted(row for fold in found for row in fold["val"]) == rest
        for fold in found:
            assert sorted(fold["train"] + fold["val"]) == rest
            assert {labels[row] for row in fold["train"]} == set(labels)
        sizes = [len(fold["val"]) for fold in found]
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1
        for label in set(labels):
            shares = [sum(labels[row] == label for row in fold["val"]) for fold in found]
            assert max(shares) - min(shares) <= 1

    def test_the_order_of_the_source_does_not_matter(self) -> None:
        labels, digests = rows_of([20, 12, 9])
        here = folds_of(labels, digests, 4)
        there = folds_of(labels[::-1], digests[::-1], 4)
        for one, other in zip(here, there, strict=True):
            assert {split: [len(labels) - 1 - row for row in rows] for split, rows in other.items()} == one

    def test_a_repeat_draws_other_folds(self) -> None:
        labels, digests = rows_of([20, 20])
        drawn = [folds_of(labels, digests, 4, repeat=repeat) for repeat in range(3)]
        assert len({tuple(sorted(found[0]["val"])) for found in drawn}) == 3
        assert drawn[0] == folds_of(labels, digests, 4)

    def test_a_declared_validation_split_is_pooled_and_a_declared_test_split_is_not(self) -> None:
        labels, digests = rows_of([20, 20])
        own: list[Split] = ["val" if i % 4 == 0 else "train" for i in range(40)]
        found = folds_of(labels, digests, 4, own, {"val"})
        assert sum(len(fold["val"]) for fold in found) == 40 - len(found[0]["test"]) == 36
        assert all({own[row] for row in fold["val"]} == {"train", "val"} for fold in found)
        own = ["test" if i % 4 == 0 else "train" for i in range(40)]
        for fold in folds_of(labels, digests, 4, own, {"test"}):
            assert sorted(fold["test"]) == list(range(0, 40, 4))

    def test_identical_images_are_in_one_fold(self) -> None:
        labels = [0] * 40 + [1] * 40
        digests = [hashlib.sha256(str(i // 3).encode()).digest() for i in range(80)]  # every image three times
        for fold in folds_of(labels, digests, 5, repeat=1):
            train, val = ({(labels[row], digests[row]) for row in fold[split]} for split in ("train", "val"))
            assert not train & val
            assert Counter(labels[row] for row in fold["val"]).keys() == {0, 1}

    def test_every_prefix_is_stratified(self) -> None:
        labels, digests = rows_of([40] * 5)
        rows = folds_of(labels, digests, 4)[2]["train"]
        for cap in range(5, len(rows) + 1, 5):
            assert set(Counter(labels[row] for row in rows[:cap]).values()) == {cap // 5}

    def test_a_class_with_fewer_images_than_folds_is_still_in_every_training_split(self) -> None:
        labels, digests = rows_of([30, 3])
        found = folds_of(labels, digests, 10)  # one of the three is test
        assert [sum(labels[row] for row in fold["val"]) for fold in found].count(1) == 2
        assert all(1 in {labels[row] for row in fold["train"]} for fold in found)

    def test_what_cannot_be_split_is_refused_by_name(self) -> None:
        labels, digests = rows_of([10, 4])
        same = [*digests[:10], *[digests[10]] * 4]
        with pytest.raises(ConfigError, match=r"at least 2 different images a class .*too few have class 1 \(1\)"):
            folds_of(labels, same, 3)
        with pytest.raises(ConfigError, match=r"data.folds: must be at most the 11 different images .*got '?20"):
            folds_of(labels, digests, 20)


def test_a_declared_split_without_readable_rows_is_an_error() -> None:
    labels, digests = rows_of([5, 5])
    with pytest.raises(ConfigError, match="readable images in its val split"):
        split_rows(labels, digests, ["train"] * 10, {"val"}, NAMES[:2], Data())
