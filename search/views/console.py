"""Lines for the terminal that must arrive as they are: paths, commands and errors, to be copied and searched."""

from __future__ import annotations

from rich.console import Console

from trainables.cli import lose_reader

__all__ = ["LastingConsole", "say"]


class LastingConsole(Console):
    """A console whose reader may go away (`| head`): that interrupts the search as Ctrl-C does, and it falls silent."""

    def on_broken_pipe(self) -> None:
        lose_reader()


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print text without wrapping it, and without taking anything in it for markup, numbers or emoji."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True, emoji=False)
