"""Classes are matched by what they are called."""

from __future__ import annotations

import pytest

from trainables.checkpoints.class_names import check_same_classes, match_classes
from trainables.config import ConfigError

TRAINED = ("blue", "green sea", "Red")


@pytest.mark.parametrize(
    ("trained", "found", "labels"),
    [
        (TRAINED, ("Red", "blue", "green sea"), (2, 0, 1)),  # another order
        (TRAINED, ("Red",), (2,)),
        (TRAINED, ("Blue", "green_sea", "red"), (0, 1, 2)),
        (("0", "1", "10", "2"), ("0", "1", "2", "10"), (0, 1, 3, 2)),  # numbers as text sorts them
        (("0", "1", "2"), ("00", "01", "02"), (0, 1, 2)),
        (("cat", "Cat"), ("Cat", "cat"), (1, 0)),  # as they are first
    ],
)
def test_labels_follow_the_names(trained: tuple[str, ...], found: tuple[str, ...], labels: tuple[int, ...]) -> None:
    assert match_classes(trained, found).labels == labels


@pytest.mark.parametrize(
    ("trained", "found", "notes"),
    [
        (TRAINED, TRAINED, ()),
        (TRAINED, ("Red", "blue"), ("classes of the checkpoint without images here: 'green sea'",)),
        (
            ("blue", "green", "Red"), ("RED", "blue"),
            ("classes taken for the same: 'RED' for 'Red'", "classes of the checkpoint without images here: 'green'"),
        ),
    ],
)  # fmt: skip
def test_what_is_not_as_trained_is_said(
    trained: tuple[str, ...], found: tuple[str, ...], notes: tuple[str, ...]
) -> None:
    assert match_classes(trained, found).notes == notes


@pytest.mark.parametrize(
    ("trained", "found", "named"),
    [
        (TRAINED, ("aardvark", "blue"), "knows 'blue', 'green sea', 'Red': rename 'aardvark' or leave it out"),
        (TRAINED, ("green see",), r"rename 'green see' \(did you mean 'green sea'\?\)"),
        (TRAINED, ("0", "1", "2"), "rename '0', '1', '2'"),
        (("cat", "Cat"), ("CAT",), "rename 'CAT'"),  # either could be meant
        (TRAINED, ("red", "RED"), "rename 'red', 'RED'"),  # two would be one
        (TRAINED, ("Red", "red"), "rename 'red'"),
        (tuple("abcdefgh"), ("z",), "'e' and 3 more"),
    ],
)
def test_unknown_classes_are_named(trained: tuple[str, ...], found: tuple[str, ...], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        match_classes(trained, found)


@pytest.mark.parametrize(
    ("found", "named"),
    [
        (("blue", "green sea", "red"), "it does not know 'red' and the images have none of its 'Red'"),
        (("blue", "Red"), "the images have none of its 'green sea'"),
        (("Red", "blue", "green sea"), "their order is another"),
        ((*TRAINED, "white"), "it does not know 'white'"),
    ],
)
def test_training_continues_on_the_same_classes_only(found: tuple[str, ...], named: str) -> None:
    check_same_classes(TRAINED, list(TRAINED))
    with pytest.raises(ConfigError, match=named):
        check_same_classes(TRAINED, found)
