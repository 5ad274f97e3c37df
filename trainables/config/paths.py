"""Paths that mean the same in every process and working directory, and whatever link they were reached by."""

from __future__ import annotations

import os

__all__ = ["absolute_path"]


def absolute_path(path: str) -> str:
    """The path without `~`, relative parts and symbolic links; it need not exist."""
    if "\0" in path:  # no path: whoever opens it says so
        return path
    return os.path.realpath(os.path.expanduser(path))
