"""The studies that ship: one YAML file each, read from the package and never from the working directory."""

from __future__ import annotations

from importlib import resources
from typing import Any

from trainables.config import parse_yaml

__all__ = ["read_study", "study_names"]

SUFFIX = ".yaml"


def study_names() -> list[str]:
    """The names of the studies that ship, in alphabetical order."""
    files = resources.files("spaces").iterdir()
    return sorted(file.name.removesuffix(SUFFIX) for file in files if file.name.endswith(SUFFIX))


def read_study(name: str) -> dict[str, Any]:
    """The YAML of a study of `study_names` as plain data.

    Raises:
        KeyError: if no such study ships.
        ConfigError: if the file is not plain YAML.
    """
    if name not in study_names():
        raise KeyError(name)
    file = name + SUFFIX
    tree: dict[str, Any] = parse_yaml(resources.files("spaces").joinpath(file).read_text(encoding="utf-8"), file)
    return tree
