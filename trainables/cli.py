"""What all commands share: bad input is reported in a line or two and ends with exit code 2."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Annotated, ParamSpec

import typer

from trainables.config import ConfigError

__all__ = ["Plugins", "run_verb"]

P = ParamSpec("P")

# An option of every verb that reads a config; the verb hands it to `allow_plugins`.
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", metavar="PACKAGE", help="let configs name code of this package; may be given repeatedly"),
]


def run_verb(verb: Callable[P, None], name: str | None = None, arguments: Sequence[str] | None = None) -> None:
    """Run `verb` as a Typer command; a `ConfigError` is printed without a traceback and exits with code 2.

    Args:
        verb: its parameters are the command's options.
        name: how the command is typed, for its help; None: as it was started.
        arguments: None: those of the process.
    """

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
    app(args=arguments, prog_name=name)
