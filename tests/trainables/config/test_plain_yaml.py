"""Whatever a YAML file holds, it is read as plain data or refused in clear words, soon."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.mutations import check_clear, read_or_refused
from trainables.config import ConfigError, load_config, load_yaml, parse_config, parse_yaml


def test_floats_without_a_dot_are_numbers() -> None:
    assert parse_yaml("a: 1e-3\nb: 5E+2\nc: 1e\n", "x") == {"a": 0.001, "b": 500.0, "c": "1e"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &x [1]\nb: *x", "aliases"),
        ("a: &x {b: 1}\nc:\n  <<: *x", "aliases"),
        ("a:\n\tb: 1", "not with tabs"),
        ("a: 1\na: 2", "appears twice"),
        ("a: [", "line 1"),
        ("[" * 5000, "nested"),
        ("x" * 1_000_001, "smaller"),
        ("? {a: 1}\n: 2", "scalar"),
    ],
)
def test_bad_yaml_is_one_clear_error(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "study.yaml")
    assert words in str(caught.value)
    assert "study.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_yaml(tmp_path / "absent.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8 text: save it as that, got 'UTF-16'"):
        load_yaml(binary)
    binary.write_bytes(b"a: caf\xe9")
    with pytest.raises(ConfigError, match="UTF-8 text: save it as that, got 'byte 6'"):
        load_yaml(binary)
    binary.write_bytes(b"\xef\xbb\xbfa: 1")
    assert load_yaml(binary) == {"a": 1}
    with pytest.raises(ConfigError, match="mapping"):
        load_config(_write(tmp_path / "list.yaml", "[1, 2]"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="readable YAML file"):
        load_yaml(tmp_path / "folder")


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "a: !!int ''", "a: !!bool x", "a: !!timestamp x", "a: 1" + ":59" * 300 + ".5", "a: 0x" + "f" * 20_000,
        "{0x" + "f" * 20_000 + ": 1, 0x" + "f" * 20_000 + ": 1}",
    ],
)  # fmt: skip
def test_odd_scalars_are_plain_data_or_refused(text: str) -> None:
    read_or_refused(lambda: parse_yaml(text, "x"))


@pytest.mark.parametrize(
    ("text", "value"),
    [("2024-01-01", "2024-01-01"), ("12:30", "12:30"), ("0x1f", 31), ("017", 17), ("08", 8), ("-064", -64),
     ("0b11", 3), ("1_000", 1000), ("-.5", -0.5),
     ("1.", 1.0), (".inf", float("inf")), ("1e3", 1000.0), ("yes", True), ("~", None), ("=", "=")],
)  # fmt: skip
def test_scalars(text: str, value: object) -> None:
    assert parse_yaml(text, "x") == value


def laughs() -> str:
    lines = ["a0: &a0 [lol, lol]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 50_000,
        "- " * 50_000,
        "\n".join(" " * level + "a:" for level in range(500)),
        laughs(),
        "a: 1" + ":1" * 90_000,
    ],
    ids=["brackets", "dashes", "mappings", "laughs", "base 60"],
)
def test_what_would_take_forever_is_refused_at_once(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(parse_yaml(text, "x"))
    check_clear(caught.value)


HOSTILE = [
    "!!python/object/apply:os.mkdir ['{victim}']",
    "!!python/object/new:os.mkdir ['{victim}']",
    "!!python/name:os.mkdir",
    "!!python/module:os",
    "? !!python/object/apply:os.mkdir ['{victim}']\n: 1",
    "%TAG !m! tag:yaml.org,2002:python/object/apply:\n--- !m!os.mkdir ['{victim}']",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_yaml_runs_no_code(tmp_path: Path, text: str) -> None:
    victim = tmp_path / "ran"
    written = text.format(victim=victim)
    (tmp_path / "a.yaml").write_text(written)
    for read in (load_yaml, load_config):
        with pytest.raises(ConfigError, match="plain YAML"):
            read(tmp_path / "a.yaml")
    assert not victim.exists()


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")  # nobody will ever write to it
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "circle.yaml").symlink_to(tmp_path / "circle.yaml")
    for name in ("pipe.yaml", "zero.yaml", "circle.yaml", "null\0.yaml"):
        with pytest.raises(ConfigError, match="must be a readable YAML file"):
            load_yaml(tmp_path / name)
    (tmp_path / "link.yaml").symlink_to(tmp_path / "target")
    (tmp_path / "target").write_text("a: 1")
    assert load_yaml(tmp_path / "link.yaml") == {"a": 1}
