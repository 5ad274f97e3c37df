"""Lines for the terminal that must arrive as they are: paths, commands and errors, to be copied and searched."""

from __future__ import annotations

from rich.console import Console

__all__ = ["say"]


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print text without wrapping it, and without taking anything in it for markup, numbers or emoji."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True, emoji=False)
