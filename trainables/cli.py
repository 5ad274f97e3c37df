"""What all commands share: bad input is reported in a line or two and ends with exit code 2."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

import typer

from trainables.config import ConfigError

__all__ = ["run_verb"]

P = ParamSpec("P")


def run_verb(verb: Callable[P, None]) -> None:
    """Run `verb` as a Typer command; a `ConfigError` is printed without a traceback and exits with code 2."""

    @functools.wraps(verb)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            verb(*args, **kwargs)
        except ConfigError as error:
            for problem in error.problems:
                typer.echo(f"error: {problem}", err=True)
            raise typer.Exit(2) from None

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(guarded)
    app()
