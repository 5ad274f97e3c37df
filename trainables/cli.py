"""What all commands share: bad input ends in a line or two and exit code 2, a signal in a line and exit code 130.

A search whose output nobody reads any more (`| head`) ends silently, with exit code 141, as other tools do.
"""

from __future__ import annotations

import atexit
import functools
import gc
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import Annotated, ParamSpec, TextIO

import typer

from trainables.check import INDENT, Check, line_of
from trainables.config import ConfigError

__all__ = ["Plugins", "as_command", "echo_checks", "leave_terminal", "lose_reader", "run_verb", "stop_signals"]

P = ParamSpec("P")

_COLORS = {"ok": "green", "warning": "yellow", "problem": "red", "unknown": None}

# An option of every verb that reads a config; the verb hands it to `allow_plugins`.
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", metavar="PACKAGE", help="let configs name code of this package; repeatable"),
]


def stop_signals() -> list[signal.Signals]:
    """What ends a program: Ctrl-C; scancel, systemd or `timeout`; a terminal that is closed, unless nohup was used."""
    hang_up = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGINT, signal.SIGTERM, *hang_up]


_reader_left = threading.Event()


def lose_reader() -> None:
    """Where nobody reads standard output any more: write no more to it, and interrupt as Ctrl-C does."""
    _reader_left.set()
    _silence(sys.stdout)
    signal.raise_signal(signal.SIGINT)


def _silence(stream: TextIO) -> None:
    """Let what is written to a stream from now on go nowhere, also when Python ends and flushes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def leave_terminal() -> None:
    """Write no more to a terminal that was closed, where every line would be an error."""
    for stream in (sys.stdout, sys.stderr):
        if stream.isatty():
            _silence(stream)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGHUP:
        leave_terminal()
    raise KeyboardInterrupt


def hurry_collector() -> None:
    """Let Python look for garbage less often, and not when the process ends.

    What Ray, torch and MLflow create while they are loaded stays to the end; looking through it takes a quarter of the
    time to load them, and two seconds at the end of a search.
    """
    gc.set_threshold(10_000)
    atexit.register(gc.freeze)


def as_command(verb: Callable[P, None]) -> Callable[P, None]:
    """`verb` for Typer: no traceback and exit code 2 for a `ConfigError`, 130 for a signal, 141 without a reader.

    Args:
        verb: its parameters are the command's options.
    """

    @functools.wraps(verb)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        hurry_collector()
        for number in stop_signals():
            signal.signal(number, _interrupt)
        try:
            verb(*args, **kwargs)
        except (KeyboardInterrupt, SystemExit) as end:
            if _reader_left.is_set():
                raise SystemExit(128 + signal.SIGPIPE) from None
            if isinstance(end, SystemExit):
                raise
            typer.echo("interrupted", err=True)
            raise typer.Exit(130) from None
        except ConfigError as error:
            for problem in error.problems:
                typer.echo(f"error: {problem}", err=True)
            raise typer.Exit(2) from None

    return guarded


def run_verb(verb: Callable[P, None], arguments: Sequence[str] | None = None) -> None:
    """Run `verb` as a program of its own, `python -m search.VERB`.

    Args:
        verb: as `as_command` takes it.
        arguments: None: those of the process.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(as_command(verb))
    app(args=arguments)


def echo_checks(checks: Iterable[Check]) -> None:
    """Print each check: its status, its evidence, and what to do next, which is never wrapped."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for check in checks:
        status = typer.style(f"{check.status:<{INDENT}}", fg=_COLORS[check.status], bold=check.status == "problem")
        typer.echo(f"{status}{line_of(check, width)}")
        if check.next_step is not None:
            typer.echo(f"{'':<{INDENT}}next: {check.next_step}")
