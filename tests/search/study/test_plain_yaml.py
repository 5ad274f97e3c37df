from __future__ import annotations

from search.study.plain_yaml import NOT_SET, differences, plain_yaml
from trainables.config import parse_yaml


def test_plain_data_is_written_as_it_is_read() -> None:
    shared = [0.3, 0.6]
    tree = {
        "a": {"x": shared, "y": shared},
        "b": {32: None, True: "none", "no": "yes"},
        "c": 1e-5,
        "d": "1e-5",
        "e": {},
    }
    text = plain_yaml(tree)
    assert parse_yaml(text, "x") == tree
    assert "x: [0.3, 0.6]" in text


def test_differences_are_found_path_by_path() -> None:
    old = {"a": 1, "b": {"c": [1, 2], "d": 0}, "e": {"f": 3}, "g": {}}
    new = {"a": 1.0, "b": {"c": [1, 3], "d": False}, "g": {"h": {"i": 4}}, "j": {}}
    assert list(differences(old, new)) == [
        ("b.c", [1, 2], [1, 3]), ("b.d", 0, False), ("e.f", 3, NOT_SET), ("g.h.i", NOT_SET, 4), ("j", NOT_SET, {}),
    ]  # fmt: skip
    assert list(differences(old, old)) == []
