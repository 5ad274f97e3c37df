"""The split depends on images and seed alone, leaves no class out, and can be cut short anywhere."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest
from hypothesis import given
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


def test_a_declared_split_without_readable_rows_is_an_error() -> None:
    labels, digests = rows_of([5, 5])
    with pytest.raises(ConfigError, match="readable images in its val split"):
        split_rows(labels, digests, ["train"] * 10, {"val"}, NAMES[:2], Data())
