"""Whether what a checkpoint holds can be continued: names, types and ranges of its plain data. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from trainables.config import ConfigError

__all__ = ["check_float", "check_keys", "check_seconds", "check_whole", "refusal"]


def refusal(name: str, value: object, rule: str) -> ConfigError:
    """The error for one mistake in a checkpoint; `name` is the dotted path in it."""
    return ConfigError.single(f"checkpoint: {name}", value, rule)


def check_keys(found: object, keys: Sequence[str], name: str) -> dict[str, Any]:
    """`found` as a mapping that has all of `keys`.

    Raises:
        ConfigError: naming the first that is missing.
    """
    if not isinstance(found, dict):
        raise refusal(name, found, "must be a mapping")
    missing = next((key for key in keys if key not in found), None)
    if missing is not None:
        raise refusal(f"{name}.{missing}".removeprefix("."), None, "is required")
    return found


def check_whole(found: object, name: str, least: int, most: int) -> int:
    """`found` as a whole number within limits.

    Raises:
        ConfigError: if it is none.
    """
    if type(found) is not int or not least <= found <= most:
        raise refusal(name, found, f"must be a whole number from {least} to {most}")
    return found


def check_float(found: object, name: str) -> float:
    """`found` as a float, finite or not.

    Raises:
        ConfigError: if it is none.
    """
    if type(found) is not float:
        raise refusal(name, found, "must be a floating-point number")
    return found


def check_seconds(found: object, name: str) -> float:
    """`found` as a duration.

    Raises:
        ConfigError: if it is none.
    """
    seconds = check_float(found, name)
    if not 0 <= seconds < math.inf:
        raise refusal(name, seconds, "must be a number of seconds")
    return seconds
