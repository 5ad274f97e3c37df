"""Whatever a YAML file holds, it is read as a config or refused in clear words, soon."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from tests.mutations import check_clear, damaged, mutated, read_or_refused
from trainables.config import ConfigError, TrialConfig, dump_config, load_config, load_yaml, parse_config, parse_yaml

TREES = [
    TrialConfig().model_dump(mode="json"),
    parse_config(
        {
            "model": {"kind": "torchvision_resnet", "pretrained": "torchvision:DEFAULT", "frozen_stages": 2},
            "data": {"source": "parquet:x", "normalize": {"mean": [0.5, 0.5, 0.5], "std": [0.1, 0.2, 0.3]}},
            "optimizer": {"kind": "adamw"},
            "schedule": {"kind": "step", "milestones": [0.3, 0.6]},
            "regularization": {"clip_norm": 1.0, "patience": 3},
            "execution": {"threads": 2},
        }
    ).model_dump(mode="json"),
]


@given(st.sampled_from(TREES).flatmap(mutated))
def test_a_mutated_config_is_valid_or_refused(tree: Any) -> None:
    config = read_or_refused(lambda: parse_config(tree))
    if config is not None:
        assert parse_yaml(dump_config(config), "x") == config.model_dump(mode="json")


TEXTS = [yaml.safe_dump(tree, sort_keys=False).encode() for tree in TREES]


@given(content=st.sampled_from(TEXTS).flatmap(damaged))
def test_a_damaged_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("yaml") / "config.yaml"
    path.write_bytes(content)
    read_or_refused(lambda: load_config(path))


MARKUP = [
    "a", "1", "1e5", ": ", "- ", "? ", "\n", " ", "  ", "[", "]", "{", "}", ",", "&a ", "*a", "!!int ", "!t ", "!",
    "<<: ", "'", '"', "|", ">", "#", "---\n", "...\n", "%YAML 1.1\n", "\t", "~", ".", "0x", "_", "=", "\\x",
]  # fmt: skip


@given(st.lists(st.sampled_from(MARKUP), max_size=30).map("".join))
@example("a: !!int ''")
@example("a: !!bool x")
@example("a: !!timestamp x")
@example("a: 1" + ":59" * 300 + ".5")
@example("a: 0x" + "f" * 20_000)
@example("{0x" + "f" * 20_000 + ": 1, 0x" + "f" * 20_000 + ": 1}")
def test_any_markup_is_plain_data_or_refused(text: str) -> None:
    read_or_refused(lambda: parse_yaml(text, "x"))


@pytest.mark.parametrize(
    ("text", "value"),
    [("2024-01-01", "2024-01-01"), ("12:30", "12:30"), ("0x1f", 31), ("017", 15), ("1_000", 1000), ("-.5", -0.5),
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
def test_what_would_take_for_ever_is_refused_at_once(text: str) -> None:
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


def test_a_message_can_be_shown_whatever_it_tells() -> None:
    shared: list[Any] = [1]
    for _ in range(60):
        shared = [shared, shared]
    circle: dict[str, Any] = {}
    circle["model"] = circle
    for value in (
        shared,
        circle,
        {"epochs": shared},
        {"x" * 100_000: 1},
        {"\x1b[2J\n\ud800": 1},
        {"epochs": 1 << 10**6},
    ):
        with pytest.raises(ConfigError) as caught:
            parse_config(value)  # type: ignore[arg-type]
        check_clear(caught.value)
    with pytest.raises(ConfigError) as caught:
        parse_config({str(number): 1 for number in range(5000)})
    check_clear(caught.value)
